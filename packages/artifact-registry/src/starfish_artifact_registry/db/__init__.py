"""The tables, their seeds, and connections to them."""

__all__ = ()
