"""Calls about the log: follow it, verify it, sign it, prove a package by it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from uuid import UUID

from starfish_artifact_registry.errors import InvalidValueError
from starfish_artifact_registry.log._hash_chain import LogReport, verify_log
from starfish_artifact_registry.log._log import head_of_log
from starfish_artifact_registry.log._source import LogSource
from starfish_artifact_registry.log._tail import POLL_INTERVAL_S, tail
from starfish_artifact_registry.log._tiles import TILE_WIDTH, TreeReader, read_leaves
from starfish_artifact_registry.model._checkpoint import Checkpoint, sign_checkpoint
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._merkle import consistency_proof
from starfish_artifact_registry.model._tree_head import TreeHead
from starfish_artifact_registry.proof._export import export_proof
from starfish_artifact_registry.registry._parts import RegistryParts
from starfish_artifact_registry.views._audit import Difference, audit

__all__ = ("AuditReport", "LogCalls")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings of an audit."""

    differences: tuple[Difference, ...]
    """Each place that is not as it must be, in no particular order."""

    @property
    def ok(self) -> bool:
        """Whether there is none."""
        return not self.differences


class LogCalls(RegistryParts):
    """The log and its proofs."""

    def tail_events(
        self, since_sequence: int = 0, poll_interval_seconds: float = POLL_INTERVAL_S
    ) -> AsyncGenerator[Event]:
        """Every event above ``since_sequence``, in order, and then each as it is committed.

        Does not end. To go on later, begin after the last event that was dealt with. PostgreSQL
        and commits of this registry wake the reader; on SQLite other processes are noticed by
        asking. A slow reader holds nothing up and nothing in memory.

        Args:
            since_sequence: 0 for all events.
            poll_interval_seconds: how often SQLite is asked.

        Raises:
            DatabaseUnavailableError: the database is gone.
            InvalidValueError: an argument is not legal.
        """
        return tail(self._database, self._head, since_sequence, poll_interval_seconds)

    @property
    def event_source(self) -> LogSource:
        """The log as an event source of `starfish_protocol.events`."""
        return LogSource(self._database, self._head)

    async def verify_log(
        self, *, checkpoints: Collection[Checkpoint] = (), trusted_keys: Collection[str] = ()
    ) -> LogReport:
        """Walk the chain of digests from the first event to the last; memory is bounded.

        Args:
            checkpoints: of this log, kept elsewhere: a log that was rewritten or cut since does not
                agree with them.
            trusted_keys: with any, each checkpoint must be signed by one of them; without, its
                signature must fit the key that it names.

        Raises:
            CheckpointError: the signature of a checkpoint is wrong, or not by a trusted key.
            DatabaseUnavailableError: the database does not answer.
        """
        for checkpoint in checkpoints:
            if trusted_keys:
                checkpoint.verify(trusted_keys)
            else:
                checkpoint.verify_signature()
        page_size = self._limits.replay_page
        return await verify_log(self._database, self._view_writer.position, page_size, checkpoints)

    async def audit(self) -> AuditReport:
        """Compare histories, tables and triggers with the log; the chain is `verify_log`'s.

        The history of each package must be one that the rules allow: nothing deleted under hold or
        before its date, finalized twice, added to after its end, or sealed with a manifest that is
        not the sum of its events. Each row of each table must be the one that the events come to.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        return AuditReport(tuple([each async for each in audit(self._database)]))

    async def sign_checkpoint(self, private_key: str) -> Checkpoint:
        """Sign what the end of the log is; keep the result where no writer of the database can.

        The log is not verified here. Needs the extra ``signing``.

        Args:
            private_key: Ed25519 private key (RFC 8032 seed), 64 lowercase hex digits.

        Raises:
            CheckpointError: the log is empty.
            DatabaseUnavailableError: the database does not answer.
            ImportError: the extra is not installed.
            ValueError: the key is malformed.
        """
        async with self._database.read() as connection:
            head = await head_of_log(connection)
            root_hash = await TreeReader(connection, head.sequence).root()
        return sign_checkpoint(
            head.sequence,
            head.event_digest,
            root_hash=root_hash,
            created_at=self._clock.now(),
            private_key=private_key,
        )

    async def tree_head(self, origin: str) -> TreeHead:
        """How far the log has grown, as transparency logs say it; `sign_note` signs its text.

        Args:
            origin: name of this log, without white space and plus signs; never changed later.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        async with self._database.read() as connection:
            size = (await head_of_log(connection)).sequence
            root_hash = await TreeReader(connection, size).root()
        return TreeHead(origin, size, root_hash)

    async def read_entries(self, position: int) -> tuple[int, list[bytes]]:
        """The records of the events below a tile of level 0, and the size of the tree.

        Args:
            position: which tile, from 0.

        Raises:
            InvalidValueError: the log does not reach there.
        """
        async with self._database.read() as connection:
            size = (await head_of_log(connection)).sequence
            if not 0 <= position * TILE_WIDTH < size:
                raise InvalidValueError("tile", position, f"a tile of the tree of {size} events")
            end = min(size, (position + 1) * TILE_WIDTH)
            return size, await read_leaves(connection, position * TILE_WIDTH, end)

    async def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """The hashes that show that the log of ``new`` events begins with that of ``old``.

        `starfish_artifact_registry.proof.verify_consistency` checks them against the roots of two
        checkpoints.

        Args:
            old: events of the earlier checkpoint, 1 or more.
            new: events of the later one.

        Raises:
            InvalidValueError: the log has no such lengths, in this order.
        """
        async with self._database.read() as connection:
            head = await head_of_log(connection)
            if not 1 <= old <= new <= head.sequence:
                raise InvalidValueError(
                    "old, new", (old, new), f"two lengths of a log of {head.sequence} events"
                )
            tree = TreeReader(connection, new)
            gaps: list[tuple[int, int]] = []

            def note(start: int, end: int) -> bytes:
                gaps.append((start, end))
                return b""

            consistency_proof(old, new, note)
            for start, end in gaps:
                await tree.load(start, end)
            return consistency_proof(old, new, tree.subtree)

    async def read_tile(self, level: int, position: int) -> tuple[int, list[bytes]]:
        """A tile of the Merkle tree (C2SP ``tlog-tiles``) and the size of the tree.

        Args:
            level: 0 for the hashes of the events, each level above for those of whole tiles.
            position: which tile of the level, from 0.

        Raises:
            InvalidValueError: the log does not reach there.
        """
        async with self._database.read() as connection:
            size = (await head_of_log(connection)).sequence
            if not 0 <= level <= 7 or not 0 <= position * 256 ** (level + 1) < size:
                raise InvalidValueError(
                    "tile", (level, position), f"a tile of the tree of {size} events"
                )
            return size, await TreeReader(connection, size).tile(level, position)

    async def export_proof(
        self, package_id: UUID, *, checkpoint: Checkpoint | None = None
    ) -> bytes:
        """A file that proves what a finalized package holds, without the registry.

        `starfish_artifact_registry.proof._verify.verify_proof` checks it; that module describes it.

        Args:
            package_id: of the package; it may have been deleted since.
            checkpoint: a signed one, that the proof then reaches to and holds; without one it
                reaches to the end of the log.

        Raises:
            IllegalPackageStateError: the package is not finalized.
            LogDamagedError: an event on the way is not as it was written.
            PackageNotFoundError: there is no such package.
            ProofError: the checkpoint is of another log, or older than the manifest.
        """
        async with self._database.read() as connection:
            return await export_proof(
                connection,
                package_id,
                checkpoint=checkpoint,
                page_size=self._limits.replay_page,
            )
