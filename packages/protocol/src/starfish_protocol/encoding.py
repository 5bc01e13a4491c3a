"""base64url (RFC 4648 section 5) and the fragments of links that carry a token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from starfish_protocol._json_types import is_list, is_list_of_texts

__all__ = ("decode_link_fragment", "encode_link_fragment", "from_base64url", "to_base64url")

_T = TypeVar("_T")

_TEXT = re.compile(r"[A-Za-z0-9_-]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def to_base64url(json_str: str) -> str:
    """Encode a text as base64url of its UTF-8, without padding.

    Raises:
        ValueError: the text holds a lone surrogate.

    Examples:
        >>> to_base64url('{"a":1}')
        'eyJhIjoxfQ'
    """
    return base64.urlsafe_b64encode(json_str.encode()).decode().rstrip("=")


def from_base64url(b64url: str) -> str:
    """Decode a text; the alphabet of base64 is taken too, and padding may be there.

    Raises:
        ValueError: a character is outside both alphabets, the length is impossible, or the bytes
            are not UTF-8.

    Examples:
        >>> from_base64url("eyJhIjoxfQ")
        '{"a":1}'
    """
    text = b64url.replace("+", "-").replace("/", "_")
    if text.endswith("="):
        text = text[:-2] + text[-2:].replace("=", "")
    if _TEXT.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError(f"{b64url!r:.80} is not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def encode_link_fragment(origin: str, path: str, token: Any) -> str:
    """Make a link that carries a token in its fragment, which browsers send to nobody.

    Args:
        origin: scheme, host and port.
        path: of the page that takes the token.
        token: a JSON value.

    Raises:
        TypeError: the token has no JSON form.
        ValueError: the token has no JSON form.

    Examples:
        >>> encode_link_fragment("https://app.example", "/join", {"id": "s1"})
        'https://app.example/join#WyJodHRwczovL2FwcC5leGFtcGxlIiwiL2pvaW4iLHsiaWQiOiJzMSJ9XQ'
    """
    text = json.dumps(
        [origin, path, token], ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    payload = _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f"{origin.rstrip('/')}/{path.lstrip('/')}#{to_base64url(payload)}"


def decode_link_fragment(
    fragment: str, validate: Callable[[Any], _T | None], err_msg: str = "invalid link fragment"
) -> _T:
    """Read the token of a link.

    Args:
        fragment: the whole link, or the part after ``#``.
        validate: gives the token as its own type; ``None`` or an exception refuses it.
        err_msg: text of the error.

    Raises:
        ValueError: with ``err_msg``, for anything wrong.

    Examples:
        >>> link = encode_link_fragment("https://app.example", "/join", {"id": "s1"})
        >>> decode_link_fragment(link, lambda token: token.get("id"))
        's1'
    """
    try:
        payload: Any = json.loads(from_base64url(fragment.rpartition("#")[2]))
        found = validate(_token(payload))
    except Exception as error:
        raise ValueError(err_msg) from error
    if found is None:
        raise ValueError(err_msg)
    return found


def _token(payload: Any) -> Any:
    """Take the third of ``[origin, path, token]``; any other value is the token itself."""
    is_whole = is_list(payload) and len(payload) == 3 and is_list_of_texts(payload[:2])
    return payload[2] if is_whole else payload
