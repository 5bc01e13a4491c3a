"""How `ObjectStoreAdapter` uses an object storage."""

from __future__ import annotations

__all__: tuple[str, ...] = ()
