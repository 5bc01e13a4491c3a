"""Names, versions and upcasters of event types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher import (
    Coordinate,
    EventKind,
    EventStore,
    EventTypeError,
    NewEvent,
    Projection,
    ProjectionFailed,
    SnapshotCache,
    event,
    kind_of,
    upcast,
)
from starfish_watcher._model import event_types

HERE = Coordinate("account:1", "eu")
KIND = EventKind.custom(0xF, 0x321)


@contextmanager
def release() -> Iterator[None]:
    """A program that knows no event types but those that the block registers."""
    names, classes = dict(event_types._by_name), dict(event_types._by_class)
    event_types._by_name.clear()
    event_types._by_class.clear()
    event_types._registrations[0] += 1
    try:
        yield
    finally:
        event_types._by_name.clear()
        event_types._by_name.update(names)
        event_types._by_class.clear()
        event_types._by_class.update(classes)
        event_types._registrations[0] += 1


@pytest.fixture(autouse=True)
def own_types() -> Iterator[None]:
    with release():
        yield


def release_1() -> type[Any]:
    @event("moved", version=1, kind=KIND)
    class Moved(msgspec.Struct):
        cents: int
        who: str = ""

    return Moved


def release_3() -> type[Any]:
    @event("moved", version=3, kind=KIND)
    class Moved(msgspec.Struct):
        amount: Annotated[int, msgspec.Meta(ge=0)]
        currency: str
        owner: str

    @upcast("moved", 1)
    def _named(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["cents"], "owner": old["who"] or "nobody"}

    @upcast("moved", 2)
    def _in_euro(old: dict[str, Any]) -> dict[str, Any]:
        return {"amount": old["cents"], "currency": "EUR", "owner": old["owner"]}

    return Moved


class Total(Projection[dict[str, int]]):
    name = "total"
    relevant_kinds = (KIND,)

    def initial(self) -> dict[str, int]:
        return {}

    def apply(self, state: dict[str, int], event: Any) -> dict[str, int]:
        moved = event.payload
        key = f"{moved.owner} {moved.currency}"
        return {**state, key: state.get(key, 0) + moved.amount}


class RawTotal(Total):
    name = "raw total"
    lane = "raw"

    def apply(self, state: dict[str, int], event: Any) -> dict[str, int]:
        moved = msgspec.msgpack.decode(event.payload)
        key = f"{moved['owner']} {moved['currency']}"
        return {**state, key: state.get(key, 0) + moved["amount"]}


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.sampled_from(["", "ada", "bob"])), max_size=20),
    st.lists(st.integers(0, 2**40), max_size=5),
)
def test_what_version_1_wrote_reads_as_version_3(
    old: list[tuple[int, str]], new: list[int]
) -> None:
    with EventStore.memory() as store:
        with release():
            first = release_1()
            for cents, who in old:
                store.append(HERE, first(cents, who))
        with release():
            third = release_3()
            watcher = store.watch_projection(Total, HERE.entity)
            for amount in new:
                store.append(HERE, third(amount, "USD", "eve"))

            wanted = [third(cents, "EUR", who or "nobody") for cents, who in old]
            wanted += [third(amount, "USD", "eve") for amount in new]
            totals: dict[str, int] = {}
            for moved in wanted:
                key = f"{moved.owner} {moved.currency}"
                totals[key] = totals.get(key, 0) + moved.amount
            assert [each.payload for each in store.read()] == wanted
            assert store.project(Total, HERE.entity) == (totals or None)
            assert store.project(RawTotal, HERE.entity) == (totals or None)
            if new:
                assert watcher.recv(timeout=5).state == totals
            versions = [each.type_version for each in store.read()]
            assert versions == [1] * len(old) + [3] * len(new)
            assert store.verify_chain().events == len(wanted)


def test_a_cached_state_ends_with_the_upcasters_that_made_it(tmp_path: Path) -> None:
    def state(factor: int) -> Any:
        cache = SnapshotCache(tmp_path / "cache.db", min_events=1)
        with release(), EventStore.open(tmp_path / "events.db", snapshots=cache) as store:
            release_3()

            def euro(old: dict[str, Any]) -> dict[str, Any]:
                return {"amount": old["cents"] * factor, "currency": "EUR", "owner": "x"}

            event_types._by_name["moved"].upcasters[2] = euro
            return store.project(Total, HERE.entity)

    with release(), EventStore.open(tmp_path / "events.db") as store:
        store.append(HERE, release_1()(5))

    assert [state(1), state(1), state(10)] == [{"x EUR": 5}, {"x EUR": 5}, {"x EUR": 50}]


def test_another_process_reads_what_an_older_release_wrote(tmp_path: Path) -> None:
    program = (
        "import sys, msgspec\n"
        "from starfish_watcher import *\n"
        "@event('moved', version=int(sys.argv[1]))\n"
        "class Moved(msgspec.Struct):\n"
        "    cents: int\n"
        "if sys.argv[1] == '2': upcast('moved', 1)(lambda old: {'cents': old['cents'] * 100})\n"
        "with EventStore.open(sys.argv[2]) as store:\n"
        "    store.append(Coordinate('a', 'eu'), Moved(int(sys.argv[1])))\n"
        "    print([event.payload.cents for event in store.read()])\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program, version, tmp_path / "events.db"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for version in ("1", "2")
    ]
    assert printed == ["[1]", "[100, 2]"]


def test_a_payload_is_checked_when_it_is_appended() -> None:
    third = release_3()
    with EventStore.memory() as store:
        with pytest.raises(EventTypeError, match=r"'moved', version 3: .*>= 0.*amount"):
            store.append(HERE, third(-1, "EUR", "x"))
        with pytest.raises(EventTypeError, match="item 1 of the batch") as raised:
            store.append_batch([(HERE, third(1, "EUR", "x")), (HERE, third("1", "EUR", "x"))])
        assert (raised.value.name, raised.value.version, raised.value.item) == ("moved", 3, 1)
        with pytest.raises(TypeError, match="payload must not be given"):
            store.append(HERE, third(1, "EUR", "x"), {"amount": 1})
        assert store.last_sequence() == 0


def test_what_is_not_registered_is_refused_by_name() -> None:
    class Unknown(msgspec.Struct):
        pass

    with EventStore.memory() as store:
        with pytest.raises(TypeError, match="Unknown is not an event type"):
            store.append(HERE, Unknown())
        with pytest.raises(TypeError, match="kind must be an EventKind or a typed event, not a"):
            store.append(HERE, "moved")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"key '\$type'; keys must not begin with"):
            store.append(HERE, KIND, metadata={"$type": "moved@1"})


def test_an_event_of_a_later_release_is_an_error_that_names_it() -> None:
    with EventStore.memory() as store:
        with release():
            store.append(HERE, release_3()(1, "EUR", "x"))
        with release():
            release_1()
            (found,) = store.read()
            with pytest.raises(EventTypeError, match=r"'moved', version 3: .* up to 1"):
                _ = found.payload
            with pytest.raises(ProjectionFailed) as raised:
                store.project(Total, HERE.entity)
            assert raised.value.sequence == 1
            assert isinstance(raised.value.__cause__, EventTypeError)


def test_a_missing_or_failing_step_is_an_error_that_names_it() -> None:
    with EventStore.memory() as store:
        with release():
            store.append(HERE, release_1()(1))
        with release():
            release_3()
            del event_types._by_name["moved"].upcasters[2]
            with pytest.raises(EventTypeError, match="no upcaster leads from version 2 to 3"):
                _ = store.read()[0].payload
        with release():
            release_3()
            event_types._by_name["moved"].upcasters[1] = lambda old: old["nothing"]
            with pytest.raises(EventTypeError, match="from version 1 failed: KeyError"):
                _ = store.read()[0].payload
        with release():
            release_3()
            event_types._by_name["moved"].upcasters[2] = lambda old: old
            with pytest.raises(EventTypeError, match="do not give version 3"):
                _ = store.read()[0].payload


def test_an_event_of_an_unknown_type_is_read_as_plain_values() -> None:
    with EventStore.memory() as store:
        with release():
            store.append(HERE, release_3()(1, "EUR", "x"))
        assert store.read()[0].payload == {"amount": 1, "currency": "EUR", "owner": "x"}
        assert store.read()[0].type_name == "moved"


def test_upcasters_alone_bring_plain_values_up() -> None:
    with EventStore.memory() as store:
        with release():
            store.append(HERE, release_1()(7))
        upcast("moved", 1)(lambda old: {"total": old["cents"]})
        assert store.read()[0].payload == {"total": 7}


def test_dataclasses_and_rich_fields() -> None:
    @event("seen.at-1")
    @dataclass(frozen=True)
    class Seen:
        when: datetime
        tags: tuple[str, ...] = ()

    seen = Seen(datetime(2026, 1, 2, tzinfo=UTC), ("a",))
    with EventStore.memory() as store:
        store.append_batch([NewEvent(HERE, seen, idempotency_key="k"), (HERE, seen)])
        assert [each.payload for each in store.read()] == [seen, seen]
        assert {each.kind for each in store.read()} == {kind_of(Seen)}
        assert kind_of(Seen).category == 0xE


def test_names_versions_and_kinds_that_are_refused() -> None:
    release_1()
    for name in ("", ".x", "a b", "a@1", "é", "x" * 201, None):
        with pytest.raises(ValueError, match="event type name"):
            event(name)  # type: ignore[arg-type]
    for version in (0, -1, True, "1"):
        with pytest.raises(ValueError, match="version of event type 'x'"):
            event("x", version=version)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a msgspec\.Struct or a dataclass"):
        event("x")(int)
    with pytest.raises(TypeError, match="neither an EventKind nor a class"):
        kind_of(int)
    with pytest.raises(ValueError, match="'moved' is registered already"):

        @event("moved")
        class Other(msgspec.Struct):
            pass

    with pytest.raises(ValueError, match="nothing follows 1"):
        upcast("moved", 1)(lambda old: old)

    def many() -> None:
        for number in range(5000):
            event(f"type{number}")(msgspec.defstruct(f"Type{number}", []))

    with pytest.raises(ValueError, match="would both have kind"):
        many()
