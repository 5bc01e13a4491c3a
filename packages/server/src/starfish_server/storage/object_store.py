"""The store contract: what every store of this package promises, and what the server relies on.

Rule 1: a key holds one value; a write replaces it as a whole, in one step for every process that
shares the storage. Rule 2: an expired value reads as absent everywhere, preconditions included.
Rule 3: a write has three outcomes: it returns; it raises and changed nothing; or it raises
`OutcomeUnknownError`. A store that finds its own ``write_id`` under the key has written.
Rule 4: a change is recorded in the same step as its value.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from typing_extensions import override

from starfish_server.storage._carried_value import carried_value
from starfish_server.storage._checks import check_range
from starfish_server.storage._streamed_body import collect
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.changes import ChangeLog, ChangeRecord
from starfish_server.storage.errors import (
    NotSupportedError,
    OutcomeUnknownError,
    PreconditionFailedError,
)
from starfish_server.storage.keys import check_key
from starfish_server.storage.values import (
    ABSENT,
    ANY,
    TEXT_CONTENT_TYPE,
    Match,
    Metadata,
    Precondition,
    Removed,
    Stored,
    StoreLimits,
    Value,
    Written,
    check_limit,
    check_text,
)

__all__ = ("Delete", "Entry", "ObjectStore", "Step", "Write", "write_once")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a listing."""

    key: str
    metadata: Metadata
    """Of its value, which was not read."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write among the steps of `ObjectStore.apply`."""

    key: str
    value: Value
    when: Precondition = ANY
    change: ChangeRecord | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """One delete among the steps of `ObjectStore.apply`."""

    key: str
    when: Precondition = ANY
    change: ChangeRecord | None = None


Step: TypeAlias = Write | Delete
"""One of the steps that `ObjectStore.apply` does together."""


