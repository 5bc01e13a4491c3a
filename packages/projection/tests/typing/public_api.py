"""How the public surface looks to a type checker; read, never run."""

from collections.abc import Mapping
from typing import assert_type

from starfish_projection import (
    DropReason,
    Projection,
    ProjectionOp,
    ProjectionPlugin,
    ProjectionRemove,
    ProjectionSet,
    ProjectionSetup,
    ProjectionStats,
    RebuildProgress,
    RebuildReport,
    create_projection_server_plugin,
    rebuild_projection,
)
from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.base import AbstractObjectStore


def title(event: WriteEvent) -> ProjectionOp:
    if event.body is None:
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"title": event.body["title"]})


async def title_later(event: WriteEvent) -> ProjectionOp:
    return title(event)


async def on_drop(event: WriteEvent, op: ProjectionOp, reason: DropReason) -> None: ...


def on_progress(progress: RebuildProgress) -> None:
    assert_type(progress.done, int)


async def use(store: AbstractObjectStore, config: SyncConfig) -> None:
    views = [
        Projection("notes", "titles", title),
        Projection(("notes", "tasks"), lambda event: event.namespace, title_later),
    ]
    plugin = create_projection_server_plugin(
        store=store, projections=views, max_retries=3, max_items=None, on_drop=on_drop
    )
    assert_type(plugin, ProjectionPlugin)
    as_contract: ServerPlugin = plugin
    assert_type(as_contract.name, str)
    assert_type(plugin.stats(), ProjectionStats)
    assert_type(plugin.stats().dropped, Mapping[DropReason, int])

    report = await rebuild_projection(
        store=store, config=config, projections=views, on_progress=on_progress
    )
    assert_type(report, RebuildReport)
    assert_type(report.complete, bool)
    assert_type(report.incomplete, tuple[str, ...])
    ProjectionSetup(store=store, config=config, projections=views)
