"""Faults that a world is told to have, so that the model shows that it finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest import mock

from starfish_outbox._drain import one_pass
from starfish_outbox._push import own_pushes, sender, wire
from starfish_outbox._push.edit import hash_of
from starfish_outbox._push.merge import merge_three_ways, without_deletions
from starfish_outbox._queue.changes import Rest
from starfish_outbox._sqlite.lease import Lease, LeaseClock
from starfish_outbox._sqlite.row_changes import RowChanges
from starfish_outbox.errors import NotAuthorised, Refused, Unreachable
from starfish_outbox.testing import MemoryCache
from starfish_protocol.types import PullResult

Plant = Callable[[], "mock._patch[object]"]


def trust_every_answer() -> mock._patch[object]:
    real = wire.Wire.push

    async def push(self: wire.Wire, path: str, body: dict, base_hash: str | None) -> object:
        try:
            return await real(self, path, body, base_hash)
        except Unreachable as error:
            if "answered 2" in str(error):
                return wire.Accepted(hash_of(body))
            raise

    return mock.patch.object(wire.Wire, "push", push)


def trust_every_hash() -> mock._patch[object]:
    async def proof(
        self: object, edit: object, body: dict, base_hash: object, answer: object
    ) -> object:
        return PullResult(body, answer.hash, 0)

    return mock.patch.object(sender.PushSender, "_proof", proof)


def forget_own_pushes() -> mock._patch[object]:
    def merge(base: object, mine: dict, theirs: object, *, is_older: bool) -> dict:
        return {**mine, **theirs.data}

    return mock.patch.multiple(sender, _merge=merge, on_top_of=lambda own, edit: (edit, edit.body))


def bring_deleted_fields_back() -> mock._patch[object]:
    def merge(base: dict, mine: dict, theirs: dict, **options: object) -> object:
        return merge_three_ways(without_deletions(base, mine), mine, theirs, **options)

    return mock.patch.multiple(sender, merge_three_ways=merge)


def overwrite_the_edits_of_others() -> mock._patch[object]:
    return mock.patch.object(
        sender, "on_top_of", lambda own, edit: (replace(edit, base=own.server), edit.body)
    )


def count_outages_as_attempts() -> mock._patch[object]:
    real = one_pass.judge

    def judge(entry: object, error: Exception, **options: object) -> object:
        error = OSError(str(error)) if isinstance(error, Unreachable) else error
        return real(entry, error, **options)

    return mock.patch.object(one_pass, "judge", judge)


def take_a_credential_for_a_write() -> mock._patch[object]:
    real = one_pass.judge

    def judge(entry: object, error: Exception, **options: object) -> object:
        error = Refused(str(error)) if isinstance(error, NotAuthorised) else error
        return real(entry, error, **options)

    return mock.patch.object(one_pass, "judge", judge)


def trust_the_clock() -> mock._patch[object]:
    return mock.patch.object(Rest, "is_over", lambda self, now_ms: now_ms >= self.until)


def claim_twice() -> mock._patch[object]:
    real = RowChanges._is_fenced

    def is_fenced(self: RowChanges, change: object, found: object) -> bool:
        found = found._replace(state=found.state._replace(status="queued", owner=None))
        return real(self, change, found)

    def claim(
        self: RowChanges, connection: object, change: object, seq: int, pending: object
    ) -> object:
        connection.execute("DELETE FROM starfish_outbox_states WHERE seq = ?", (seq,))
        return real_claim(self, connection, change, seq, pending)

    real_claim = RowChanges._claim_fresh
    return mock.patch.multiple(RowChanges, _is_fenced=is_fenced, _claim_fresh=claim)


def measure_leases_by_the_wall_clock() -> mock._patch[object]:
    def is_over(self: LeaseClock, lease: Lease) -> bool:
        return Rest(lease.until, lease.length_ms).is_over(self._now_ms())

    return mock.patch.object(LeaseClock, "is_over", is_over)


def acknowledge_before_storing() -> mock._patch[object]:
    real = MemoryCache.set_item
    count = 0

    async def set_item(self: MemoryCache, key: str, value: str) -> None:
        nonlocal count
        count += 1
        if count % 5:
            await real(self, key, value)

    return mock.patch.object(MemoryCache, "set_item", set_item)


PLANTS: dict[str, Plant] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        trust_every_answer,
        trust_every_hash,
        forget_own_pushes,
        bring_deleted_fields_back,
        overwrite_the_edits_of_others,
        count_outages_as_attempts,
        take_a_credential_for_a_write,
        trust_the_clock,
        claim_twice,
        measure_leases_by_the_wall_clock,
        acknowledge_before_storing,
    )
}

__all__ = ("PLANTS", "own_pushes")
