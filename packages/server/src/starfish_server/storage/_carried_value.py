"""What a call of the first contract has no argument for."""

from __future__ import annotations

from contextvars import ContextVar

from starfish_server.storage.values import Value

__all__ = ("carried_value",)

carried_value: ContextVar[Value | None] = ContextVar("carried_value", default=None)
"""The value behind a call of the first contract: what that call has no argument for, the number
of the write above all, reaches the store through code in between that does not know of it."""
