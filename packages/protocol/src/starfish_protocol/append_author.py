"""Author signatures: who wrote an appended element or a document, and that nobody changed it.

Needs the extra ``signing``. What is signed is a domain line, so that a signature for one purpose is
none for the other, and the canonical JSON of the place and the data.
"""

from __future__ import annotations

import base64
import re
from typing import Any, TypedDict

from starfish_protocol.hash import stable_stringify

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
except ImportError as error:
    raise ImportError(
        "starfish_protocol.append_author needs the extra signing: "
        'pip install "starfish-protocol[signing]"'
    ) from error

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
"""First line of what the author of an appended element signs."""
DOC_AUTHOR_DOMAIN = "starfish-doc-author-v1\n"
"""First line of what the author of a whole document signs."""

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
    return _canonical_input(APPEND_AUTHOR_DOMAIN, document_key, data)


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
    return _canonical_input(DOC_AUTHOR_DOMAIN, document_key, data)


def sign_append_author(document_key: str, data: Any, pub_hex: str, priv_hex: str) -> AppendAuthor:
    """Sign an element for an append-only collection.

    Args:
        document_key: the push path without ``/push/``.
        data: the element.
        pub_hex: the author's public key, 64 lowercase hex digits.
        priv_hex: the private key (RFC 8032 seed), 64 lowercase hex digits.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: a key is malformed, the keys are no pair, or the data is nested too deep.
    """
    return _sign(append_author_canonical_input(document_key, data), pub_hex, priv_hex)


def sign_doc_author(document_key: str, data: Any, pub_hex: str, priv_hex: str) -> AppendAuthor:
    """Sign a whole document.

    Args:
        document_key: the push path without ``/push/``.
        data: the document.
        pub_hex: the author's public key, 64 lowercase hex digits.
        priv_hex: the private key (RFC 8032 seed), 64 lowercase hex digits.

    Raises:
        TypeError: the data has no canonical JSON.
        ValueError: a key is malformed, the keys are no pair, or the data is nested too deep.

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
    return _sign(doc_author_canonical_input(document_key, data), pub_hex, priv_hex)


def verify_append_author(document_key: str, data: Any, pub_hex: str, signature: str) -> bool:
    """Tell whether the holder of a key signed this element for this place.

    ``False`` for anything malformed too; never an exception.
    """
    return _verify(APPEND_AUTHOR_DOMAIN, document_key, data, pub_hex, signature)


def verify_doc_author(document_key: str, data: Any, pub_hex: str, signature: str) -> bool:
    """Tell whether the holder of a key signed this document for this place.

    ``False`` for anything malformed too; never an exception.
    """
    return _verify(DOC_AUTHOR_DOMAIN, document_key, data, pub_hex, signature)


def _canonical_input(domain: str, document_key: str, data: Any) -> str:
    if type(document_key) is not str:
        raise TypeError(f"a document key is a str, not {type(document_key).__qualname__}")
    return domain + stable_stringify({"k": document_key, "d": data})


def _sign(text: str, pub_hex: str, priv_hex: str) -> AppendAuthor:
    private_key = Ed25519PrivateKey.from_private_bytes(_key_bytes(priv_hex, "private key"))
    if private_key.public_key().public_bytes_raw() != _key_bytes(pub_hex, "public key"):
        raise ValueError("the public key does not belong to the private key")
    signature = base64.b64encode(private_key.sign(text.encode())).decode()
    return {"authorPubkey": pub_hex, "authorSignature": signature}


def _verify(domain: str, document_key: str, data: Any, pub_hex: str, signature: str) -> bool:
    try:
        public_key = Ed25519PublicKey.from_public_bytes(_key_bytes(pub_hex, "public key"))
        signed = _canonical_input(domain, document_key, data).encode()
        public_key.verify(_signature_bytes(signature), signed)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _key_bytes(key: str, what: str) -> bytes:
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"a {what} is 64 lowercase hex digits")  # and never shown
    return bytes.fromhex(key)


def _signature_bytes(signature: str) -> bytes:
    raw = base64.b64decode(signature)
    if base64.b64encode(raw).decode() != signature:  # foreign characters, unused bits, not a str
        raise ValueError("a signature is base64 in its one canonical form")
    return raw
