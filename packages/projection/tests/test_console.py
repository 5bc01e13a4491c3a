"""The console's page about the lists of a plugin."""

from __future__ import annotations

import pytest

from starfish_http.callers import Caller
from starfish_http.components import Facts, PageRequest, Table, everybody, has_role
from starfish_http.errors import RequestRefusedError
from starfish_projection import Projection, ProjectionSet, create_projection_server_plugin
from starfish_projection.console import console_component
from starfish_protocol.plugins import WriteEvent
from starfish_server import MemoryObjectStore


def title(event: WriteEvent) -> ProjectionSet:
    return ProjectionSet(event.params["note"], {"n": 1})


async def test_a_plugin_without_writes_has_empty_lists() -> None:
    plugin = create_projection_server_plugin(
        store=MemoryObjectStore(), projections=[Projection("notes", "titles", title)]
    )
    component = console_component(plugin, may_see=everybody)
    folding, lists, parked = await component.pages[0].show(PageRequest(Caller(), {}))

    assert isinstance(folding, Facts)
    assert dict(folding.rows)["operations"] == 0
    assert isinstance(lists, Table)
    assert (lists.rows, parked) == (
        [],
        Table(
            "Parked", ["collection", "document", "why"], [], empty="Every write is in its lists."
        ),
    )
    assert (await component.health())["ok"] is True


async def test_others_are_refused() -> None:
    plugin = create_projection_server_plugin(
        store=MemoryObjectStore(), projections=[Projection("notes", "titles", title)]
    )
    with pytest.raises(RequestRefusedError):
        await (
            console_component(plugin, may_see=has_role("operator"))
            .pages[0]
            .show(PageRequest(Caller(), {}))
        )
