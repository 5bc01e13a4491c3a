"""Which documents there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_server import MemoryObjectStore

NOTES = {"storagePath": "notes/{identity}/{note}", "listable": True}


@given(
    names=st.sets(
        st.from_regex(r"\A[a-z0-9._:@-]{1,3}\Z").filter(lambda n: n != "." and ".." not in n)
    ),
    limit=st.integers(1, 8),
)
async def test_pages_give_every_item_once(serve: Any, names: set[str], limit: int) -> None:
    deep = {f"notes/ada/{name}/more/x": "{}" for name in names}
    store = MemoryObjectStore(
        {f"notes/ada/{name}": "{}" for name in names} | deep | {"notes/b/x": ""}
    )
    server = serve(NOTES, store=store)

    seen: list[str] = []
    query = ""
    while True:
        page = (await server.get(f"/list/notes/ada?limit={limit}{query}")).json()
        seen += page["items"]
        assert len(page["items"]) == limit or not page["hasMore"]
        if not page["hasMore"]:
            break
        query = f"&after={page['items'][-1]}"

    assert seen == sorted(names)


async def test_text_around_the_parameter(serve: Any) -> None:
    keys = ["r/report-1.json", "r/report-2.json", "r/other-1.json", "r/report-3.txt"]
    store = MemoryObjectStore(dict.fromkeys(keys, "{}"))
    server = serve({"storagePath": "r/report-{n}.json", "listable": True}, store=store)

    assert (await server.get("/list/r")).json() == {"items": ["1", "2"], "hasMore": False}
    assert (await server.get("/list/r?after=1")).json()["items"] == ["2"]


async def test_a_namespace_lists_its_own(serve: Any) -> None:
    store = MemoryObjectStore({"notes/a/1": "{}", "acme/notes/a/2": "{}"})
    server = serve(NOTES, namespaces={"acme": [NOTES]}, store=store)

    assert (await server.get("/list/notes/a")).json()["items"] == ["1"]
    assert (await server.get("/acme/list/notes/a")).json()["items"] == ["2"]


async def test_a_first_segment_may_be_listed(serve: Any) -> None:
    store = MemoryObjectStore({"a": "{}", "b": "{}", "b/c": "{}", "~append/x": "{}"})
    server = serve({"storagePath": "{identity}", "listable": True}, store=store)

    assert (await server.get("/list/")).json() == {"items": ["a", "b"], "hasMore": False}


async def test_100_items_unless_asked_otherwise(serve: Any) -> None:
    store = MemoryObjectStore({f"notes/ada/{n:04}": "{}" for n in range(1001)})
    server = serve(NOTES, store=store)

    assert len((await server.get("/list/notes/ada")).json()["items"]) == 100
    assert len((await server.get("/list/notes/ada?limit=1000")).json()["items"]) == 1000


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=1001", "Invalid limit parameter"),
        ("limit=-1", "Invalid limit parameter"),
        ("limit=x", "Invalid limit parameter"),
        ("limit=", "Invalid limit parameter"),
        ("limit=1000000000000", "Invalid limit parameter"),
        ("after=a%2Fb", "Invalid after parameter"),
        ("after=", "Invalid after parameter"),
        ("limit=%FF", "Invalid query string"),
        ("&".join(f"x{n}=" for n in range(101)), "Invalid query string"),
    ],
)
async def test_a_bad_query_is_refused(serve: Any, query: str, error: str) -> None:
    answer = await serve(NOTES).get(f"/list/notes/ada?{query}")

    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_what_is_not_listable_has_no_such_route(serve: Any) -> None:
    assert (await serve({}).get("/list/notes")).status_code == 404
