"""A body as a JSON object, in steps whose time a client cannot stretch.

Each step is one pass in C over the text.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import Any

import orjson

from starfish_server.documents._json_shapes import is_object
from starfish_server.requests._refusals import RequestRefusedError

__all__ = ("MAX_DEPTH", "parse_json_object")

MAX_DEPTH = 64
"""How deep a body may nest, the object around ``data`` included."""

_NEITHER_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and, as signed bytes, -1
_TEXT = re.compile(rb'"[^"]*+"')


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; of duplicate keys the last wins, as in JavaScript.

    Raises:
        RequestRefusedError: it is not JSON, not an object, or nested too deep.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        too_deep = "depth limit" in error.msg
        raise RequestRefusedError(
            400, "Body nesting too deep" if too_deep else "Invalid JSON body"
        ) from error
    if not is_object(value):
        raise RequestRefusedError(400, "Body must be a JSON object")
    # Fewer brackets than levels allowed: the common case, found without a walk.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise RequestRefusedError(400, "Body nesting too deep")
    return value


def _depth(text: bytes) -> int:
    """How deep a JSON text nests; the text must be valid and have a bracket."""
    if b"\\" in text:  # escaped backslashes first, so that every other one escapes a quote
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = text.translate(None, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _TEXT.sub(b"", brackets)
    return max(accumulate(array("b", brackets.translate(_STEPS))))
