"""A server on each kind of database and storage, and histories to push to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest

from servers.postgres import postgres_binaries, postgres_server
from servers.s3 import s3_server
from starfish_mpack_wire._model.object_ids import blob_id, commit_id
from starfish_mpack_wire._model.records import CommitRecord, PackContents, SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.parser import parse_wire_mpack
from starfish_mpack_wire._pack.writer import build_mpack

__all__ = ("postgres_binaries", "postgres_server", "s3_server")

BACKENDS = ("sqlite-local", "postgres-s3")


class Story:
    """A history in the making: every commit, snapshot and blob of it."""

    def __init__(self) -> None:
        self.commits: dict[str, CommitRecord] = {}
        self.snapshots: dict[str, SnapshotRecord] = {}
        self.trees: dict[str, SnapshotTree] = {}
        self.blobs: dict[str, bytes] = {}

    def commit(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        parents: Iterable[str] = (),
        remove: Iterable[str] = (),
        directories: Iterable[str] = (),
        message: str = "",
        complete: bool = False,
        **unknown: Any,
    ) -> str:
        """A commit that changes these files of its first parent."""
        above = list(parents)
        parent_snapshot = self.commits[above[0]]["snapshot_id"] if above else None
        before = self.trees[parent_snapshot] if parent_snapshot else SnapshotTree.empty()
        upsert = {path: self.blob(content) for path, content in (files or {}).items()}
        tree = before.apply(upsert, list(remove), list(directories))
        if tree.snapshot_id not in self.snapshots:
            self.trees[tree.snapshot_id] = tree
            self.snapshots[tree.snapshot_id] = {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": None if complete else parent_snapshot,
                "upsert": tree.manifest if complete else upsert,
                "remove": [] if complete else sorted(remove),
                "directories": sorted(directories),
            }
        record: dict[str, Any] = {
            "branch": "main",
            "snapshot_id": tree.snapshot_id,
            "parent_ids": above,
            "message": message or f"commit {len(self.commits)}",
            "author": "Ada",
            "committed_at": "2026-01-31T12:00:00Z",
            "metadata": {},
        } | unknown
        record["commit_id"] = commit_id(record)
        self.commits[record["commit_id"]] = record  # type: ignore[assignment]
        return str(record["commit_id"])

    def line(self, count: int, parent: str | None = None, **options: Any) -> list[str]:
        """Commits one after the other, each with a new version of a file and a file of its own."""
        made: list[str] = []
        for _ in range(count):
            number = len(self.commits)
            files = {"notes.txt": b"version %d\n" % number * 9, f"n/{number}": b"%d" % number}
            parent = self.commit(files, parents=[parent] if parent else [], **options)
            made.append(parent)
        return made

    def blob(self, content: bytes) -> str:
        object_id = blob_id(content)
        self.blobs[object_id] = content
        return object_id

    def ancestors(self, of: Iterable[str]) -> set[str]:
        found: set[str] = set()
        stack = list(of)
        while stack:
            here = stack.pop()
            if here not in found:
                found.add(here)
                stack.extend(self.commits[here]["parent_ids"])
        return found

    def blobs_of(self, commits: Iterable[str]) -> set[str]:
        """All blobs of the whole snapshots of some commits."""
        return {
            object_id
            for each in commits
            for object_id in self.trees[self.commits[each]["snapshot_id"]].manifest.values()
        }

    def pack(
        self,
        head: str | Iterable[str],
        have: Iterable[str] = (),
        *,
        tags: Mapping[str, str] | None = None,
        without_blobs: Iterable[str] = (),
        without_snapshots: Iterable[str] = (),
        without_commits: Iterable[str] = (),
    ) -> bytes:
        """What a client pushes that knows what the server has."""
        held = self.ancestors(have)
        sent = self.ancestors([head] if isinstance(head, str) else head) - held
        snapshots = {self.commits[each]["snapshot_id"] for each in sent}
        snapshots -= {self.commits[each]["snapshot_id"] for each in held}
        blobs = self.blobs_of(sent) - self.blobs_of(held) - set(without_blobs)
        return build_mpack(
            [self.commits[each] for each in sent - set(without_commits)],
            [self.snapshots[each] for each in snapshots - set(without_snapshots)],
            [{"object_id": each, "content": self.blobs[each]} for each in blobs],
            [{"name": name, "commit_id": each} for name, each in (tags or {}).items()],
        )


@dataclass
class Answer:
    """One answer of the server."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Wire:
    """A server, and what a client does to it."""

    app: Any
    rows: Any
    store: Any
    http: Any
    owner: str
    token: str
    repo: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    async def create(self, slug: str = "notes", *, private: bool = False) -> str:
        from starfish_mpack_wire.server import Repos

        made = await Repos(self.rows).create(self.owner, slug, private=private)
        self.repo = f"/{made.owner}/{made.slug}"
        return self.repo

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "own",
        repo: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        given = {"Accept": "application/x-msgpack"} | dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {self.token if token == 'own' else token}"
        as_it_is = body is None or isinstance(body, bytes | AsyncIterator)
        content = body if as_it_is else msgpack.packb(body)
        url = path if path.startswith("http") else (self.repo if repo is None else repo) + path
        answer = await self.http.request(method, url, content=content, headers=given)
        assert answer.status_code != 500
        found: dict[str, Any] = {}
        if "msgpack" in answer.headers.get("content-type", ""):
            found = msgpack.unpackb(answer.content)
        return Answer(answer.status_code, found, answer.headers, answer.content)

    async def upload(self, pack: bytes, *, repo: str | None = None, token: str = "own") -> str:
        mpack_id = blob_id(pack)
        asked = {"mpack_id": mpack_id, "size_bytes": len(pack)}
        granted = await self.call("POST", "/push/presign", asked, repo=repo, token=token)
        assert granted.status == 200, granted
        if granted.body["upload_url"] is not None:
            put = await self.put(granted.body["upload_url"], pack)
            assert put in (200, 204)
        return mpack_id

    async def put(self, url: str, content: bytes) -> int:
        import httpx

        headers = {"Content-Type": "application/octet-stream"}
        if url.startswith("http://testserver"):
            return int((await self.http.put(url, content=content, headers=headers)).status_code)
        async with httpx.AsyncClient() as plain:
            return (await plain.put(url, content=content, headers=headers)).status_code

    async def push(
        self, pack: bytes, *, branch: str = "main", repo: str | None = None, **request: Any
    ) -> Answer:
        mpack_id = await self.upload(pack, repo=repo)
        body = {"mpack_id": mpack_id, "branch": branch, **request}
        return await self.call("POST", "/push/unpack", body, repo=repo)

    async def fetch(self, *want: str, **request: Any) -> Answer:
        return await self.call("POST", "/fetch", {"want": list(want), **request})

    async def download(self, answer: Answer) -> PackContents:
        """The pack of an answer, after the checks that any client makes."""
        import httpx

        url = answer.body["mpack_url"]
        if url.startswith("http://testserver"):
            got = await self.http.get(url)
        else:
            async with httpx.AsyncClient() as plain:
                got = await plain.get(url)
        assert got.status_code == 200
        assert blob_id(got.content) == answer.body["mpack_id"]
        assert len(got.content) == answer.body["size_bytes"]
        contents = parse_wire_mpack(got.content)
        assert len(contents["commits"]) == answer.body["commit_count"]
        assert len(contents["snapshots"]) == answer.body["snapshot_count"]
        assert len(contents["blobs"]) == answer.body["blob_count"]
        return contents

    async def forget_built(self) -> None:
        """Remove what can be built again."""
        import obstore

        for listed in await obstore.list(self.store, "built").collect_async():
            await obstore.delete_async(self.store, listed["path"])

    async def refs(self) -> dict[str, Any]:
        answer = await self.call("GET", "/refs")
        assert answer.status == 200
        return answer.body


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def new_story() -> type[Story]:
    return Story


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_backend(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[], tuple[Any, Any]]:
    """Opens the same database and storage again, each time it is called."""
    from obstore.store import LocalStore, S3Store

    from starfish_mpack_wire.server import WireRows

    prefix = f"mpack-{secrets.token_hex(8)}"
    if backend == "postgres-s3":
        postgres = request.getfixturevalue("postgres_server")
        s3 = request.getfixturevalue("s3_server")

    def open_it() -> tuple[Any, Any]:
        if backend == "sqlite-local":
            url = f"sqlite+aiosqlite:///{tmp_path / 'rows.sqlite'}"
            return WireRows(url), LocalStore(tmp_path / "objects", mkdir=True)
        store = S3Store(**s3.store_options, prefix=prefix, client_options={"allow_http": True})
        # Without a password or with TLS, the driver looks for files first, on the event loop.
        url = postgres.address("asyncpg").replace("@", ":unused@") + "?ssl=disable"
        return WireRows(url), store

    return open_it


@pytest.fixture
def serve(open_backend: Callable[[], tuple[Any, Any]]) -> Any:
    """Starts a server over the backend; several see the same repositories."""

    owner = f"ada-{secrets.token_hex(4)}"

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[Wire]:
        import httpx
        from fastapi import FastAPI

        from starfish_mpack_wire.server import Tokens, WireOptions, create_wire_router

        rows, store = await asyncio.to_thread(open_backend)
        given = options.pop("blobs", store)
        app = FastAPI()
        app.include_router(create_wire_router(WireOptions(repos=rows, blobs=given, **options)))
        token = await Tokens(rows).create(owner)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            yield Wire(app, rows, given, http, owner, token)
        await rows.close()

    return start


@pytest.fixture
async def wire(serve: Any) -> AsyncIterator[Wire]:
    """A server with one empty public repository."""
    async with serve() as started:
        await started.create()
        yield started
