"""The facts and forms of the registry, without any input or output."""

__all__ = ()
