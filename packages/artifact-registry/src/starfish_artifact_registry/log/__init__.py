"""The append-only log: its end, its chain of digests, and readers that follow it."""

__all__ = ()
