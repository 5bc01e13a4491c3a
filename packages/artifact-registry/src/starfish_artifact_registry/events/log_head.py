"""Telling readers that the log has grown: in this process, and from others."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("notify",)

_NOTIFY: Final = text(
    "SELECT pg_notify('starfish_registry_' || 'events'::regclass::oid::text, :sequence)"
)


async def notify(connection: AsyncConnection, sequence: int) -> None:
    """Have PostgreSQL tell the listeners of all processes, once the commit is visible."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NOTIFY, {"sequence": str(sequence)})
