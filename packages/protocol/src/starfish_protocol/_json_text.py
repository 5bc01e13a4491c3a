"""JavaScript's text for numbers and strings.

Source: ECMA-262, ``Number::toString`` and ``QuoteJSONString``; RFC 8785 section 3.2 builds on both.
"""

from __future__ import annotations

import json
import re

__all__ = (
    "exact_number_text",
    "has_lone_surrogate",
    "integer_text",
    "join_surrogates",
    "number_text",
    "string_text",
    "utf16_order",
)

_LARGEST_EXACT_INTEGER = 2**53
_SURROGATE = re.compile("[\ud800-\udfff]")
_quote = json.JSONEncoder(ensure_ascii=False).encode


def number_text(value: float) -> str:
    """Write a double as JavaScript does; ``null`` where JSON has no number.

    Examples:
        >>> [number_text(x) for x in (1.0, -0.0, 1e-6, 1e-7, 1e20, 1e21, float("nan"))]
        ['1', '0', '0.000001', '1e-7', '100000000000000000000', '1e+21', 'null']
    """
    text = repr(value)  # the same shortest digits as JavaScript, other rules for the point
    if text.endswith(".0"):
        return "0" if value == 0 else text[:-2]
    if text[-1] in "nf":  # nan, inf
        return "null"
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    power = int(exponent)
    if not -7 < power < 21:
        return f"{mantissa}e{power:+d}"
    sign = "-" if value < 0 else ""
    digits = mantissa.lstrip("-").replace(".", "")
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    return sign + digits.ljust(power + 1, "0")


def integer_text(value: int) -> str:
    """Write an integer as the double that JavaScript reads it as.

    Examples:
        >>> integer_text(2**53 + 1), integer_text(10**25), integer_text(10**400)
        ('9007199254740992', '1e+25', 'null')
    """
    if -_LARGEST_EXACT_INTEGER <= value <= _LARGEST_EXACT_INTEGER:
        return str(value)
    try:
        return number_text(float(value))
    except OverflowError:  # JavaScript reads it as Infinity
        return "null"


def exact_number_text(value: float) -> str:
    """Write a number with all digits of the whole doubles from 2**53 to below 1e21.

    The public Python package signs this text; JavaScript, and so `number_text`, writes the shortest
    digits that read back as the same double.

    Examples:
        >>> exact_number_text(1.2345678901234568e20), number_text(1.2345678901234568e20)
        ('123456789012345683968', '123456789012345680000')
    """
    if _LARGEST_EXACT_INTEGER <= abs(value) < 1e21 and value == int(value):
        return str(int(float(value)))
    return integer_text(value) if isinstance(value, int) else number_text(value)


def join_surrogates(text: str) -> str:
    """Join each high surrogate with a low one after it: JavaScript sees one character there."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def has_lone_surrogate(text: str) -> bool:
    """Tell whether a text holds a surrogate without its other half: no Unicode character."""
    return _SURROGATE.search(join_surrogates(text)) is not None


def string_text(text: str) -> str:
    r"""Quote a text; lone surrogates and controls are escaped, everything else is literal.

    Examples:
        >>> print(string_text('"é"\n'), string_text("\ud800"), string_text("\x7f") == '"\x7f"')
        "\"é\"\n" "\ud800" True
    """
    quoted = _quote(join_surrogates(text))
    if _SURROGATE.search(quoted) is None:
        return quoted
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def utf16_order(key: str) -> bytes:
    """Sort key that orders texts by their UTF-16 code units."""
    return key.encode("utf-16-be", "surrogatepass")
