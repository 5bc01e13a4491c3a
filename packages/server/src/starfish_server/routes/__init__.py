"""One module for each kind of call: what it takes, what it does to the store, what it answers."""

__all__ = ()
