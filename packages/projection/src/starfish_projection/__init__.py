"""Server plugin that folds each write into a list document, so that a list view is one GET."""

from starfish_projection._definition import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    ProjectionTarget,
)
from starfish_projection._drops import DropReason, OnDrop, ProjectionStats
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

__all__ = (
    "PLUGIN_NAME",
    "DropReason",
    "ListStore",
    "OnDrop",
    "OnProgress",
    "Projection",
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
    "create_projection_server_plugin",
    "rebuild_projection",
)
