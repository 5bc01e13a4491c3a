"""Author signatures: who wrote an appended element or a document, and that nobody changed it."""

from __future__ import annotations

import re
from typing import Any, TypedDict

from starfish_protocol._signed_text import sign_text, signed_text, verify_text
from starfish_protocol.suites import ed25519

__all__ = (
    "APPEND_AUTHOR_DOMAIN",
    "DOC_AUTHOR_DOMAIN",
    "AppendAuthor",
    "append_author_canonical_input",
    "doc_author_canonical_input",
    "sign_append_author",
    "sign_doc_author",
    "verify_append_author",
    "verify_doc_author",
)

APPEND_AUTHOR_DOMAIN = "starfish-append-author-v1\n"
"""First line of the text that the author of an appended element signs."""
DOC_AUTHOR_DOMAIN = "starfish-doc-author-v1\n"
"""First line of the text that the author of a whole document signs."""

_KEY = re.compile("[0-9a-f]{64}")


class AppendAuthor(TypedDict):
    """The two fields that travel beside signed data."""

    authorPubkey: str
    """Ed25519 public key, 64 lowercase hex digits."""
    authorSignature: str
    """Ed25519 signature, base64 with padding."""


def append_author_canonical_input(document_key: str, data: Any) -> str:
    r"""Give the text that the author of an appended element signs, as UTF-8.

    Args:
        document_key: the push path without ``/push/``.
        data: the element.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: it is nested too deep.

    Examples:
        >>> append_author_canonical_input("log/ada", {"n": 1.0})
        'starfish-append-author-v1\n{"d":{"n":1},"k":"log/ada"}'
    """
    return signed_text(APPEND_AUTHOR_DOMAIN, _place(document_key, data))


def doc_author_canonical_input(document_key: str, data: Any) -> str:
    r"""Give the text that the author of a document signs, as UTF-8.

    Args:
        document_key: the push path without ``/push/``.
        data: the document.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: it is nested too deep.

    Examples:
        >>> doc_author_canonical_input("notes/ada", {})
        'starfish-doc-author-v1\n{"d":{},"k":"notes/ada"}'
    """
    return signed_text(DOC_AUTHOR_DOMAIN, _place(document_key, data))


def sign_append_author(
    document_key: str, data: Any, author_pub_hex: str, author_priv_hex: str
) -> AppendAuthor:
    """Sign an element for an append-only collection.

    Args:
        document_key: the push path without ``/push/``.
        data: the element.
        author_pub_hex: the author's public key, 64 lowercase hex digits.
        author_priv_hex: the private key (RFC 8032 seed), 64 lowercase hex digits.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: a key is malformed, the keys are not a pair, or the data is nested too deep.
    """
    return _sign(APPEND_AUTHOR_DOMAIN, document_key, data, author_pub_hex, author_priv_hex)


def sign_doc_author(
    document_key: str, data: Any, author_pub_hex: str, author_priv_hex: str
) -> AppendAuthor:
    """Sign a whole document.

    Args:
        document_key: the push path without ``/push/``.
        data: the document.
        author_pub_hex: the author's public key, 64 lowercase hex digits.
        author_priv_hex: the private key (RFC 8032 seed), 64 lowercase hex digits.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: a key is malformed, the keys are not a pair, or the data is nested too deep.

    Examples:
        >>> author = sign_doc_author(
        ...     "notes/ada",
        ...     {"title": "Starfish"},
        ...     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ...     "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        ... )
        >>> verify_doc_author("notes/ada", {"title": "Starfish"}, *author.values())
        True
    """
    return _sign(DOC_AUTHOR_DOMAIN, document_key, data, author_pub_hex, author_priv_hex)


def verify_append_author(
    document_key: str, data: Any, author_pub_hex: str, author_signature: str
) -> bool:
    """Tell whether the holder of a key signed this element for this place.

    ``False`` for anything malformed too; never an exception.
    """
    return _verify(APPEND_AUTHOR_DOMAIN, document_key, data, author_pub_hex, author_signature)


def verify_doc_author(
    document_key: str, data: Any, author_pub_hex: str, author_signature: str
) -> bool:
    """Tell whether the holder of a key signed this document for this place.

    ``False`` for anything malformed too; never an exception.
    """
    return _verify(DOC_AUTHOR_DOMAIN, document_key, data, author_pub_hex, author_signature)


def _place(document_key: str, data: Any) -> dict[str, Any]:
    if type(document_key) is not str:
        raise TypeError(f"a document key is a str, not {type(document_key).__qualname__}")
    return {"k": document_key, "d": data}


def _sign(domain: str, document_key: str, data: Any, pub_hex: str, priv_hex: str) -> AppendAuthor:
    for key, name in ((priv_hex, "private key"), (pub_hex, "public key")):
        if type(key) is not str or _KEY.fullmatch(key) is None:
            raise ValueError(f"a {name} must be 64 lowercase hex digits")  # and never shown
    if ed25519.public_key(priv_hex) != pub_hex:
        raise ValueError("the public key does not belong to the private key")
    signature = sign_text(domain, _place(document_key, data), priv_hex)
    return {"authorPubkey": pub_hex, "authorSignature": signature}


def _verify(domain: str, document_key: str, data: Any, pub_hex: str, signature: str) -> bool:
    return type(document_key) is str and verify_text(
        domain, _place(document_key, data), pub_hex, signature
    )
