"""A server from a folder: rows in one SQLite file, packs in a folder beside it, nothing to set up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from obstore.store import LocalStore

from starfish_http.errors import problem_handlers
from starfish_mpack_wire.errors import InvalidMessageError
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._options import WireOptions
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._repos import Repo, Repos, TokenEntry, Tokens
from starfish_mpack_wire.server._routes import create_wire_router
from starfish_mpack_wire.server._rows import WireRows
from starfish_mpack_wire.server._work_folder import sweep_work_folders
from starfish_mpack_wire.server.errors import StorageUnavailableError
from starfish_protocol.clock import SystemClock

__all__ = (
    "create_app",
    "create_repo",
    "create_token",
    "list_tokens",
    "open_rows",
    "prepare_data",
    "revoke_token",
)

_T = TypeVar("_T")


def open_rows(data_dir: str | Path) -> WireRows:
    """The rows of a data folder, which is made when it is not there.

    Raises:
        StorageUnavailableError: the folder cannot be made.
    """
    folder = Path(data_dir).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageUnavailableError(f"{folder} cannot be used: {reason}") from error
    return WireRows(f"sqlite+aiosqlite:///{folder / 'mpack.sqlite'}")


def create_app(
    data_dir: str | Path, *, limits: Limits | None = None, public_url: str | None = None
) -> FastAPI:
    """A whole server over a folder; several processes may serve the same one.

    Args:
        data_dir: holds ``mpack.sqlite`` and ``objects/``; made when it is not there.
        limits: caps; ``None`` for the defaults.
        public_url: the address that clients use, for servers behind a proxy.

    Raises:
        StorageUnavailableError: the folder cannot be made.
    """
    rows = open_rows(data_dir)
    store = LocalStore(Path(data_dir).absolute() / "objects", mkdir=True)
    options = WireOptions(repos=rows, blobs=store, limits=limits or Limits(), public_url=public_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await asyncio.to_thread(sweep_work_folders)
        await rows.open()
        oldest = SystemClock().now() - timedelta(milliseconds=options.limits.upload_kept_ms)
        await PackStorage(store).sweep_uploads(oldest)
        yield
        await rows.close()

    app = FastAPI(title="mpack", lifespan=lifespan, openapi_url=None)
    for kind, handler in problem_handlers(RequestValidationError).items():
        app.add_exception_handler(kind, handler)
    app.include_router(create_wire_router(options))
    return app


def prepare_data(data_dir: str | Path) -> None:
    """Make a data folder, and the tables in it, where there are none; for a command, not for a running event loop.

    Raises:
        StorageUnavailableError: the folder or the file in it cannot be used.
    """
    _run(data_dir, lambda rows: rows.open())


def create_repo(data_dir: str | Path, name: str, *, private: bool = False) -> Repo:
    """Make an empty repository ``OWNER/SLUG`` in a data folder; for a command, not for a running event loop.

    Raises:
        InvalidMessageError: the name is none.
        RepoExistsError: it is there already.
        StorageUnavailableError: the folder or the file in it cannot be used.
    """
    owner, slash, slug = name.partition("/")
    if not slash:
        raise InvalidMessageError(f"{name!r:.120} is not a repository name: it must be OWNER/SLUG")
    return _run(data_dir, lambda rows: Repos(rows).create(owner, slug, private=private))


def create_token(data_dir: str | Path, owner: str, *, expires_ms: int | None = None) -> str:
    """Make a token for an owner in a data folder; for a command, not for a running event loop.

    Args:
        data_dir: the folder of the server.
        owner: whose repositories it may write to.
        expires_ms: from when on it is refused, in milliseconds since the epoch; ``None`` for never.

    Returns:
        The token. Only its hash is kept, so this is the one time it can be seen.

    Raises:
        InvalidMessageError: the owner is not a valid name.
        StorageUnavailableError: the folder or the file in it cannot be used.
    """
    return _run(data_dir, lambda rows: Tokens(rows).create(owner, expires_ms=expires_ms))


def list_tokens(data_dir: str | Path, owner: str | None = None) -> list[TokenEntry]:
    """Return the tokens of a data folder, or those of one owner; for a command.

    Raises:
        StorageUnavailableError: the folder or the file in it cannot be used.
    """
    return _run(data_dir, lambda rows: Tokens(rows).records(owner))


def revoke_token(data_dir: str | Path, name: str) -> TokenEntry:
    """Remove a token of a data folder by the name that `list_tokens` gives it; for a command.

    Raises:
        InvalidMessageError: there is no token of this name.
        StorageUnavailableError: the folder or the file in it cannot be used.
    """
    return _run(data_dir, lambda rows: Tokens(rows).revoke(name))


def _run(data_dir: str | Path, work: Callable[[WireRows], Awaitable[_T]]) -> _T:
    rows = open_rows(data_dir)

    async def main() -> _T:
        try:
            return await work(rows)
        finally:
            await rows.close()

    return asyncio.run(main())
