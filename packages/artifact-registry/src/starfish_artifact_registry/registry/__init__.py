"""`Registry`: the object that an application holds. One method for each command and each query."""

from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    IllegalPackageStateError,
    InvalidRelativePathError,
    PackageNotFoundError,
)
from starfish_artifact_registry.registry._custody import CustodyCalls
from starfish_artifact_registry.registry._fixity import FixityCalls
from starfish_artifact_registry.registry._interchange import InterchangeCalls
from starfish_artifact_registry.registry._log import LogCalls
from starfish_artifact_registry.registry._packages import PackageCalls
from starfish_artifact_registry.registry._queries import QueryCalls

__all__ = (
    "DuplicateRelativePathError",
    "IllegalPackageStateError",
    "InvalidRelativePathError",
    "PackageNotFoundError",
    "Registry",
)


class Registry(PackageCalls, QueryCalls, CustodyCalls, FixityCalls, LogCalls, InterchangeCalls):
    """Packages of files as evidence, over one database and one data plane.

    It makes no tables and opens nothing: the engine and the backend belong to the caller, who also
    closes them. Several registries, of several processes too, may share them.

    Args:
        engine: over aiosqlite or asyncpg; see `starfish_artifact_registry.db.engine`.
        dataplane: where the bytes go.
        view_writer: derives the tables from the events, in the transaction of each append.
        clock: gives events their time.
        limits: the caps.
        new_id: makes the ids of packages, files and events.

    Raises:
        ValueError: an engine of another database.
    """
