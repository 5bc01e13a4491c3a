"""The logs behind event stores: the seam `starfish_watcher.log.base` and the engines."""

__all__ = ()
