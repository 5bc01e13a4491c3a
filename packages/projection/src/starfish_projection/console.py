"""The lists of a projection in the console of a service: how far they are, and which writes are parked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starfish_http.components import (
    Component,
    Facts,
    MaySee,
    Page,
    PageRequest,
    Section,
    Table,
    check_sight,
)
from starfish_projection._plugin import ProjectionPlugin

__all__ = ("console_component",)

_MOST_PARKED = 200


def console_component(plugin: ProjectionPlugin, *, may_see: MaySee) -> Component:
    """A page about the lists that a plugin keeps.

    Args:
        plugin: as `create_projection_server_plugin` made it.
        may_see: who may look; the page names keys of documents.
    """

    async def show(request: PageRequest) -> Sequence[Section]:
        check_sight(request, may_see)
        stats = plugin.stats()
        lists = [
            [target, *(str(value) for value in asdict(each).values())]
            for target, each in stats.lists.items()
        ]
        columns = list(asdict(next(iter(stats.lists.values())))) if stats.lists else []
        parked = await plugin.parked()
        return [
            Facts(
                "Folding",
                [
                    ("this process folds", "yes" if stats.is_folding else "no"),
                    ("lag", f"{stats.lag_changes} changes, {stats.lag_ms} ms"),
                    ("operations", stats.operations),
                    ("lists written", stats.writes),
                    ("dropped", sum(stats.dropped.values())),
                ],
            ),
            Table(
                "Lists",
                ["list", *(name.replace("_", " ") for name in columns)],
                lists,
                empty="No list was written since this process began.",
            ),
            Table(
                "Parked",
                ["collection", "document", "why"],
                [
                    [
                        each.collection,
                        each.key,
                        "; ".join(f"{f.target or 'no list'}: {f.detail}" for f in each.failures),
                    ]
                    for each in parked[:_MOST_PARKED]
                ],
                empty="Every write is in its lists.",
            ),
        ]

    async def health() -> Mapping[str, Any]:
        stats = plugin.stats()
        return {"ok": True, "lag": f"{stats.lag_changes} changes", "parked": stats.parked}

    return Component(
        "projection", "Projection", pages=[Page("lists", "Lists", show)], health=health
    )
