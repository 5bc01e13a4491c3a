"""How `PostgresObjectStore` uses PostgreSQL."""

from __future__ import annotations

__all__: tuple[str, ...] = ()
