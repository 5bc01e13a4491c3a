"""Calls about the log: follow it, verify it, sign it, prove a package by it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from uuid import UUID

from starfish_artifact_registry.log._hash_chain import LogReport, verify_log
from starfish_artifact_registry.log._log import head_of_log
from starfish_artifact_registry.log._source import LogSource
from starfish_artifact_registry.log._tail import POLL_INTERVAL_S, tail
from starfish_artifact_registry.model._checkpoint import Checkpoint, sign_checkpoint
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.proof._export import export_proof
from starfish_artifact_registry.registry._parts import RegistryParts

__all__ = ("LogCalls",)


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
            trusted_keys: with any, each checkpoint must be signed by one of them.

        Raises:
            CheckpointError: nobody trusted signed a checkpoint.
            DatabaseUnavailableError: the database does not answer.
        """
        if trusted_keys:
            for checkpoint in checkpoints:
                checkpoint.verify(trusted_keys)
        page_size = self._limits.replay_page
        return await verify_log(self._database, self._view_writer.position, page_size, checkpoints)

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
        return sign_checkpoint(
            head.sequence,
            head.event_digest,
            created_at=self._clock.now(),
            private_key=private_key,
        )

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
