"""What a pull and a push do to a store; nothing here knows HTTP."""

from starfish_server.protocol.pull import pull
from starfish_server.protocol.push import push
from starfish_server.protocol.types import PullResult, PushConflict, PushSuccess, StoredDocument

__all__ = ("PullResult", "PushConflict", "PushSuccess", "StoredDocument", "pull", "push")
