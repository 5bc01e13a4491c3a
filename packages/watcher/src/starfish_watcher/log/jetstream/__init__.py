"""A log in a NATS JetStream stream: extra ``nats``, server 2.12 or later."""

from starfish_watcher.log.jetstream._log import JetStreamEventLog, ServerSync

__all__ = ("JetStreamEventLog", "ServerSync")
