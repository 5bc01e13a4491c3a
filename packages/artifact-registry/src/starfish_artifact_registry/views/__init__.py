"""The tables that follow from the log: how they are written, made again and read."""

__all__ = ()
