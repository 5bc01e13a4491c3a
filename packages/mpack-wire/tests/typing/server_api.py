"""Read by the type checker, never run: what an application that serves repositories may rely on."""

from __future__ import annotations

from typing import assert_type

from fastapi import APIRouter, FastAPI
from obstore.store import MemoryStore
from starlette.requests import Request

from starfish_mpack_wire import Limits
from starfish_mpack_wire._history.commit_graph import InMemoryCommitGraph
from starfish_mpack_wire._history.delta import Delta, compute_delta
from starfish_mpack_wire._history.haves import choose_haves
from starfish_mpack_wire._history.reading import run
from starfish_mpack_wire.server import (
    Repo,
    Repos,
    Tokens,
    WireOptions,
    WireRows,
    create_app,
    create_repo,
    create_token,
    create_wire_router,
)
from starfish_mpack_wire.server._options import Action


async def who(_request: Request) -> str | None:
    return None


async def may(identity: str | None, repo: Repo, action: Action) -> bool:
    assert_type(repo.private, bool)
    return action == "read" or identity == repo.owner


def application() -> None:
    rows = WireRows("sqlite+aiosqlite:///rows.sqlite")
    options = WireOptions(
        repos=rows, blobs=MemoryStore(), authenticate=who, authorize=may, limits=Limits()
    )
    assert_type(create_wire_router(options), APIRouter)
    assert_type(create_app("data"), FastAPI)
    assert_type(create_repo("data", "ada/notes", private=True), Repo)
    assert_type(create_token("data", "ada"), str)


async def administration(rows: WireRows) -> None:
    assert_type(await Repos(rows).create("ada", "notes"), Repo)
    assert_type(await Repos(rows).find("ada", "notes"), Repo | None)
    assert_type(await Tokens(rows).create("ada", expires_ms=1), str)


def negotiation() -> None:
    graph = InMemoryCommitGraph.of({"a": (), "b": ("a",)})
    assert_type(run(compute_delta(["b"], ["a"]), graph), Delta)
    assert_type(choose_haves(["b"], ["b", "a"]), list[str])
