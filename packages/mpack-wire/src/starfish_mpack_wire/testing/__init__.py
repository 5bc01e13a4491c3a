"""Kits for tests of this package and of its users; the strategies need the extra ``testing``."""

__all__ = ()
