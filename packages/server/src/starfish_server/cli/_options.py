"""Values of options, read from text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

from starfish_protocol.clock import SystemClock

__all__ = ("age_ms", "expiry")

_AGE = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def age_ms(text: str) -> int:
    """A span of time, in milliseconds."""
    age = _AGE.fullmatch(text)
    if age is None:
        raise typer.BadParameter(f"{text!r} is not an age; it must be such as '30d' or '12h'")
    return int(age[1]) * _SECONDS[age[2]] * 1000


def expiry(text: str) -> int:
    """A moment, in milliseconds since the epoch."""
    if _AGE.fullmatch(text) is not None:
        return SystemClock().now_ms() + age_ms(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time; it must be '30d', '12h' or an ISO 8601 time"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
