"""Columns that SQLite and PostgreSQL store differently and give back alike."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Dialect, String, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_protocol.hash import stable_stringify

__all__ = ("CanonicalJson", "UtcMilliseconds", "moment_text")


def moment_text(moment: datetime) -> str:
    """The text that SQLite holds: RFC 3339 in UTC, of one length, so that texts sort as times do.

    Examples:
        >>> moment_text(datetime(2026, 1, 2, tzinfo=UTC))
        '2026-01-02T00:00:00.000+00:00'
    """
    return from_ms(to_ms(moment)).isoformat(timespec="milliseconds")


class UtcMilliseconds(TypeDecorator[datetime]):
    """An aware UTC ``datetime`` to the millisecond; finer parts are cut off, a naive one refused."""

    impl = String(29)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has a type for it; elsewhere it is `moment_text`."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True, precision=3))
        return dialect.type_descriptor(String(29))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """The value that the driver takes."""
        if value is None:
            return None
        return from_ms(to_ms(value)) if dialect.name == "postgresql" else moment_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The moment that was stored, in UTC."""
        if value is None:
            return None
        moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


class CanonicalJson(TypeDecorator[Any]):
    """A JSON value as its canonical text (RFC 8785): no database's own JSON type keeps every number."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text."""
        return None if value is None else stable_stringify(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value of the text."""
        return None if value is None else json.loads(value)
