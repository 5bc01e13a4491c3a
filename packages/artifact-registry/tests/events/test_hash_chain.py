"""Damage is found and named by the first event that is not as it was written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.model._event_digest import (
    GENESIS_DIGEST,
    event_digest,
    payload_digest,
    record_digest,
)
from starfish_artifact_registry.registry import Registry
from starfish_protocol import cbor

Change = Callable[..., Awaitable[None]]
BINARY = ("payload", "payload_digest", "prev_digest", "event_digest")
TEXTS = ("event_id", "package_id", "event_type", "actor", "created_at")


@pytest.fixture
def without_triggers(engine: AsyncEngine) -> Change:
    """Do to the log what the database refuses, as the owner of the file may."""

    async def change(*statements: str, **values: Any) -> None:
        off, on = {
            "sqlite": (
                [
                    f"DROP TRIGGER IF EXISTS events_refuse_{what}"
                    for what in ("update", "delete", "replace")
                ],
                [],
            ),
            "postgresql": (
                ["ALTER TABLE events DISABLE TRIGGER ALL"],
                ["ALTER TABLE events ENABLE TRIGGER ALL"],
            ),
        }[engine.dialect.name]
        async with engine.begin() as connection:
            for statement in (*off, *statements, *on):
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                await connection.execute(text(statement), used)

    return change


@pytest.fixture
async def filled(
    registry: Registry, package_fields: dict[str, Any], ingest: Callable[..., Awaitable[UUID]]
) -> Registry:
    """Six events."""
    package_id = await registry.create_package(**package_fields, metadata={"run": 7})
    for path in "abcd":
        await ingest(registry, package_id, path)
    await registry.finalize_package(package_id, actor="grace")
    return registry


COPY = (
    "INSERT INTO events SELECT {sequence}, {event_id}, package_id, event_type, payload,"
    " payload_digest, prev_digest, event_digest, actor, created_at FROM events WHERE sequence = 3"
)


@pytest.mark.parametrize(
    ("statements", "first_broken", "reason"),
    [
        (["UPDATE events SET actor = 'eve' WHERE sequence = 3"], 3, "envelope"),
        (["DELETE FROM events WHERE sequence = 4"], 4, "missing; 5 is next"),
        (["DELETE FROM events WHERE sequence = 1"], 1, "missing; 2 is next"),
        (["DELETE FROM events WHERE sequence >= 5"], 5, "views know of event 6"),
        (["DELETE FROM events"], 1, "views know of event 6"),
        (
            [
                "UPDATE events SET sequence = 99 WHERE sequence = 2",
                "UPDATE events SET sequence = 2 WHERE sequence = 3",
                "UPDATE events SET sequence = 3 WHERE sequence = 99",
            ],
            2,
            "does not follow",
        ),
        (["UPDATE events SET sequence = 7 WHERE sequence = 6"], 6, "missing; 7 is next"),
        (["UPDATE events SET payload = :payload WHERE sequence = 5"], 5, "payload"),
        (
            ["UPDATE events SET payload = :payload, payload_digest = :digest WHERE sequence = 5"],
            5,
            "envelope",
        ),
    ],
    ids=[
        *("changed", "left out", "first left out", "cut", "emptied", "moved", "renumbered"),
        *("payload", "payload with its digest"),
    ],
)
async def test_damage_is_named_by_its_first_event(
    *,
    filled: Registry,
    engine: AsyncEngine,
    without_triggers: Change,
    statements: list[str],
    first_broken: int,
    reason: str,
) -> None:
    assert (await filled.verify_log()).ok
    payload = cbor.encode({"forged": True})

    await without_triggers(*statements, payload=payload, digest=payload_digest(payload))

    report = await filled.verify_log()
    assert report.damage is not None
    assert report.damage.sequence == first_broken
    assert reason in report.damage.reason
    assert report.head_sequence == first_broken - 1
    if "views" not in reason:
        with pytest.raises(LogDamagedError, match=f"event {first_broken} "):
            await replay(engine, RegistryViewWriter())


async def test_an_event_that_was_doubled_is_named(
    filled: Registry, engine: AsyncEngine, without_triggers: Change
) -> None:
    new_id = "'" + "0" * 32 + "'" + ("::uuid" if engine.dialect.name == "postgresql" else "")
    await without_triggers(COPY.format(sequence=7, event_id=new_id))

    report = await filled.verify_log()

    assert report.damage is not None
    assert report.damage.sequence == 7


async def test_a_replay_that_finds_damage_leaves_the_views_alone(
    filled: Registry, engine: AsyncEngine, without_triggers: Change, rows_of: Any
) -> None:
    before = await rows_of(engine)
    await without_triggers("UPDATE events SET actor = 'eve' WHERE sequence = 6")

    with pytest.raises(LogDamagedError):
        await replay(engine, RegistryViewWriter())

    assert await rows_of(engine) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_a_row_is_found(data: st.DataObject, byte_changes: Any) -> None:
    sequence = data.draw(st.integers(1, 6), label="sequence")
    column = data.draw(st.sampled_from(BINARY + TEXTS), label="column")
    place = data.draw(st.integers(0, 10_000), label="place")
    mask = data.draw(st.integers(1, 255), label="mask")

    damage = byte_changes(sequence, column, place, mask)

    assert damage is not None
    assert damage.sequence == sequence


@pytest.fixture
def byte_changes(tmp_path: Any, sqlite_template: bytes) -> Any:
    """Change one byte of one value in a file that SQLite made, look, and change it back."""
    import asyncio
    import sqlite3

    from starfish_artifact_registry.dataplane import InProcessDataPlane
    from starfish_artifact_registry.db.engine import create_engine
    from starfish_artifact_registry.storage import LocalBackend

    path = tmp_path / "bytes.sqlite"
    path.write_bytes(sqlite_template)

    async def with_registry(use: Callable[[Registry], Awaitable[Any]]) -> Any:
        engine = create_engine(f"sqlite:///{path}")
        dataplane = InProcessDataPlane(LocalBackend(tmp_path / "content"))
        try:
            return await use(Registry(engine, dataplane, RegistryViewWriter()))
        finally:
            await engine.dispose()

    async def fill(registry: Registry) -> None:
        package_id = await registry.create_package(
            name="n", producer="p", subject="s", retention_class="derived", actor="ada"
        )

        async def stream() -> Any:
            yield b"x"

        for name in "abcd":
            await registry.ingest_file(
                package_id, relative_path=name, media_type="a/b", stream=stream(), actor="ada"
            )
        await registry.finalize_package(package_id, actor="grace")

    asyncio.run(with_registry(fill))
    direct = sqlite3.connect(path, isolation_level=None)
    for what in ("update", "delete", "replace"):
        direct.execute(f"DROP TRIGGER events_refuse_{what}")

    def change(sequence: int, column: str, place: int, mask: int) -> Any:
        select = f"SELECT CAST({column} AS BLOB), {column} FROM events WHERE sequence = ?"
        (stored, original) = direct.execute(select, (sequence,)).fetchone()
        changed = bytearray(stored)
        changed[place % len(stored)] ^= mask
        kind = "BLOB" if column in BINARY else "TEXT"
        update = f"UPDATE events SET {column} = CAST(? AS {kind}) WHERE sequence = ?"
        direct.execute(update, (bytes(changed), sequence))
        try:
            return asyncio.run(with_registry(Registry.verify_log)).damage
        finally:
            direct.execute(
                f"UPDATE events SET {column} = ? WHERE sequence = ?", (original, sequence)
            )

    yield change
    direct.close()


def test_golden_digests() -> None:
    """The arrays that docs/artifact-registry.md describes; another implementation gets the same."""
    payload = cbor.encode({"reason": "audit"})
    record = record_digest(
        sequence=2,
        event_id=UUID("11111111-1111-4111-8111-111111111111"),
        package_id=UUID("22222222-2222-4222-8222-222222222222"),
        event_type="v1.package.deleted",
        payload_digest=payload_digest(payload),
        actor="ada",
        created_at_ms=1_700_000_000_123,
    )

    assert payload.hex() == "a166726561736f6e656175646974"
    assert (
        payload_digest(payload).hex()
        == "b7373a03a3b0b77ef9d44ecd9613da2a9340d351ff9af3670a92dc32c6d97418"
    )
    assert record.hex() == "a75402cfbd63c35d5edc132ed81fb6d3c17518339e741c042ec782576995af7b"
    assert (
        event_digest(GENESIS_DIGEST, record).hex()
        == "7d4882d64c98fb118437978ea203eb41743d0c90143a5010430214d3390afeb3"
    )
