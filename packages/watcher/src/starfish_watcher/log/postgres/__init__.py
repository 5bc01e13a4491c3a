"""A log in a PostgreSQL database: extra ``postgres``."""

from starfish_watcher.log.postgres._log import PostgresEventLog

__all__ = ("PostgresEventLog",)
