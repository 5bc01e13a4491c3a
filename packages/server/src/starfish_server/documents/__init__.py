"""What a pull, a push and an append do to a store; nothing here knows HTTP."""

__all__ = ()
