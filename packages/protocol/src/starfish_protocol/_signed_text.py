"""The bytes that signatures are made over, and their base64.

The signed text is a domain line, so that a signature for one purpose is none for another, and the
canonical JSON of a value.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from starfish_protocol._stringify import write_with_exact_integers
from starfish_protocol.hash import stable_stringify
from starfish_protocol.suites import ed25519

__all__ = ("decode_signature", "sign_text", "signed_text", "verify_text")

_LONG_NUMBER = re.compile("[0-9]{16}")


def signed_text(domain: str, value: object) -> str:
    """Give the text that is signed, as UTF-8.

    Raises:
        TypeError: the value has no canonical JSON.
        ValueError: it is nested too deep.
    """
    return domain + stable_stringify(value)


def sign_text(domain: str, value: object, priv_hex: str) -> str:
    """Sign a value; the signature as base64 with padding.

    Raises:
        TypeError: the value has no canonical JSON.
        ValueError: it is nested too deep, or the key is malformed.
    """
    signature = ed25519.sign(signed_text(domain, value).encode(), priv_hex)
    return base64.b64encode(signature).decode()


def verify_text(domain: str, value: object, pub_hex: str, signature: object) -> bool:
    """Tell whether the holder of a key signed this value; never an exception."""
    raw = decode_signature(signature)
    if raw is None:
        return False
    try:
        return any(ed25519.verify(raw, text.encode(), pub_hex) for text in _texts(domain, value))
    except (TypeError, ValueError):
        return False


def decode_signature(signature: object) -> bytes | None:
    """Read the one base64 form of 64 bytes; ``None`` for anything else."""
    if type(signature) is not str:
        return None
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return None
    is_canonical = base64.b64encode(raw).decode() == signature  # no unused bits
    return raw if len(raw) == 64 and is_canonical else None


def _texts(domain: str, value: object) -> Iterator[str]:
    text = signed_text(domain, value)
    yield text
    if _LONG_NUMBER.search(text) is not None:  # the public Python package writes such another way
        other = domain + write_with_exact_integers(value)
        if other != text:
            yield other
