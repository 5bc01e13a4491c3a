"""One rule for values, the same in every store.

A value is bytes with a content type; a text is its UTF-8. So either kind can be read as the other,
as on any object storage, and a key has one value whichever call wrote it.
"""

from __future__ import annotations

from starfish_server.errors import StoreError

__all__ = ("TEXT_CONTENT_TYPE", "as_bytes", "as_text", "check_limit", "check_text")

TEXT_CONTENT_TYPE = "application/json"
"""Content type of a text that was stored without one: documents are JSON."""


def check_text(key: str, body: str) -> str:
    """Return the text if it has a UTF-8 form.

    Raises:
        ValueError: it holds a lone surrogate; the message names the key.
    """
    if not body.isascii():
        try:
            body.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text for key {key!r} has a lone surrogate at character {error.start}; "
                "a text must have a UTF-8 form"
            ) from error
    return body


def as_text(key: str, value: str | bytes) -> str:
    """A stored value as text.

    Raises:
        StoreError: it is bytes that are no UTF-8.
    """
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise StoreError(
            f"value of key {key!r} is bytes that are no UTF-8 text; read it with get_bytes"
        ) from error


def as_bytes(value: str | bytes) -> bytes:
    """A stored value as bytes."""
    return value.encode() if isinstance(value, str) else value


def check_limit(limit: int | None) -> int | None:
    """Return the limit of a listing if it is one.

    Raises:
        ValueError: it is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it is None or at least 0")
    return limit
