"""The hash's bytes, one by one, so that another implementation can be checked against them."""

from __future__ import annotations

from uuid import UUID

import pytest
from blake3 import blake3

from starfish_watcher import ChainBrokenError, Coordinate, EventKind, EventStore
from starfish_watcher.hash_chain import NO_HASH, event_hash, hash_payload

FIELDS = {
    "sequence": 7,
    "clock": 2,
    "kind_code": 0xF001,
    "timestamp_us": 1_700_000_000_000_000,
    "event_id": UUID("018bcfe5-6800-7000-8000-000000000001").bytes,
    "correlation_id": UUID("018bcfe5-6800-7000-8000-000000000002").bytes,
    "causation_id": None,
    "entity": "account:1",
    "scope": "eu",
    "payload_hash": hash_payload(b"\x81\xa6amount\x05"),
}


def test_the_golden_example_has_its_hash() -> None:
    previous = bytes(range(32))

    assert FIELDS["payload_hash"].hex() == (
        "39450cb8390f45e3c380402a32686d68fba7af17c52c2bb1f2640bd11c3127c9"
    )
    assert event_hash(previous, **FIELDS).hex() == (
        "330a1f7fd15738a0969b61178d2a031f7ee05e2c7a87e0b482ba5b07ea8fa0ef"
    )


def test_the_golden_example_is_made_of_these_bytes() -> None:
    data = (
        bytes.fromhex(
            "73746172666973682d6576656e742d76310a"  # starfish-event-v1, newline
            + bytes(range(32)).hex()  # previous hash
            + "00000000000000070000000000000002"  # sequence, clock
            "f00100060a24181e4000"  # kind, microseconds
            "018bcfe5680070008000000000000001"  # event id
            "01018bcfe5680070008000000000000002"  # correlation id
            "0000000000000000000000000000000000"  # no causation id
            "00096163636f756e743a31"  # account:1
            "00026575"  # eu
        )
        + FIELDS["payload_hash"]
    )

    assert event_hash(bytes(range(32)), **FIELDS) == blake3(data).digest()


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_counts(field: str) -> None:
    value = FIELDS[field]
    other = (
        value + 1
        if isinstance(value, int)
        else bytes(16)
        if value is None
        else value[:-1] + type(value)("x" if isinstance(value, str) else b"x")
    )

    assert event_hash(NO_HASH, **FIELDS | {field: other}) != event_hash(NO_HASH, **FIELDS)
    assert event_hash(bytes(range(32)), **FIELDS) != event_hash(NO_HASH, **FIELDS)


def test_names_do_not_run_into_each_other() -> None:
    one = FIELDS | {"entity": "ab", "scope": "c"}
    other = FIELDS | {"entity": "a", "scope": "bc"}

    assert event_hash(NO_HASH, **one) != event_hash(NO_HASH, **other)


COLUMNS = {
    "payload": b"\xc0",
    "kind": 0xF002,
    "entity": "b",
    "scope": "us",
    "timestamp_us": 1,
    "event_id": bytes(16),
    "correlation_id": bytes(16),
    "previous_hash": bytes(range(32)),
    "event_hash": bytes(range(32)),
    "clock": 7,
}


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_a_changed_column_breaks_the_chain(column: str) -> None:
    with EventStore.memory() as store:
        for number in range(3):
            store.append(Coordinate("a", "eu"), EventKind(0xF001), number)
        log = store._log
        index = 1
        names = ["sequence", "entity", "scope", "clock", "kind", "event_id", "timestamp_us"]
        names += ["correlation_id", "causation_id", "payload", "previous_hash", "event_hash"]
        old = log._events[index]
        values = [getattr(old, name) for name in old.__struct_fields__]
        values[names.index(column)] = COLUMNS[column]
        log._events[index] = log._by_entity["a"][index] = type(old)(*values)

        with pytest.raises(ChainBrokenError, match="sequence"):
            store.verify_chain("a")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_missing_event_breaks_the_chain(index: int) -> None:
    with EventStore.memory() as store:
        for number in range(3):
            store.append(Coordinate("a", "eu"), EventKind(0xF001), number)
        del store._log._by_entity["a"][index]

        with pytest.raises(ChainBrokenError, match="but 2 are there"):
            store.verify_chain()
