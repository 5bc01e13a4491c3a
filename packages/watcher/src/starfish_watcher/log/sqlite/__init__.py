"""A log in one SQLite file: the embedded default."""

from starfish_watcher.log.sqlite._log import SqliteEventLog

__all__ = ("SqliteEventLog",)
