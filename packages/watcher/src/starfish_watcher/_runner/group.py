"""One process's share of a runner: which partitions are its own, and the one step that commits.

Rule 1: a partition's position changes in the transaction of the effects, and only where owner and
position are the ones that this process knows; so an event has its effects once, whatever dies and
whatever the clocks say. Rule 2: leases decide who works, never who is right.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from blake3 import blake3

from starfish_protocol.events import Event
from starfish_watcher._model.event_types import relevant
from starfish_watcher._runner.book_view import BookView
from starfish_watcher._runner.records import Member, ParkedEvent, Place, Progress, Work
from starfish_watcher._runner.sink import Sink, SinkTransaction
from starfish_watcher._runner.view import View
from starfish_watcher.errors import RunnerError, ViewFailed, ViewMismatchError

__all__ = ("Group", "LeaseLostError")

_MAX_PARTITIONS: Final = 1024
_BY_OWNER: Final = "WHERE runner = ? AND owner = ?"


class LeaseLostError(Exception):
    """Another process works on a partition of this one's; nothing was written."""


class Group:
    """Enters a runner by its name, as one of any number of processes."""

    def __init__(  # noqa: PLR0917 - of one caller
        self,
        name: str,
        views: Sequence[View[Any]],
        sink: Sink,
        partitions: int,
        lease_s: float,
        owner: str | None,
    ) -> None:
        _check(name, views, partitions, lease_s)
        self.name = name
        self.views = tuple(views)
        self.sink = sink
        self.partitions = partitions
        self.lease_s = lease_s
        self.owner = owner or f"p{secrets.token_hex(8)}"
        self.places: dict[int, Place] = {}
        """Of the partitions that are this process's own."""
        self._due_at = 0.0
        self._entered = False

    def enter(self) -> None:
        """Make the rows of the runner and the tables of its views, or compare them with this runner.

        Raises:
            ViewMismatchError: the sink has other views, versions or partitions under this name.
        """
        if self._entered:
            return
        described = json.dumps({view.name: view.version for view in self.views}, sort_keys=True)
        with self.sink.transaction() as t:
            new = t.execute(
                "INSERT INTO starfish_runner VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING"
                " RETURNING name",
                self.name,
                self.partitions,
                described,
            )
            if new:
                for number in range(self.partitions):
                    t.execute(
                        "INSERT INTO starfish_runner_position VALUES (?, ?, 0, '', NULL, 0, 0)",
                        self.name,
                        number,
                    )
                for view in self.views:
                    self._own_code(t, view, view.prepare)
            ((partitions, views),) = t.execute(
                "SELECT partitions, views FROM starfish_runner WHERE name = ?", self.name
            )
            if partitions != self.partitions:
                raise ViewMismatchError(
                    self.name, f"it has {partitions} partitions, not {self.partitions}"
                )
            if views != described:
                raise ViewMismatchError(
                    self.name, f"its tables are of the views {views}, not {described}"
                )
        self._entered = True

    @property
    def due(self) -> bool:
        """Whether `refresh` should be called."""
        return time.monotonic() >= self._due_at

    def refresh(self) -> None:
        """Say that this process lives, and take or give up partitions for a fair share."""
        with self.sink.transaction() as t:
            until = t.now_ms + int(self.lease_s * 1000)
            t.execute("UPDATE starfish_runner SET name = name WHERE name = ?", self.name)
            t.execute(
                "INSERT INTO starfish_runner_member VALUES (?, ?, ?)"
                " ON CONFLICT (runner, owner) DO UPDATE SET lease_ms = excluded.lease_ms",
                self.name,
                self.owner,
                until,
            )
            t.execute(
                "DELETE FROM starfish_runner_member WHERE runner = ? AND lease_ms < ?",
                self.name,
                t.now_ms,
            )
            ((members,),) = t.execute(
                "SELECT count(*) FROM starfish_runner_member WHERE runner = ?", self.name
            )
            share = math.ceil(self.partitions / members)
            rows = t.execute(
                "SELECT partition_number, owner, lease_ms FROM starfish_runner_position"
                " WHERE runner = ? ORDER BY partition_number",
                self.name,
            )
            mine = [number for number, owner, _ in rows if owner == self.owner]
            free = [number for number, owner, lease in rows if owner is None or lease < t.now_ms]
            free = [number for number in free if number not in mine]
            for number in mine[share:]:
                self._hand_over(t, number, None, 0)
            for number in free[: max(0, share - len(mine))]:
                self._hand_over(t, number, self.owner, until)
            t.execute(
                f"UPDATE starfish_runner_position SET lease_ms = ? {_BY_OWNER}",  # noqa: S608 - a constant
                until,
                self.name,
                self.owner,
            )
            places = self._own_places(t)
        self.places = places
        self._due_at = time.monotonic() + self.lease_s / 3

    def _hand_over(self, t: SinkTransaction, number: int, owner: str | None, until: int) -> None:
        t.execute(
            "UPDATE starfish_runner_position SET owner = ?, lease_ms = ?"
            " WHERE runner = ? AND partition_number = ?",
            owner,
            until,
            self.name,
            number,
        )

    def _own_places(self, t: SinkTransaction) -> dict[int, Place]:
        rows = t.execute(
            f"SELECT partition_number, sequence, position FROM starfish_runner_position {_BY_OWNER}",  # noqa: S608 - a constant
            self.name,
            self.owner,
        )
        return {number: Place(sequence, position) for number, sequence, position in rows}

    def leave(self) -> None:
        """Give up everything, so that others need not wait for the lease to end."""
        self.places = {}
        self._due_at = 0.0
        if not self._entered:
            return
        with self.sink.transaction() as t:
            t.execute(
                f"UPDATE starfish_runner_position SET owner = NULL, lease_ms = 0 {_BY_OWNER}",  # noqa: S608 - a constant
                self.name,
                self.owner,
            )
            t.execute(f"DELETE FROM starfish_runner_member {_BY_OWNER}", self.name, self.owner)  # noqa: S608 - a constant

    def ours(self, events: Sequence[Event]) -> list[Event]:
        """The events of the partitions of this process that had no effects yet."""
        found: list[Event] = []
        for event in events:
            place = self.places.get(partition_of(event.entity, self.partitions))
            if place is not None and place.sequence < event.sequence:
                found.append(event)
        return found

    def commit(self, work: Work, *, parking: bool) -> Progress:
        """Apply the events that are this process's, and move its positions, all or nothing.

        Args:
            work: The events of one page, and where they lead to.
            parking: Whether an event that a view cannot take is recorded, and the next one follows.

        Raises:
            LeaseLostError: a partition is not this process's any more, or was moved.
            ViewFailed: a view could not take an event, and that is not to be recorded.
            WatcherError: the storage refused.
        """
        events = self.ours(work.events)
        with self.sink.transaction() as t:
            t.execute(
                f"UPDATE starfish_runner_position SET lease_ms = ? {_BY_OWNER}",  # noqa: S608 - a constant
                t.now_ms + int(self.lease_s * 1000),
                self.name,
                self.owner,
            )
            if self._own_places(t) != self.places:
                raise LeaseLostError
            parked = sum(self._apply(t, view, events, parking=parking) for view in self.views)
            counts = dict.fromkeys(self.places, 0)
            for event in events:
                counts[partition_of(event.entity, self.partitions)] += 1
            moved = {
                number: work.place
                for number, place in self.places.items()
                if place.sequence < work.place.sequence
            }
            for number in moved:
                t.execute(
                    "UPDATE starfish_runner_position SET sequence = ?, position = ?,"
                    " events = events + ? WHERE runner = ? AND partition_number = ?",
                    *work.place,
                    counts[number],
                    self.name,
                    number,
                )
        self.places.update(moved)
        return Progress(len(events), parked)

    def _apply(
        self, t: SinkTransaction, view: View[Any], events: Sequence[Event], *, parking: bool
    ) -> int:
        relevant = _relevant(view, events)
        if not relevant:
            return 0
        skipped = {
            row[0]
            for row in t.execute(
                "SELECT sequence FROM starfish_runner_parked"
                " WHERE runner = ? AND view_name = ? AND sequence BETWEEN ? AND ?",
                self.name,
                view.name,
                relevant[0].sequence,
                relevant[-1].sequence,
            )
        }
        wanted = [event for event in relevant if event.sequence not in skipped]
        tables = self._tables(t, view)
        try:
            with t.part():
                view.apply_all(tables, wanted)
        except Exception as error:
            if (ours := self.sink.outage(error)) is not None:
                raise ours from error
        else:
            return 0
        parked = 0
        for event in wanted:
            try:
                with t.part():
                    view.apply(tables, event)
            except Exception as error:
                if (ours := self.sink.outage(error)) is not None:
                    raise ours from error
                failed = ViewFailed(self.name, view.name, error, event)
                if not parking:
                    raise failed from error
                self._park(t, view.name, event, _told(error), 1)
                parked += 1
        return parked

    def _park(
        self, t: SinkTransaction, view: str, event: Event | int, reason: str, attempts: int
    ) -> None:
        known = not isinstance(event, int)
        t.execute(
            "INSERT INTO starfish_runner_parked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (runner, view_name, sequence) DO UPDATE SET reason = excluded.reason",
            self.name,
            view,
            event.sequence if not isinstance(event, int) else event,
            event.entity if not isinstance(event, int) else "",
            str(event.kind) if not isinstance(event, int) else "",
            str(getattr(event, "event_id", "")) if known else "",
            reason[:2000],
            t.now_ms,
            attempts,
        )

    def park(self, sequence: int, reason: str, view: str | None) -> None:
        """Have the views, or one, pass over an event that has not come yet.

        Raises:
            RunnerError: it had its effects already, or the view is unknown.
        """
        names = [each.name for each in self.views if view in (None, each.name)]
        if not names:
            raise RunnerError(self.name, f"it has no view {view!r}")
        with self.sink.transaction() as t:
            ((least,),) = t.execute(
                "SELECT max(sequence) FROM starfish_runner_position WHERE runner = ?", self.name
            )
            if least is not None and sequence <= least:
                reason = f"event {sequence} cannot be parked: it may have had its effects already"
                raise RunnerError(self.name, reason)
            for each in names:
                self._park(t, each, sequence, reason, 0)

    def parked(self) -> list[ParkedEvent]:
        """All parked events, by sequence."""
        with self.sink.transaction() as t:
            rows = t.execute(
                "SELECT view_name, sequence, entity, kind, event_id, reason, parked_ms, attempts"
                " FROM starfish_runner_parked WHERE runner = ? ORDER BY sequence, view_name",
                self.name,
            )
        return [ParkedEvent(*row) for row in rows]

    def retry(self, parked: ParkedEvent, event: Event | None) -> bool:
        """Apply a parked event; whether it had its effects, and is not parked any more."""
        view = next((each for each in self.views if each.name == parked.view), None)
        if view is None or event is None or event.sequence != parked.sequence:
            return False
        key = (self.name, parked.view, parked.sequence)
        of_key = "WHERE runner = ? AND view_name = ? AND sequence = ?"
        failed: Exception | None = None
        with self.sink.transaction() as t:
            ((reached,),) = t.execute(
                "SELECT sequence FROM starfish_runner_position"
                " WHERE runner = ? AND partition_number = ?",
                self.name,
                partition_of(event.entity, self.partitions),
            )
            if reached < event.sequence:
                return False
            # First, so that of two processes that do this one finds nothing.
            if not t.execute(
                f"DELETE FROM starfish_runner_parked {of_key} RETURNING sequence",  # noqa: S608 - a constant
                *key,
            ):
                return False
            try:
                with t.part():
                    view.apply(self._tables(t, view), event)
            except Exception as error:
                if (ours := self.sink.outage(error)) is not None:
                    raise ours from error
                failed = error
                self._park(t, view.name, event, _told(error), parked.attempts + 1)
        return failed is None

    def members(self) -> list[Member]:
        """All partitions."""
        with self.sink.transaction() as t:
            rows = t.execute(
                "SELECT partition_number, sequence, owner, lease_ms, events"
                " FROM starfish_runner_position WHERE runner = ? ORDER BY partition_number",
                self.name,
            )
        return [Member(*row) for row in rows]

    def reset(self) -> None:
        """Forget the runner and clear its views' tables.

        Raises:
            RunnerError: another process works on it.
        """
        with self.sink.transaction() as t:
            busy = t.execute(
                "SELECT owner FROM starfish_runner_member"
                " WHERE runner = ? AND owner <> ? AND lease_ms >= ?",
                self.name,
                self.owner,
                t.now_ms,
            )
            if busy:
                raise RunnerError(self.name, f"{busy[0][0]} works on it: stop it first")
            for view in self.views:
                self._own_code(t, view, view.clear)
            for table in ("position", "member", "parked", "state"):
                t.execute(f"DELETE FROM starfish_runner_{table} WHERE runner = ?", self.name)  # noqa: S608 - names of this module
            t.execute("DELETE FROM starfish_runner WHERE name = ?", self.name)
        self._entered = False
        self.places = {}
        self._due_at = 0.0

    def _own_code(self, t: SinkTransaction, view: View[Any], call: Callable[[Any], object]) -> None:
        try:
            with t.part():
                call(self._tables(t, view))
        except Exception as error:
            if (ours := self.sink.outage(error)) is not None:
                raise ours from error
            reason = f"{call.__name__}() of view {view.name!r} failed: {_told(error)}"
            raise RunnerError(self.name, reason) from error

    def _tables(self, t: SinkTransaction, view: View[Any]) -> Any:
        return (self.name, t) if isinstance(view, BookView) else t.tables


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@lru_cache(maxsize=65_536)
def partition_of(entity: str, partitions: int) -> int:
    """The partition of an entity: the same in every process and release."""
    if partitions == 1:
        return 0
    return int.from_bytes(blake3(entity.encode(errors="surrogatepass")).digest(4)) % partitions


def _relevant(view: View[Any], events: Sequence[Event]) -> Sequence[Event]:
    if not view.relevant_kinds:
        return events
    kinds = relevant(view.relevant_kinds)
    return [event for event in events if event.kind in kinds]


def _check(name: object, views: Sequence[View[Any]], partitions: int, lease_s: float) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        msg = f"name of a runner must be a text of 1 to 200 characters, not {name!r:.80}"
        raise ValueError(msg)
    if not 1 <= partitions <= _MAX_PARTITIONS:
        msg = f"partitions must be from 1 to {_MAX_PARTITIONS}, not {partitions}"
        raise ValueError(msg)
    if not 0.1 <= lease_s <= 3600:
        msg = f"lease_s must be from 0.1 to 3600, not {lease_s}"
        raise ValueError(msg)
    names = [getattr(view, "name", None) for view in views]
    for each in names:
        if not isinstance(each, str) or not each:
            msg = f"each view must have a name, a text; one has {each!r:.80}"
            raise ValueError(msg)
    if not names or len(set(names)) < len(names):
        msg = f"a runner must have at least one view, each with a name of its own, not {names}"
        raise ValueError(msg)
