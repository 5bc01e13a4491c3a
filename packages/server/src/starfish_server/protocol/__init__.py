"""Pull, push and append as Python calls on a store, under the names of the public protocol."""

from starfish_server.protocol.pull import pull
from starfish_server.protocol.push import push
from starfish_server.protocol.types import PullResult, PushConflict, PushSuccess, StoredDocument

__all__ = ("PullResult", "PushConflict", "PushSuccess", "StoredDocument", "pull", "push")
