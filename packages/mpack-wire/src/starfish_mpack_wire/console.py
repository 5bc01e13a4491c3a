"""Histories in the console of a service: the refs of a repository, its commits, and what each changed.

Needs the extra ``server``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starfish_mpack_wire._model.entries import Entry
from starfish_mpack_wire._model.records import CommitRecord
from starfish_mpack_wire.errors import MPackError
from starfish_mpack_wire.server import Repo, Repos, WireRows

try:
    from starlette.routing import Router

    from starfish_http.components import (
        Component,
        Facts,
        Link,
        MaySee,
        Page,
        PageRequest,
        Section,
        Table,
        check_sight,
    )
    from starfish_http.errors import RequestRefusedError
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed in tests
    if error.name not in {"starfish_http", "starlette"}:
        raise
    raise ImportError(
        "starfish_mpack_wire.console needs the extra server: "
        'pip install --find-links dist "starfish-mpack-wire[server]"'
    ) from error

from starfish_mpack_wire.server._history_rows import HistoryRows

__all__ = ("console_component",)

_COMMITS = 50
_CHANGES = 500


def console_component(
    rows: WireRows, *, repos: Sequence[str], may_see: MaySee, router: Router | None = None
) -> Component:
    """A wire server as a part of a service: its pages in the console, and its routes where they are given.

    Args:
        rows: where they are.
        repos: which of them the menu page lists, as ``owner/name``.
        may_see: who may look at every repository, private ones included.
        router: of `starfish_mpack_wire.server.create_wire_router`, served below ``/history``.
    """
    pages = _Pages(rows, repos, may_see)
    return Component(
        "history",
        "History",
        pages=[
            Page("repositories", "Repositories", pages.repositories),
            Page("commits", "Commits", pages.commits, is_in_menu=False),
            Page("commit", "Commit", pages.commit, is_in_menu=False),
        ],
        health=pages.health,
        router=router,
        running=pages.running,
    )


class _Pages:
    def __init__(self, rows: WireRows, names: Sequence[str], may_see: MaySee) -> None:
        self._rows = rows
        self._repos = Repos(rows)
        self._names = names
        self._may_see = may_see

    async def repositories(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        found = [(name, await self._find(name)) for name in self._names]
        return [
            Table(
                "Repositories",
                ["name", "default branch", "branches", "tags"],
                [await self._row(name, repo) for name, repo in found if repo is not None],
                empty="There is no repository yet.",
            )
        ]

    async def _row(self, name: str, repo: Repo) -> list[str | int | Link]:
        refs = await self._repos.refs(repo)
        link = Link(name, "commits", {"repo": name})
        return [link, repo.default_branch, len(refs.branches), len(refs.tags)]

    async def commits(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        name, repo = await self._asked(request)
        refs = await self._repos.refs(repo)
        start = request.query.get("from") or refs.branches.get(
            request.query.get("branch", repo.default_branch)
        )
        listed, rest = await self._walk(repo, [] if start is None else [start])
        return [
            Table(
                "Branches",
                ["branch", "commit"],
                [
                    [Link(branch, "commits", {"repo": name, "branch": branch}), commit_id]
                    for branch, commit_id in refs.branches.items()
                ],
                empty="There is no branch yet.",
            ),
            Table(
                "Commits, newest first",
                ["commit", "time", "by", "message", "parents"],
                [
                    [
                        Link(
                            _short(c["commit_id"]), "commit", {"repo": name, "id": c["commit_id"]}
                        ),
                        c["committed_at"],
                        c["author"],
                        c["message"].partition("\n")[0][:200],
                        " ".join(_short(parent) for parent in c["parent_ids"]) or None,
                    ]
                    for c in listed
                ],
                more=(
                    None if rest is None else Link("Older", "commits", {"repo": name, "from": rest})
                ),
                empty="There is no commit on this branch.",
            ),
        ]

    async def _walk(
        self, repo: Repo, starts: Sequence[str]
    ) -> tuple[list[CommitRecord], str | None]:
        """Commits breadth first from some, and the one to go on from."""
        waiting, seen = deque(starts), set(starts)
        listed: list[CommitRecord] = []
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            while waiting and len(listed) < _COMMITS:
                commit_id = waiting.popleft()
                record = (await history.commit_records([commit_id])).get(commit_id)
                if record is None:
                    continue
                listed.append(record)
                for parent in record["parent_ids"]:
                    if parent not in seen:
                        seen.add(parent)
                        waiting.append(parent)
        return listed, waiting[0] if waiting else None

    async def commit(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        name, repo = await self._asked(request)
        commit_id = request.query.get("id", "")
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            try:
                record = (await history.commit_records([commit_id])).get(commit_id)
                if record is None:
                    raise RequestRefusedError(404, "not_found", "There is no such commit.")
                parents = await history.commit_records(record["parent_ids"][:1])
                before_id = next((p["snapshot_id"] for p in parents.values()), None)
                wanted = [record["snapshot_id"], *([] if before_id is None else [before_id])]
                manifests = await history.manifests(wanted)
            except MPackError as error:
                raise RequestRefusedError(404, "not_found", "There is no such commit.") from error
        after = manifests[record["snapshot_id"]].entries
        before: Mapping[str, Entry] = {} if before_id is None else manifests[before_id].entries
        changes: list[list[str | int | Link | None]] = []
        for path in sorted({*before, *after}):
            if before.get(path) != after.get(path):
                word = (
                    "added" if path not in before else "removed" if path not in after else "changed"
                )
                changes.append([word, path])
        return [
            Facts(
                record["message"].partition("\n")[0][:200] or "Commit",
                [
                    ("commit", record["commit_id"]),
                    ("by", record["author"]),
                    ("time", record["committed_at"]),
                    ("files", len(after)),
                    *(
                        ("parent", Link(_short(p), "commit", {"repo": name, "id": p}))
                        for p in record["parent_ids"]
                    ),
                ],
            ),
            Table(
                f"Changes against the first parent: {len(changes)}",
                ["change", "path"],
                changes[:_CHANGES],
                empty="Nothing changed.",
            ),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        await self._rows.open()
        try:
            yield
        finally:
            await self._rows.close()

    async def health(self) -> Mapping[str, Any]:
        async with self._rows.reading():
            return {"ok": True}

    async def _find(self, name: str) -> Repo | None:
        owner, _, slug = name.partition("/")
        return await self._repos.find(owner, slug)

    async def _asked(self, request: PageRequest) -> tuple[str, Repo]:
        name = request.query.get("repo", "")
        repo = await self._find(name)
        if repo is None:
            raise RequestRefusedError(404, "not_found", "There is no such repository.")
        return name, repo


def _short(commit_id: str) -> str:
    return commit_id.partition(":")[2][:12]
