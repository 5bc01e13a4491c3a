"""Repositories, their refs, and the tokens of those who may write to them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_mpack_wire._messages import RefKind
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire.errors import InvalidMessageError, RefConflictError
from starfish_mpack_wire.server._rows import (
    BRANCHES,
    REPOS,
    SETTINGS,
    TAGS,
    TOKENS,
    WireRows,
    add_rows,
)
from starfish_mpack_wire.server.errors import RepoExistsError, StorageUnavailableError
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "Refs",
    "Repo",
    "Repos",
    "TokenEntry",
    "Tokens",
    "branch_head",
    "change_refs",
    "heads_of",
    "is_repo_name",
    "url_key",
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TABLES: dict[RefKind, Table] = {"branch": BRANCHES, "tag": TAGS}
_NAME_DIGITS = 12
_TOKEN = re.compile(r"mpt_[A-Za-z0-9_-]{43}")


def is_repo_name(text: str) -> bool:
    """Whether an owner or a repository may have this name: it stands in URLs.

    Examples:
        >>> is_repo_name("ada"), is_repo_name("../ada"), is_repo_name("a" * 101)
        (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository, as its row says."""

    id: int
    owner: str
    slug: str
    private: bool
    default_branch: str
    generations_hold: bool
    """Whether every commit is above its parents, as far as anybody knows."""


@dataclass(frozen=True, slots=True)
class Refs:
    """What the names of a repository point at."""

    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])


class Repos:
    """Finds and makes repositories, reads and moves refs.

    Args:
        rows: where they are.
        clock: what the time of creation is taken from.
    """

    def __init__(self, rows: WireRows, *, clock: Clock | None = None) -> None:
        self._rows = rows
        self._clock = clock or SystemClock()

    async def create(
        self, owner: str, slug: str, *, private: bool = False, default_branch: str = "main"
    ) -> Repo:
        """Make an empty repository; on disk when this returns.

        Raises:
            InvalidMessageError: the owner or the slug is not a name.
            MPackFormatError: the default branch is not a name of a branch.
            RepoExistsError: it is there already.
            StorageUnavailableError: the database failed.
        """
        for name in (owner, slug):
            if not is_repo_name(name):
                raise InvalidMessageError(
                    f"{name!r:.120} is not a name; it must have 1 to 100 of A-Z a-z 0-9 _ . - "
                    "that do not begin with . or -"
                )
        values = {
            "owner": owner,
            "slug": slug,
            "private": private,
            "default_branch": check_ref_name(default_branch),
            "generations_hold": True,
        }
        try:
            async with self._rows.writing() as connection:
                await connection.execute(
                    insert(REPOS), values | {"created_ms": self._clock.now_ms()}
                )
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise RepoExistsError(owner, slug) from None
            raise
        found = await self.find(owner, slug)
        if found is None:
            raise StorageUnavailableError("a repository is gone as soon as it was made")
        return found

    async def find(self, owner: str, slug: str) -> Repo | None:
        """The repository of this name.

        Raises:
            StorageUnavailableError: the database failed.
        """
        if not (is_repo_name(owner) and is_repo_name(slug)):
            return None
        columns = (
            REPOS.c.id,
            REPOS.c.owner,
            REPOS.c.slug,
            REPOS.c.private,
            REPOS.c.default_branch,
            REPOS.c.generations_hold,
        )
        async with self._rows.reading() as connection:
            found = await connection.execute(
                select(*columns).where(REPOS.c.owner == owner, REPOS.c.slug == slug)
            )
            row = found.one_or_none()
        return None if row is None else Repo(*row)

    async def refs(self, repo: Repo) -> Refs:
        """All branches and tags, in the order of their names.

        Raises:
            StorageUnavailableError: the database failed.
        """
        refs = Refs()
        async with self._rows.reading() as connection:
            for table, into in ((BRANCHES, refs.branches), (TAGS, refs.tags)):
                found = await connection.execute(
                    select(table.c.name, table.c.commit_id).where(table.c.repo_id == repo.id)
                )
                into.update(sorted((name, commit_id) for name, commit_id in found))
        return refs


async def branch_head(connection: AsyncConnection, repo_id: int, branch: str) -> str | None:
    """Where a branch is, or ``None`` where there is none of this name."""
    found = await connection.execute(
        select(BRANCHES.c.commit_id).where(BRANCHES.c.repo_id == repo_id, BRANCHES.c.name == branch)
    )
    return found.scalar_one_or_none()


async def heads_of(connection: AsyncConnection, repo_id: int, kind: RefKind) -> dict[str, str]:
    """Return all branches, or all tags, of a repository: name to commit id."""
    table = _TABLES[kind]
    found = await connection.execute(
        select(table.c.name, table.c.commit_id).where(table.c.repo_id == repo_id)
    )
    return dict(map(tuple, found))


async def change_refs(
    connection: AsyncConnection,
    repo_id: int,
    kind: RefKind,
    changes: Sequence[tuple[str, str | None, str | None]],
) -> None:
    """Compare and swap many refs, in the caller's transaction that holds the repository.

    Args:
        connection: of the transaction.
        repo_id: whose refs.
        kind: branches or tags.
        changes: name, where the ref is, where it goes; ``None`` for no such ref.

    Raises:
        RefConflictError: a ref is somewhere else.
    """
    table = _TABLES[kind]
    made = [
        {"repo_id": repo_id, "name": name, "commit_id": new}
        for name, old, new in changes
        if old is None
    ]
    await add_rows(connection, table, made)
    for name, old, new in changes:
        if old is None:
            continue
        here = (table.c.repo_id == repo_id, table.c.name == name, table.c.commit_id == old)
        statement = (
            delete(table).where(*here)
            if new is None
            else update(table).where(*here).values(commit_id=new)
        )
        moved = await connection.execute(statement)
        if moved.rowcount != 1:
            raise RefConflictError(name, old, None)


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token as it is listed: never the token itself."""

    name: str
    """The first digits of its hash."""
    owner: str
    created_ms: int
    expires_ms: int | None
    """``None`` for never."""


class Tokens:
    """Bearer tokens; only their hashes are kept.

    A token is 256 random bits, so its SHA-256 cannot be searched for, and to look one up by its hash tells
    nobody how near a guess was.
    """

    def __init__(self, rows: WireRows, *, clock: Clock | None = None) -> None:
        self._rows = rows
        self._clock = clock or SystemClock()

    async def create(self, owner: str, *, expires_ms: int | None = None) -> str:
        """Make a token with which one may do all that `owner` may; on disk when this returns.

        Returns:
            The token. This is the one time it can be seen.

        Raises:
            InvalidMessageError: the owner is not a name.
            StorageUnavailableError: the database failed.
        """
        if not is_repo_name(owner):
            raise InvalidMessageError(f"{owner!r:.120} is not a name of an owner")
        token = f"mpt_{secrets.token_urlsafe(32)}"
        async with self._rows.writing() as connection:
            await connection.execute(
                insert(TOKENS),
                {
                    "token_hash": _hash_of(token),
                    "owner": owner,
                    "created_ms": self._clock.now_ms(),
                    "expires_ms": expires_ms,
                },
            )
        return token

    async def owner_of(self, token: str) -> str | None:
        """Whose token this is; ``None`` when it is unknown or has expired.

        Raises:
            StorageUnavailableError: the database failed.
        """
        if _TOKEN.fullmatch(token) is None:
            return None
        digest = _hash_of(token)
        async with self._rows.reading() as connection:
            found = await connection.execute(
                select(TOKENS.c.owner, TOKENS.c.token_hash, TOKENS.c.expires_ms).where(
                    TOKENS.c.token_hash == digest
                )
            )
            row = found.one_or_none()
        if row is None or not secrets.compare_digest(row.token_hash, digest):
            return None
        if row.expires_ms is not None and row.expires_ms <= self._clock.now_ms():
            return None
        return str(row.owner)

    async def records(self, owner: str | None = None) -> list[TokenEntry]:
        """Return all tokens as they are listed, or those of one owner, the oldest first.

        Raises:
            StorageUnavailableError: the database failed.
        """
        table = TOKENS.c
        statement = select(table.token_hash, table.owner, table.created_ms, table.expires_ms)
        if owner is not None:
            statement = statement.where(table.owner == owner)
        async with self._rows.reading() as connection:
            found = await connection.execute(statement.order_by(table.created_ms, table.token_hash))
            return [
                TokenEntry(row.token_hash[:_NAME_DIGITS], row.owner, row.created_ms, row.expires_ms)
                for row in found
            ]

    async def revoke(self, name: str) -> TokenEntry:
        """Remove one token, from the next request on.

        Args:
            name: the name that `records` gives it.

        Raises:
            InvalidMessageError: there is no token of this name.
            StorageUnavailableError: the database failed.
        """
        for each in await self.records():
            if each.name == name:
                async with self._rows.writing() as connection:
                    await connection.execute(
                        delete(TOKENS).where(TOKENS.c.token_hash.startswith(name, autoescape=True))
                    )
                return each
        raise InvalidMessageError(f"there is no token {name!r:.80}; it must be one that is listed")

    async def revoke_all(self, owner: str) -> int:
        """Remove every token of an owner; how many there were.

        Raises:
            StorageUnavailableError: the database failed.
        """
        async with self._rows.writing() as connection:
            gone = await connection.execute(delete(TOKENS).where(TOKENS.c.owner == owner))
        return gone.rowcount


def _hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def url_key(rows: WireRows) -> bytes:
    """The key that this server and those beside it sign URLs with; made on first use.

    Raises:
        StorageUnavailableError: the database failed.
    """
    statement = select(SETTINGS.c.value).where(SETTINGS.c.name == "url_key")
    async with rows.reading() as connection:
        found: bytes | None = (await connection.execute(statement)).scalar_one_or_none()
    if found is None:
        try:
            async with rows.writing() as connection:
                await connection.execute(
                    insert(SETTINGS), {"name": "url_key", "value": secrets.token_bytes(32)}
                )
        except StorageUnavailableError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
        async with rows.reading() as connection:
            return bytes((await connection.execute(statement)).scalar_one())
    return bytes(found)
