"""A ``send`` for entries that are documents.

Rule 1: a push that returns is on the server: its answer proves it, or a pull shows it. Rule 2: an edit
whose value is not on the server is not counted as sent; a merge that would give it up is a
`Conflict`. Rule 3: pushes of one document are made one after the other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from starfish_outbox._clock import system_now_ms
from starfish_outbox._push.edit import Edit, check_edit, combine, hash_of, lane_of, parse_edit
from starfish_outbox._push.merge import (
    Document,
    contains,
    contradictions,
    find_base,
    merge_three_ways,
    name_fields,
    without_deletions,
)
from starfish_outbox._push.own_pushes import OwnPushes, on_top_of
from starfish_outbox._push.wire import Accepted, Wire
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox.errors import Conflict, PermanentSendError, Refused, SendError, Unreachable
from starfish_protocol.types import PullResult

Decision = Awaitable[Document | None] | Document | None
OnConflict = (
    Callable[[OutboxEntry, Document | None, Document, Document], Decision]
    | Callable[[OutboxEntry, PullResult], Decision]
)
"""Decides what to push instead.

Called with the entry, the document that was edited (``None`` when it is not known), the user's and
the server's; or, with two parameters, with the entry and the server's answer. The result is the
document to push, or ``None`` to push nothing, because the server's document is right: the entry then
counts as sent. To leave it to a person, raise `Conflict`.
"""


class PushSender:
    """A ``send`` for `drain_outbox` that pushes to a Starfish server.

    An item is ``{"path": "notes/1", "body": {…}, "baseHash": "<64 hex>" or None}``: a document key
    (``/push/notes/1`` is accepted too), the document, and the hash it was made from. With ``"base"``,
    the document that was edited, deletions and edits of others can be told apart in every case.

    Entries of one path are a lane. After an own push, later entries of the path are based on it.

    Args:
        client: with the server's ``base_url``, credentials and time-outs.
        on_conflict: called when the server has another document; by default the edits are merged:
            both are kept, deletions included, and where both changed a field, the user's own value
            has it. Where the document that was edited is not known and cannot be found by its
            hash, and both have another value, the default raises `Conflict`.
        coalesce: whether edits of one path that wait are sent as one: the newest body, the oldest
            base.
        max_rounds: pushes of one entry in one attempt; each conflict takes one.
        now_ms: the clock, milliseconds since the epoch, for ``Retry-After`` dates.

    Raises:
        ValueError: ``max_rounds`` is below 1.
        TypeError: ``on_conflict`` takes neither four arguments nor two.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        on_conflict: OnConflict | None = None,
        coalesce: bool = False,
        max_rounds: int = 5,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        if max_rounds < 1:
            raise ValueError(f"max_rounds is {max_rounds}, must be at least 1")
        self._wire = Wire(client, now_ms)
        self._on_conflict = on_conflict
        self._wants_all = on_conflict is not None and _takes_four(on_conflict)
        self._coalesce = coalesce
        self._max_rounds = max_rounds
        self._own = OwnPushes()
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @staticmethod
    def check(item: object) -> None:
        """Refuse an item that a server would never take; ask before you enqueue it.

        Raises:
            Refused: the path, the hash or the body is wrong; the message names the member.

        Examples:
            >>> PushSender.check({"path": "my notes/1", "body": {}, "baseHash": None})
            Traceback (most recent call last):
            starfish_outbox.errors.Refused: path 'my notes/1' is refused: letters, digits, . _ : @ - and /
        """
        check_edit(item)

    def lane(self, entry: OutboxEntry) -> Hashable:
        """One lane a document."""
        return lane_of(entry)

    def rebase(self, done: OutboxEntry, later: OutboxEntry) -> Any | None:
        """The item of a later entry, now that an earlier one of its document was sent.

        Its base becomes the body that it was made on top of, so that a restart finds it there.
        """
        try:
            edit, sent = parse_edit(later.item), parse_edit(done.item)
        except Refused:
            return None
        own = self._own.before(edit)
        if edit.path != sent.path or own is None:
            return None
        if edit.base is None and without_deletions(sent.body, edit.body) != sent.body:
            return None  # nobody knows whether the missing fields were deleted
        based, _ = on_top_of(own, edit)
        return {**later.item, "base": based.base, "baseHash": hash_of(sent.body)}

    def combine(self, entries: Sequence[OutboxEntry]) -> OutboxEntry | None:
        """One entry in place of several of a path, where the sender coalesces."""
        return combine(entries) if self._coalesce else None

    async def __call__(self, entry: OutboxEntry) -> None:
        """Push one entry; when it returns the server has the write.

        Raises:
            Refused: the item is not a push, or the server will never take it.
            Conflict: the edit contradicts another one.
            NotAuthorised: the credential was refused.
            Unreachable: the server did not answer, or something else did.
            SendError: the document changed during each try.
        """
        edit = parse_edit(entry.item)
        async with self._turn(edit.path):
            try:
                await self._deliver(entry, edit)
            except PermanentSendError:
                self._own.passed_over(entry.id, edit.path)
                raise

    async def _deliver(self, entry: OutboxEntry, edit: Edit) -> None:
        is_older = self._own.is_older(entry.id, edit.path)
        own = None if is_older else self._own.before(edit)
        based, body, base_hash = edit, edit.body, edit.base_hash
        if own is not None:
            based, body = on_top_of(own, edit)
            base_hash = own.hash
        for _ in range(self._max_rounds):
            answer = await self._wire.push(edit.path, body, base_hash)
            if isinstance(answer, Accepted):
                await self._prove(entry, edit, body, answer)
                return
            if answer.current_hash == hash_of(body):
                # An earlier push of this very document arrived, its answer did not.
                self._own.pushed(entry.id, edit, body, answer.current_hash)
                return
            theirs = await self._wire.pull(edit.path)
            decided = await self._decide(entry, based, theirs, is_older=is_older)
            if decided is None or (theirs.hash and hash_of(decided) == theirs.hash):
                self._own.pushed(entry.id, edit, theirs.data, theirs.hash)
                return
            body, base_hash = decided, theirs.hash or None
        raise SendError(
            f"{edit.path} changed on the server during each of {self._max_rounds} tries"
        )

    async def _prove(
        self, entry: OutboxEntry, edit: Edit, body: Document, answer: Accepted
    ) -> None:
        """Believe an answer only when it is about the document that was pushed."""
        if answer.hash == hash_of(body):
            self._own.pushed(entry.id, edit, body, answer.hash)
            return
        there = await self._wire.pull(edit.path)
        if not contains(there.data, body):
            raise Unreachable(
                f"POST {edit.path} was answered with the hash of another document, and a pull does"
                " not show the write",
                is_certain=False,
            )
        self._own.pushed(entry.id, edit, there.data, there.hash)

    async def _decide(
        self, entry: OutboxEntry, edit: Edit, theirs: PullResult, *, is_older: bool
    ) -> Document | None:
        base = edit.base
        if base is None and edit.base_hash is None:
            base = {}
        if base is None and edit.base_hash is not None:
            base = find_base(edit.base_hash, edit.body, theirs.data)
        if self._on_conflict is None:
            return _merge(base, edit.body, theirs, is_older=is_older)
        if self._wants_all:
            ask = cast("Callable[..., Decision]", self._on_conflict)
            decision = ask(entry, base, edit.body, theirs.data)
        else:
            decision = cast("Callable[..., Decision]", self._on_conflict)(entry, theirs)
        return await decision if inspect.isawaitable(decision) else decision

    @asynccontextmanager
    async def _turn(self, path: str) -> AsyncGenerator[None]:
        """One push of a document at a time, in the order of the calls."""
        lock, waiting = self._turns.get(path) or (asyncio.Lock(), 0)
        self._turns[path] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns[path]
            if waiting == 1:
                del self._turns[path]
            else:
                self._turns[path] = (lock, waiting - 1)


def _merge(
    base: Document | None, mine: Document, theirs: PullResult, *, is_older: bool
) -> Document:
    """The default decision.

    Raises:
        Conflict: a value of the user would be given up.
    """
    if contains(theirs.data, mine) and base is None:
        return theirs.data
    if base is None:
        fields = contradictions(mine, theirs.data)
        if fields:
            raise Conflict(
                f"both sides have another value in {name_fields(fields)}, and the document that was"
                " edited is not known: add it to the item as base"
            )
        return merge_three_ways({}, mine, theirs.data).document
    merged = merge_three_ways(base, mine, theirs.data, prefer="theirs" if is_older else "mine")
    if is_older and merged.given_up:
        raise Conflict(
            f"a later edit of this document was sent before; it changed {name_fields(merged.given_up)}"
        )
    return merged.document


def _takes_four(on_conflict: Callable[..., object]) -> bool:
    try:
        inspect.signature(on_conflict).bind(None, None, None, None)
    except TypeError:
        try:
            inspect.signature(on_conflict).bind(None, None)
        except TypeError:
            raise TypeError(
                "on_conflict must take the entry, base, mine and theirs, or the entry and the"
                " server's answer"
            ) from None
        return False
    return True
