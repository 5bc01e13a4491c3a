"""How much an application allows a queue to hold."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from starfish_outbox._queue.changes import Enqueue
from starfish_outbox._queue.pipeline import CommitPipeline
from starfish_outbox.errors import OutboxFullError


class Bounds:
    """Counts the entries that are stored or on their way, and refuses one too many.

    Another process that fills the same queue is seen as late as its entries are.

    Args:
        max_entries: entries that may be in the queue, whatever their status.
        max_bytes: bytes of JSON text of their items.
    """

    def __init__(self, max_entries: int | None, max_bytes: int | None) -> None:
        for name, value in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        self._allowed = {"max_entries": max_entries, "max_bytes": max_bytes}
        self.is_bounded = max_entries is not None or max_bytes is not None
        """Whether there is a bound at all."""
        self._pipeline: CommitPipeline | None = None
        self._on_their_way = [0, 0]

    def begin(self, pipeline: CommitPipeline) -> None:
        """Count the entries of another binding."""
        self._pipeline = pipeline
        self._on_their_way = [0, 0]

    @contextmanager
    def reserve(self, *changes: Enqueue) -> Generator[None]:
        """Room for entries while they are on their way.

        Raises:
            OutboxFullError: there is not enough.
        """
        if not self.is_bounded or self._pipeline is None:
            yield
            return
        known = self._pipeline.known
        new = [c for c in changes if known is None or c.id not in known]
        wanted = [len(new), sum(len(c.item_text) for c in new)]
        on_their_way = self._on_their_way
        for limit, stored, waiting, more in zip(
            self._allowed, self._pipeline.size(), on_their_way, wanted, strict=True
        ):
            allowed, would_be = self._allowed[limit], stored + waiting + more
            if more and allowed is not None and would_be > allowed:
                raise OutboxFullError(limit, allowed, would_be)
        for place, more in enumerate(wanted):
            on_their_way[place] += more
        try:
            yield
        finally:
            for place, more in enumerate(wanted):
                on_their_way[place] -= more