class ObjectStore(AbstractObjectStore):
    """A store of the second contract.

    A subclass implements the abstract calls; the others have a default in terms of those. The
    calls of `AbstractObjectStore` (`get_string`, `put_if_match`, …) work on every such store and
    are made of the new ones. ``context`` tells a store on whose behalf it is called and never
    changes the result.
    """

    can_apply = False
    """Whether `apply` does several keys in one step."""

    @property
    def is_shared(self) -> bool:
        """Whether several processes may use the storage at once."""
        return True

    @property
    def changes(self) -> ChangeLog | None:
        """The log of the recorded changes; ``None`` for a store that keeps none."""
        return None

    @property
    def limits(self) -> StoreLimits:
        """What the store can hold."""
        return StoreLimits()

    # Reading.

    @abstractmethod
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        """Read a value, ``None`` when the key has none or an expired one.

        Raises:
            InvalidKeyError: the key breaks the rule of `starfish_server.storage.keys`.
            StoreUnavailableError: the store does not answer.
        """

    async def get_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> dict[str, Stored]:
        """Read several values in one round trip; keys without a value are left out.

        Raises:
            InvalidKeyError: one of the keys breaks the rule; nothing was read.
            StoreUnavailableError: the store does not answer.
        """
        checked = [check_key(key) for key in keys]
        found = await asyncio.gather(*(self.get(key, context=context) for key in checked))
        return {key: value for key, value in zip(checked, found, strict=True) if value is not None}

    async def stat(self, key: str, *, context: StoreContext | None = None) -> Metadata | None:
        """Tell about a value without reading it; as `get`."""
        found = await self.get(key, context=context)
        return None if found is None else found.metadata

    async def read_range(
        self, key: str, first: int, last: int | None, *, context: StoreContext | None = None
    ) -> Stored | None:
        """Read a part of a value, at the cost of the part.

        Args:
            key: where the value is.
            first: offset of the first byte, from 0.
            last: offset of the last byte, included; ``None`` or a greater one for the end.
            context: on whose behalf.

        Returns:
            The part, which is empty beyond the end, with the metadata of the whole value.

        Raises:
            ValueError: an offset is negative.
        """
        check_range(first, last)
        found = await self.get(key, context=context)
        if found is None:
            return None
        return Stored(found.body[first : None if last is None else last + 1], found.metadata)

    @abstractmethod
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        """List keys that begin with ``prefix``, sorted by code point; no value is read.

        Args:
            prefix: the beginning of the keys; the empty string for all.
            after: only keys greater than this one.
            limit: at most so many; ``None`` for all.
            context: on whose behalf.

        Raises:
            InvalidKeyError: no key can begin with ``prefix`` or ``after``.
            ValueError: ``limit`` is negative.
            StoreUnavailableError: the store does not answer.
        """

    # Writing.

    @abstractmethod
    async def write(
        self,
        key: str,
        value: Value,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Written:
        """Set the value of a key if a condition holds; durable when this returns.

        Args:
            key: where to write.
            value: the bytes and the metadata beside them.
            when: what the key must hold.
            change: recorded in the log of the store in the same step; ignored by a store that
                keeps none.
            context: on whose behalf.

        Raises:
            PreconditionFailedError: the condition does not hold; nothing was changed.
            OutcomeUnknownError: the answer was lost; see there.
            ValueTooLargeError: the value is longer than `limits` allow.
            InvalidKeyError: the key breaks the rule.
            StoreUnavailableError: the store does not answer; nothing was changed.
        """

    async def write_stream(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        value: Value,
        *,
        when: Precondition = ANY,
        change: Callable[[str, int], ChangeRecord] | None = None,
        context: StoreContext | None = None,
    ) -> tuple[Written, Metadata]:
        """Set a value that comes in pieces, in memory that does not grow with it.

        Args:
            key: where to write.
            chunks: the pieces of the body; what they raise goes on, and nothing was written.
            value: the metadata beside the body; its own ``body`` is ignored. Without a ``hash``
                the store keeps the SHA-256 of the body.
            when: as in `write`; looked at when the last piece is there.
            change: makes the record from the hash and the size.
            context: on whose behalf.

        Returns:
            What the write did, and the metadata of the new value.

        Raises as `write`. A store that holds whole values in memory anyway collects the pieces.
        """
        whole = await collect(check_key(key), chunks, value, self.limits)
        record = None if change is None else change(whole.hash or "", len(whole.body))
        written = await self.write(key, whole, when=when, change=record, context=context)
        metadata = Metadata(
            etag=written.etag,
            size=len(whole.body),
            content_type=whole.content_type,
            hash=whole.hash,
            written_at=whole.written_at or 0,
            expires_at=whole.expires_at,
            write_id=whole.write_id,
            generation=written.generation,
        )
        return written, metadata

    @abstractmethod
    async def remove(
        self,
        key: str,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Removed:
        """Remove a key if a condition holds; durable when this returns.

        A change is recorded, as a tombstone, only when the key had a value. Raises as `write`.
        """

    async def apply(
        self, steps: Sequence[Step], *, context: StoreContext | None = None
    ) -> Sequence[Written | Removed]:
        """Do several writes and deletes in one step: all of them, or none.

        Raises:
            ValueError: two steps name one key.
            NotSupportedError: the store does one key at a time; see `can_apply`.
            PreconditionFailedError: a condition does not hold; nothing was changed.
            Others: as `write`.
        """
        done: list[Written | Removed] = []
        if len(steps) > 1:
            raise NotSupportedError(type(self).__name__, "several keys in one step")
        for step in steps:
            if isinstance(step, Write):
                done.append(
                    await self.write(
                        step.key, step.value, when=step.when, change=step.change, context=context
                    )
                )
            else:
                done.append(
                    await self.remove(step.key, when=step.when, change=step.change, context=context)
                )
        return done

    # Life.

    @abstractmethod
    async def ping(self) -> None:
        """Open the storage where that was not done, and return when it answers.

        Raises:
            StoreUnavailableError: it does not.
        """

    @abstractmethod
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        """Remove values that have expired, at most ``limit``; found by index.

        A value that was written again in between stays. Where the log holds a change of the key,
        a tombstone is recorded in the same step.

        Args:
            now: milliseconds since the epoch.
            limit: bound of one step, so that writes wait for one step at most.

        Returns:
            How many were removed; less than ``limit`` when none is left.
        """

    # The calls of the first contract.

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        found = await self.get(key, context=context)
        return None if found is None else found.text(key)

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        found = await self.get(key, context=context)
        return None if found is None else (found.text(key), found.metadata.etag)

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        found = await self.get(key, context=context)
        return None if found is None else (found.body, found.metadata.content_type)

    @override
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        value = _text_value(check_key(key), body, content_type, context)
        await self.write(key, value, change=_change_of(context), context=context)

    @override
    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        value = _value(bytes(body), content_type, context)
        await self.write(key, value, change=_change_of(context), context=context)

    @override
    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        value = _text_value(check_key(key), body, content_type, context)
        when = ABSENT if expected_etag is None else Match(expected_etag)
        try:
            written = await self.write(
                key, value, when=when, change=_change_of(context), context=context
            )
        except PreconditionFailedError:
            return None
        return written.etag

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        found = await self.scan(
            prefix, after=start_after, limit=check_limit(limit), context=context
        )
        return [entry.key for entry in found]

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        await self.remove(key, context=context)

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        checked = [check_key(key) for key in keys]
        if self.can_apply and checked:
            await self.apply([Delete(key) for key in dict.fromkeys(checked)], context=context)
        else:
            await asyncio.gather(*(self.remove(key, context=context) for key in checked))


async def write_once(
    store: ObjectStore,
    key: str,
    value: Value,
    *,
    when: Precondition = ANY,
    change: ChangeRecord | None = None,
    context: StoreContext | None = None,
) -> Written:
    """Write, and when the answer was lost read again and recognise the write by its number.

    A store that repeats a request by itself may be refused by its own first try; that is
    recognised as well. So a lost answer becomes neither a conflict with oneself nor a second write.

    Raises:
        OutcomeUnknownError: the write may still happen, or the store cannot be asked.
        Others: as `ObjectStore.write`.
    """
    try:
        return await store.write(key, value, when=when, change=change, context=context)
    except PreconditionFailedError as refused:
        if refused.current is None or refused.current.write_id != value.write_id:
            raise
        current = refused.current
    except OutcomeUnknownError:
        found = await store.stat(key, context=context)
        if found is None or found.write_id != value.write_id:
            raise
        current = found
    return Written(current.etag, current.generation)


def _text_value(
    key: str, body: str, content_type: str | None, context: StoreContext | None
) -> Value:
    return _value(check_text(key, body).encode(), content_type or TEXT_CONTENT_TYPE, context)


def _value(body: bytes, content_type: str, context: StoreContext | None) -> Value:
    carried = carried_value.get()
    if carried is not None:
        return replace(carried, body=body, content_type=content_type)
    version = None if context is None else context.version
    if version is None:
        return Value(body, content_type)
    return Value(body, content_type, hash=version.hash, written_at=version.timestamp)


def _change_of(context: StoreContext | None) -> ChangeRecord | None:
    if context is None or context.version is None:
        return None
    return ChangeRecord(
        context.collection,
        context.params,
        context.version.hash,
        context.version.timestamp,
        namespace=context.namespace,
        identity=context.identity,
    )
