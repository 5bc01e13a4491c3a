"""The console's pages about a store: newest events, and the time line of one entity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from starfish_http.callers import Caller
from starfish_http.components import Facts, Link, PageRequest, Table, everybody, has_role
from starfish_http.errors import RequestRefusedError
from starfish_watcher import Coordinate, EventKind, EventStore
from starfish_watcher.console import console_component

KIND = EventKind.custom(0xF, 1)


@pytest.fixture
def store() -> Iterator[EventStore]:
    with EventStore.memory() as store:
        for number in range(120):
            store.append(Coordinate(f"door:{number % 2}", "eu"), KIND, {"n": number})
        yield store


async def shown(store: EventStore, page: str, query: Mapping[str, str] | None = None) -> list[Any]:
    found = console_component(store, may_see=everybody).page(page)
    assert found is not None
    return list(await found.show(PageRequest(Caller(), query or {})))


async def test_every_event_is_on_some_page_newest_first(store: EventStore) -> None:
    seen: list[int] = []
    query: Mapping[str, str] | None = {}
    while query is not None:
        (table,) = await shown(store, "newest", query)
        assert isinstance(table, Table)
        seen += [int(str(row[0])) for row in table.rows]
        query = None if table.more is None else table.more.query

    assert seen == list(range(120, 0, -1))


async def test_an_entity_has_its_generations_in_order(store: EventStore) -> None:
    facts, table = await shown(store, "entity", {"entity": "door:1"})
    _facts, rest = await shown(store, "entity", table.more.query)

    assert isinstance(facts, Facts)
    assert facts.rows == [("generation", 60)]
    assert [row[0] for row in [*table.rows, *rest.rows]] == list(range(1, 61))
    assert rest.more is None


async def test_an_event_leads_to_its_entity(store: EventStore) -> None:
    (table,) = await shown(store, "newest")

    link = table.rows[0][2]
    assert isinstance(link, Link)
    assert (link.page, link.query) == ("entity", {"entity": "door:1"})


@pytest.mark.parametrize("entity", ["", "a\0b", "x" * 5000], ids=["empty", "control", "long"])
async def test_a_name_that_cannot_be_is_refused(store: EventStore, entity: str) -> None:
    with pytest.raises(RequestRefusedError):
        await shown(store, "entity", {"entity": entity})


async def test_others_are_refused(store: EventStore) -> None:
    for page in console_component(store, may_see=has_role("operator")).pages:
        with pytest.raises(RequestRefusedError):
            await page.show(PageRequest(Caller("ben"), {}))


async def test_a_store_that_is_open_is_healthy(store: EventStore) -> None:
    health = await console_component(store, may_see=everybody).health()

    assert health == {"ok": True, "events": 120}
