"""Moments: milliseconds since the epoch on the wire, aware UTC ``datetime`` in Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ("from_ms", "to_ms")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The moment that many milliseconds after the epoch.

    Raises:
        ValueError: it is outside the years 1 to 9999.

    Examples:
        >>> from_ms(1_700_000_000_123).isoformat()
        '2023-11-14T22:13:20.123000+00:00'
    """
    try:
        return _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        raise ValueError(
            f"{milliseconds} ms after the epoch is outside the years 1 to 9999"
        ) from None


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch; finer parts are cut off.

    Raises:
        ValueError: the moment has no time zone.

    Examples:
        >>> to_ms(from_ms(1_700_000_000_123))
        1700000000123
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return (moment - _EPOCH) // _MILLISECOND
