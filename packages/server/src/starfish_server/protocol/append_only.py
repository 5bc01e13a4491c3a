"""Append to a document in a store, and read a part of it."""

from starfish_server.documents._append_log import AppendLog, AppendPage, PullBounds

__all__ = ("AppendLog", "AppendPage", "PullBounds")
