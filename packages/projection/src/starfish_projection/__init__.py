"""Server plugin that folds each write into a list document, so that a list view is one GET."""

from starfish_projection._definition import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    ProjectionTarget,
)
from starfish_projection._drops import DropReason, ListStats, OnDrop, ProjectionStats
from starfish_projection._parking import Failure, ParkedWrite
from starfish_projection._plugin import (
    PLUGIN_NAME,
    ProjectionPlugin,
    create_projection_server_plugin,
)
from starfish_projection._rebuild import (
    OnProgress,
    RebuildProgress,
    RebuildReport,
    rebuild_projection,
)
from starfish_projection._setup import ProjectionSetup
from starfish_projection._sources import RebuildConfig
from starfish_projection._store import ListStore
from starfish_projection.errors import (
    ProjectionError,
    SetupError,
    SeveralProcessesError,
    TargetNotAListError,
    UnknownSourceError,
)

__version__ = "4.0.0"

__all__ = (
    "PLUGIN_NAME",
    "DropReason",
    "Failure",
    "ListStats",
    "ListStore",
    "OnDrop",
    "OnProgress",
    "ParkedWrite",
    "Projection",
    "ProjectionError",
    "ProjectionOp",
    "ProjectionPlugin",
    "ProjectionRemove",
    "ProjectionSet",
    "ProjectionSetup",
    "ProjectionStats",
    "ProjectionTarget",
    "RebuildConfig",
    "RebuildProgress",
    "RebuildReport",
    "SetupError",
    "SeveralProcessesError",
    "TargetNotAListError",
    "UnknownSourceError",
    "__version__",
    "create_projection_server_plugin",
    "rebuild_projection",
)
