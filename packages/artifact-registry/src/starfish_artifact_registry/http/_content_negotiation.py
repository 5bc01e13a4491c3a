"""``Accept`` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ("best_media_type",)

_WEIGHT = re.compile(
    r"[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE
)


def best_media_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """What to send of the media types on offer, ``None`` when the client takes none of them.

    The most specific entry decides about a type, the greatest weight between types, and the order
    of the offer between equals.

    Examples:
        >>> best_media_type("application/json;q=0.5, application/cbor", ["application/json", "application/cbor"])
        'application/cbor'
        >>> best_media_type("*/*", ["application/json", "application/cbor"])
        'application/json'
        >>> best_media_type("text/html", ["application/json"]) is None
        True
    """
    if accept is None or not accept.strip():
        return offered[0]
    entries = [_entry(text) for text in accept.split(",") if text.strip()]
    weights = {media_type: _weight(media_type, entries) for media_type in offered}
    best = max(offered, key=lambda media_type: weights[media_type])
    return best if weights[best] > 0 else None


def _entry(text: str) -> tuple[str, float]:
    media_range, *parameters = text.split(";")
    weight = 1.0
    for parameter in parameters:
        found = _WEIGHT.fullmatch(parameter)
        if found is not None:
            weight = float(found[1])
    return media_range.strip().lower(), weight


def _weight(media_type: str, entries: Sequence[tuple[str, float]]) -> float:
    wildcard = f"{media_type.partition('/')[0]}/*"
    for candidate in (media_type, wildcard, "*/*"):
        found = [weight for media_range, weight in entries if media_range == candidate]
        if found:
            return max(found)
    return 0.0
