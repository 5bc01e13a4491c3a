"""Document sync over HTTP: pull, push, list and batch with optimistic concurrency, over pluggable stores."""

from starfish_server.auth._result import AuthResult
from starfish_server.config.schema import (
    AppendOnlyConfig,
    CollectionConfig,
    ConfigEndpointOptions,
    FieldPermission,
    NamespaceConfig,
    RateLimitConfig,
    SyncConfig,
)
from starfish_server.documents._pull import pull
from starfish_server.documents._push import push
from starfish_server.documents._types import PullResult, PushConflict, PushSuccess, StoredDocument
from starfish_server.errors import (
    ConfigError,
    InvalidKeyError,
    ServerError,
    StoreError,
    StoreUnavailableError,
)
from starfish_server.mounting._sync_router import SyncRouterOptions, create_sync_router
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

__all__ = (
    "AbstractObjectStore",
    "AppendOnlyConfig",
    "AuthResult",
    "CollectionConfig",
    "ConfigEndpointOptions",
    "ConfigError",
    "FieldPermission",
    "FilesystemObjectStore",
    "InvalidKeyError",
    "MemoryObjectStore",
    "NamespaceConfig",
    "PullResult",
    "PushConflict",
    "PushSuccess",
    "RateLimitConfig",
    "ServerError",
    "SqliteObjectStore",
    "StoreContext",
    "StoreError",
    "StoreUnavailableError",
    "StoredDocument",
    "SyncConfig",
    "SyncRouterOptions",
    "__version__",
    "create_sync_router",
    "pull",
    "push",
)

__version__ = "4.0.0"
