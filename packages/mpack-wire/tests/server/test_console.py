"""The console's pages about repositories: refs, commits page by page, and what each changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starfish_http.callers import Caller
from starfish_http.components import PageRequest, everybody, has_role
from starfish_http.errors import RequestRefusedError
from starfish_mpack_wire.console import console_component


async def shown(wire: Any, page: str, query: Mapping[str, str] | None = None) -> list[Any]:
    component = console_component(wire.rows, repos=[wire.repo[1:]], may_see=everybody)
    found = component.page(page)
    assert found is not None
    return list(await found.show(PageRequest(Caller(), query or {})))


async def test_every_commit_is_on_some_page(wire: Any, story: Any) -> None:
    line = story.line(60)
    assert (await wire.push(story.pack(line[-1]))).status == 200

    (repositories,) = await shown(wire, "repositories")
    assert repositories.rows[0][2] == 1
    seen: list[str] = []
    query: Mapping[str, str] | None = repositories.rows[0][0].query
    while query is not None:
        _branches, commits = await shown(wire, "commits", query)
        seen += [row[0].query["id"] for row in commits.rows]
        query = None if commits.more is None else commits.more.query

    assert seen == list(reversed(line))


async def test_a_commit_tells_its_changes(wire: Any, story: Any) -> None:
    first = story.commit({"kept": b"1", "changed": b"1", "gone": b"1"})
    second = story.commit({"changed": b"2", "new": b"1"}, parents=[first], remove=["gone"])
    assert (await wire.push(story.pack(second))).status == 200

    facts, changes = await shown(wire, "commit", {"repo": wire.repo[1:], "id": second})
    _facts, all_new = await shown(wire, "commit", {"repo": wire.repo[1:], "id": first})

    assert dict(facts.rows)["files"] == 3
    assert changes.rows == [["changed", "changed"], ["removed", "gone"], ["added", "new"]]
    assert [row[0] for row in all_new.rows] == ["added"] * 3


@pytest.mark.parametrize(
    "commit", ["", "nonsense", "sha256:" + "0" * 64], ids=["empty", "text", "unknown"]
)
async def test_a_commit_that_is_not_there_is_said_to_be(wire: Any, commit: str) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await shown(wire, "commit", {"repo": wire.repo[1:], "id": commit})
    assert refused.value.status == 404


@pytest.mark.parametrize("repo", ["", "/", "nobody/nothing", "../x"])
async def test_a_repository_that_is_not_there_is_said_to_be(wire: Any, repo: str) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await shown(wire, "commits", {"repo": repo})
    assert refused.value.status == 404


async def test_others_are_refused(wire: Any) -> None:
    for page in console_component(wire.rows, repos=[], may_see=has_role("operator")).pages:
        with pytest.raises(RequestRefusedError):
            await page.show(PageRequest(Caller("ben"), {}))
