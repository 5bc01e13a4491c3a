"""Canonical JSON and the hash of a document.

Equal documents must hash equally in every implementation of the protocol, so the text is that of
JavaScript's ``JSON.stringify`` with the keys of every object sorted by Unicode code point. No fast
encoder writes it. `orjson` comes close: it sorts as the wire does, differs in how it writes some
numbers, and in the values that it accepts. The first is put right here; the second goes to the
slower writer in `_stringify`.
"""

from __future__ import annotations

import hashlib
import marshal
import re
from typing import Any

import orjson

from starfish_protocol._json_text import number_text
from starfish_protocol._stringify import MAX_DEPTH, write_canonical, write_interoperable

__all__ = ("MAX_DEPTH", "canonical_json", "compute_hash", "stable_stringify")

# The shape of a JSON text: a byte that may precede or follow a number becomes a comma, 0 stays,
# other digits and signs become 9.
_SHAPE = bytes.maketrans(b":[]},0123456789+-", b",,,,,099999999999")
# Whole numbers written as floats, exponents, and integers that a double may not hold.
_SUSPECT_NUMBER = re.compile(
    rb",[09]++ (?: \. (?: 0 | [09]++e[09]++ ) | e[09]++ | (?<=[09]{16}) ) (?=,)", re.VERBOSE
)
_STRING = re.compile(rb'("(?:[^"\\]++|\\.)*+")')
_NEGATIVE_ZERO = re.compile(rb"-0\.0(?=[],}])")
_WHOLE = re.compile(rb"\.0(?=[],}])")  # no other number ends so: these are the shortest digits
# Characters from U+E000 on, among them those beyond U+FFFF: only with one of these in a key may
# UTF-16 order differ.
_LATE = re.compile(rb"[\xee-\xf4]")
_LONG_NUMBER = re.compile(rb"\d{16}")


def stable_stringify(value: object) -> str:
    """Give the text that ``JSON.stringify`` gives for the same value with sorted keys.

    Keys are sorted by Unicode code point, numbers are doubles, a tuple is a list; not a number and
    infinity are ``null``, and so is an integer beyond the range of a double.

    Raises:
        TypeError: a value or key has no JSON form; the message names its path. Subclasses are
            refused too: an enumeration or a named tuple means more than its JSON would say.
        ValueError: nesting deeper than `MAX_DEPTH`, or two keys that JavaScript cannot tell apart.

    Examples:
        >>> stable_stringify({"b": [1.0, -0.0, 1e21], "a": "é", "A": (None, True)})
        '{"A":[null,true],"a":"é","b":[1,0,1e+21]}'
        >>> stable_stringify({"when": [b"now"]})
        Traceback (most recent call last):
        ...
        TypeError: $.when[0] is of type bytes; JSON holds None, bool, int, float, str, list, tuple and dict, and no subclass of these
    """
    return _canonical_bytes(value).decode()


def canonical_json(value: object) -> bytes:
    """Give the RFC 8785 text of a value in UTF-8, for everything that is not the document wire.

    Keys are sorted by UTF-16 code units. Nothing is rounded: two values that differ have two texts.

    Raises:
        TypeError: as `stable_stringify`.
        ValueError: as `stable_stringify`; also not a number, infinity, an integer that a double
            does not hold, and a lone surrogate.

    Examples:
        >>> canonical_json({"b": 1.0, "a": [True, None]})
        b'{"a":[true,null],"b":1}'
        >>> canonical_json([float("nan")])
        Traceback (most recent call last):
        ...
        ValueError: $[0] is nan; a number must be finite
    """
    text = _canonical_bytes(value)
    # Each may stand for a value that has another text here, or none.
    if b"null" in text or b"\\u" in text or _LATE.search(text) or _LONG_NUMBER.search(text):
        return write_interoperable(value).encode()
    return text


def compute_hash(data: object) -> str:
    """Hash a document: SHA-256 of its canonical JSON in UTF-8, as 64 lowercase hex digits.

    Raises:
        TypeError: as `stable_stringify`.
        ValueError: as `stable_stringify`.

    Examples:
        >>> compute_hash({"b": 1, "a": 2.0}) == compute_hash({"a": 2, "b": 1.0})
        True
        >>> compute_hash({})
        '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return hashlib.sha256(_canonical_bytes(data)).hexdigest()


def _canonical_bytes(document: Any) -> bytes:
    if type(document) not in {dict, list, tuple}:
        return write_canonical(document).encode()
    try:
        # orjson writes enumerations, dates, UUIDs and more without asking; marshal, the fastest
        # walk over a document there is, refuses everything but exact built-in types.
        marshal.dumps(document)
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):
        return write_canonical(document).encode()
    return _rewrite_numbers(text) if _SUSPECT_NUMBER.search(text.translate(_SHAPE)) else text


def _rewrite_numbers(text: bytes) -> bytes:
    """Write the numbers of a JSON text as JavaScript does; each step is one pass in C."""
    parts = _STRING.split(text)  # the text between strings, and the strings, in turn
    between = b'"'.join(parts[::2])
    between = _WHOLE.sub(b"", _NEGATIVE_ZERO.sub(b"0", between))
    spans = [match.span() for match in _SUSPECT_NUMBER.finditer(between.translate(_SHAPE))]
    if spans:
        numbers = [between[before + 1 : end] for before, end in spans]
        texts = {number: number_text(float(number)).encode() for number in set(numbers)}
        begins = [0, *(end for _, end in spans)]
        ends = [*(before + 1 for before, _ in spans), len(between)]
        others = [between[begin:end] for begin, end in zip(begins, ends, strict=True)]
        pieces = [b""] * (2 * len(spans) + 1)
        pieces[::2] = others
        pieces[1::2] = [texts[number] for number in numbers]
        between = b"".join(pieces)
    parts[::2] = between.split(b'"')
    return b"".join(parts)
