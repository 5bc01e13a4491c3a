"""Collections and documents, as far as the person who looks may read them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
from starlette.requests import Request

from starfish_http.callers import Caller
from starfish_server.config._validate import located_collections
from starfish_server.config.schema import SyncConfig
from starfish_server.console._as_caller import Reply, ask
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.changes import Change, ChangeLog
from starfish_server.storage.object_store import ObjectStore

__all__ = ("Documents", "Row", "Shown", "path_of")

_ROWS = 50
_KEYS_LOOKED_AT = 500
"""Keys that one page of a list looks at: those of other people take their share of it."""
_HISTORY = 200


@dataclass(frozen=True, slots=True)
class Row:
    """A document in a list."""

    path: str
    hash: str
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A document on its page."""

    path: str
    collection: str
    status: int
    text: str
    """The data as JSON, indented; a sentence where it is not shown."""
    hash: str
    timestamp: int | None
    author: str | None
    history: Sequence[Change]
    """Newest first. Who wrote, it tells of the viewer's own writes alone, as a pull does."""
    is_history_whole: bool
    links: Sequence[tuple[str, str]]
    """Where it can be pulled."""


def path_of(namespace: str | None, word: str, key: str) -> str:
    """The service's path for a document, or for what `word` says of it.

    Examples:
        >>> path_of("acme", "pull", "notes/1")
        '/acme/pull/notes/1'
    """
    return f"/{word}/{key}" if namespace is None else f"/{namespace}/{word}/{key}"


class Documents:
    """The documents of one service.

    Args:
        store: where they are kept: it tells names and history, never contents.
        config: which collections are served.
        prefix: under which the sync router is included.
    """

    def __init__(self, store: ObjectStore, config: SyncConfig, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self.collections = {
            member.store_key(member.name): member
            for member in (
                ServedCollection.compile(located.config, located.namespace)
                for located in located_collections(config)
            )
        }

    @property
    def log(self) -> ChangeLog | None:
        """The store's change log, where it keeps one."""
        return self._store.changes

    def readable_by(self, caller: Caller) -> list[ServedCollection]:
        """The collections of which the caller may read some document."""
        roles = set(caller.roles)
        known = caller.identity is not None

        def is_readable(member: ServedCollection) -> bool:
            wanted = member.read_roles
            return "public" in wanted or ("self" in wanted and known) or bool(wanted & roles)

        return [
            member
            for member in self.collections.values()
            if not member.config.push_only
            and caller.allows_namespace(member.namespace)
            and is_readable(member)
        ]

    def find(self, key: str) -> ServedCollection | None:
        """The collection that a stored key belongs to."""
        for member in self.collections.values():
            prefix = "" if member.namespace is None else f"{member.namespace}/"
            if key.startswith(prefix) and member.template.match(key[len(prefix) :]) is not None:
                return member
        return None

    async def list(
        self, request: Request, member: ServedCollection, begins: str, after: str | None
    ) -> tuple[list[Row], str | None]:
        """The next documents of a collection, and after which of them the list goes on.

        A key that the caller may not pull leaves no trace: no gap, no place to go on from.
        """
        prefix = "" if member.namespace is None else f"{member.namespace}/"
        literal = member.template.text.partition("{")[0]
        scanned = await self._store.scan(
            prefix + literal + begins,
            after=None if after is None else prefix + after,
            limit=_KEYS_LOOKED_AT,
        )
        rows: list[Row] = []
        for entry in scanned:
            key = entry.key[len(prefix) :]
            if member.template.match(key) is None:
                continue
            if len(rows) == _ROWS:
                return rows, rows[-1].path
            reply = await self._pull(request, member, key)
            if reply.status in {200, 206}:
                rows.append(Row(key, _hash_of(reply), _timestamp_of(reply)))
        return rows, None

    async def show(
        self, request: Request, caller: Caller, member: ServedCollection, key: str
    ) -> Shown:
        """A document with its history."""
        reply = await self._pull(request, member, key, is_whole=True)
        fields = _json_fields(reply)
        shown_hash = _hash_of(reply)
        history: Sequence[Change] = ()
        is_whole = True
        if reply.status in {200, 206} and self._store.changes is not None:
            page = await self._store.changes.read(0, _HISTORY + 1, key=member.store_key(key))
            is_whole = len(page) <= _HISTORY
            # From a caller to whom fields are hidden the hashes are kept (server.md, "HTTP").
            if not page or page[-1].hash == shown_hash or member.config.append_only is not None:
                history = [
                    change if change.identity == caller.identity else replace(change, identity=None)
                    for change in itertools.islice(reversed(page), _HISTORY)
                ]
        return Shown(
            path=key,
            collection=member.store_key(member.name),
            status=reply.status,
            text=_text_of(reply, fields),
            hash=shown_hash,
            timestamp=_timestamp_of(reply),
            author=fields.get("authorPubkey"),
            history=history,
            is_history_whole=is_whole,
            links=[("pull", self._prefix + path_of(member.namespace, "pull", key))],
        )

    async def _pull(
        self, request: Request, member: ServedCollection, key: str, *, is_whole: bool = False
    ) -> Reply:
        path = self._prefix + path_of(member.namespace, "pull", key)
        query: dict[str, str] = {}
        headers: dict[str, str] = {}
        if member.config.append_only is not None:
            query["last"] = "20" if is_whole else "0"
        elif not is_whole and not _is_json(member):
            headers["range"] = "bytes=0-0"
        return await ask(request, path, query, **headers)


def _is_json(member: ServedCollection) -> bool:
    allowed = member.config.allowed_mime_types
    return not allowed or "application/json" in allowed


def _json_fields(reply: Reply) -> Mapping[str, Any]:
    is_json = reply.headers.get("content-type", "").startswith("application/json")
    answer = reply.json() if is_json else None
    return cast("Mapping[str, Any]", answer) if isinstance(answer, dict) else {}


def _hash_of(reply: Reply) -> str:
    told = _json_fields(reply).get("hash")
    return told if isinstance(told, str) else reply.headers.get("etag", "").strip('"')


def _timestamp_of(reply: Reply) -> int | None:
    told = _json_fields(reply).get("timestamp")
    return told if isinstance(told, int) else None


def _text_of(reply: Reply, fields: Mapping[str, Any]) -> str:
    if reply.status not in {200, 206}:
        return ""
    if reply.is_cut:
        return "This document is too long for a page: pull it with a client."
    if "data" in fields:
        return orjson.dumps(fields["data"], option=orjson.OPT_INDENT_2).decode()
    kind = reply.headers.get("content-type", "application/octet-stream")
    return f"{len(reply.body)} bytes of {kind}"
