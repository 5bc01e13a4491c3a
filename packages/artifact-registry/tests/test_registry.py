"""What the registry does, sentence by sentence, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_packages,
    events,
    retention_classes,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.db.seed import RETENTION_CLASS_SEEDS
from starfish_artifact_registry.errors import (
    FileNotFoundInRegistryError,
    InvalidValueError,
    RegistryError,
)
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.manifest import decode, encode
from starfish_artifact_registry.model._catalogue import storage_location_id
from starfish_artifact_registry.registry import (
    DuplicateRelativePathError,
    IllegalPackageStateError,
    InvalidRelativePathError,
    PackageNotFoundError,
    Registry,
)
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress
from starfish_protocol.hash import stable_stringify
from starfish_protocol.testing import ManualClock

Fields = dict[str, Any]
Ingest = Callable[..., Awaitable[UUID]]
StreamOf = Callable[..., AsyncIterator[bytes]]
RowsOf = Callable[[AsyncEngine], Awaitable[dict[str, list[tuple[Any, ...]]]]]


async def _rows(engine: AsyncEngine, table: Any) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(table))).all())


async def _log(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(events).order_by(events.c.sequence))).all())


class TestCreatePackage:
    async def test_the_seeded_table_decides_about_the_retention_class(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields
    ) -> None:
        with pytest.raises(ValueError, match=r"unknown retention class 'eternal'.*raw-evidence"):
            await registry.create_package(**package_fields | {"retention_class": "eternal"})
        async with engine.begin() as connection:
            new_class = {"name": "eternal", "description": "ours", "duration_days": None}
            await connection.execute(retention_classes.insert(), new_class)

        await registry.create_package(**package_fields | {"retention_class": "eternal"})

        assert len(await _log(engine)) == 1

    async def test_the_seeds_are_rows_and_raw_evidence_is_among_them(
        self, engine: AsyncEngine
    ) -> None:
        found = {row.name: row._asdict() for row in await _rows(engine, retention_classes)}

        assert found == {seed["name"]: seed for seed in RETENTION_CLASS_SEEDS}
        assert "raw-evidence" in found

    async def test_the_event_and_the_view_are_written_together(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, clock: ManualClock
    ) -> None:
        package_id = await registry.create_package(**package_fields, metadata={"run": 7})

        (event,) = await _log(engine)
        (package,) = await _rows(engine, artifact_packages)
        assert (event.event_type, event.package_id, event.actor, event.created_at) == (
            *("v1.package.created", package_id, "ada"),
            clock.now(),
        )
        assert cbor.decode(event.payload) == {
            **{key: package_fields[key] for key in ("name", "producer", "subject")},
            "retention_class": "raw-evidence",
            "retention_days": 3650,
            "metadata": {"run": 7},
        }
        assert (package.id, package.created_at) == (package_id, clock.now())
        assert (package.metadata, package.last_event_sequence) == ({"run": 7}, 1)

    async def test_neither_is_written_when_the_view_cannot_be(
        self,
        engine: AsyncEngine,
        dataplane: InProcessDataPlane,
        package_fields: Fields,
    ) -> None:
        class BrokenViews(RegistryViewWriter):
            async def apply(self, connection: Any, events: Any) -> None:
                await super().apply(connection, events)
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await Registry(engine, dataplane, BrokenViews()).create_package(**package_fields)

        assert await _log(engine) == []
        assert await _rows(engine, artifact_packages) == []

    async def test_a_new_package_has_status_created(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields
    ) -> None:
        await registry.create_package(**package_fields)

        assert [row.status for row in await _rows(engine, artifact_packages)] == ["created"]

    @pytest.mark.parametrize(
        "change",
        [
            {"name": ""},
            {"name": "a\0b"},
            {"producer": "\ud800"},
            {"subject": "x" * 1025},
            {"actor": 7},
            {"metadata": {"a": float("nan")}},
            {"metadata": {"a": 2**53 + 1}},
            {"metadata": {"a": "\0"}},
            {"metadata": {1: 2}},
            {"metadata": [1]},
            {"metadata": {"a": "x" * 65536}},
        ],
        ids=str,
    )
    async def test_what_cannot_be_kept_is_refused_and_nothing_is_written(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, change: Fields
    ) -> None:
        with pytest.raises(InvalidValueError, match="it must be"):
            await registry.create_package(**package_fields | change)

        assert await _log(engine) == []

    async def test_metadata_that_is_too_deep_is_refused(
        self, registry: Registry, package_fields: Fields
    ) -> None:
        deep: Any = 1
        for _ in range(500):
            deep = [deep]

        with pytest.raises(InvalidValueError, match="nested too deeply"):
            await registry.create_package(**package_fields, metadata={"a": deep})


class TestIngestFile:
    async def test_only_a_created_package_takes_files(
        self, registry: Registry, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await registry.finalize_package(package_id, actor="ada")

        with pytest.raises(IllegalPackageStateError, match=f"{package_id} is finalized"):
            await ingest(registry, package_id, "a.txt")

    async def test_only_a_known_package_takes_files(
        self, registry: Registry, ingest: Ingest
    ) -> None:
        with pytest.raises(PackageNotFoundError):
            await ingest(registry, uuid4(), "a.txt")

    async def test_a_path_is_used_once_in_a_package(
        self, registry: Registry, package_fields: Fields, ingest: Ingest
    ) -> None:
        first, second = [await registry.create_package(**package_fields) for _ in range(2)]
        await ingest(registry, first, "a.txt")
        await ingest(registry, second, "a.txt")

        with pytest.raises(DuplicateRelativePathError, match=f"{first} already has .*'a.txt'"):
            await ingest(registry, first, "a.txt", b"other")

    async def test_what_can_be_refused_is_refused_before_the_stream_is_read(
        self, registry: Registry, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await ingest(registry, package_id, "a.txt")
        read: list[bytes] = []

        async def stream() -> AsyncIterator[bytes]:
            read.append(b"x")
            yield b"x"

        for place, path, media_type in [
            (uuid4(), "b.txt", "text/plain"),
            (package_id, "../b.txt", "text/plain"),
            (package_id, "b.txt", "text"),
        ]:
            with pytest.raises(RegistryError):
                await registry.ingest_file(
                    place, relative_path=path, media_type=media_type, stream=stream(), actor="ada"
                )

        assert read == []

    async def test_the_stream_is_hashed_with_both_functions_while_it_is_written(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, stream_of: StreamOf
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        file_id = await registry.ingest_file(
            package_id,
            relative_path="logs/a.txt",
            media_type="text/plain; charset=utf-8",
            stream=stream_of(b"he", b"", b"llo"),
            actor="grace",
        )

        (row,) = await _rows(engine, artifact_files)
        assert (row.id, row.relative_path, row.size_bytes) == (file_id, "logs/a.txt", 5)
        assert row.media_type == "text/plain; charset=utf-8"
        assert row.content_address == str(ContentAddress.of(b"hello"))
        assert row.sha256 == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
        assert row.ingested_by == "grace"
        assert [chunk async for chunk in await registry.get_file(file_id)] == [b"hello"]
        assert [c async for c in await registry.get_file(file_id, start=1, end=3)] == [b"el"]

    async def test_a_failing_stream_leaves_no_event_and_the_path_free(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)

        async def stream() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionResetError("the sender is gone")

        with pytest.raises(ConnectionResetError):
            await registry.ingest_file(
                *(package_id,),
                relative_path="a.txt",
                media_type="text/plain",
                stream=stream(),
                actor="ada",
            )

        assert len(await _log(engine)) == 1
        await ingest(registry, package_id, "a.txt")

    async def test_the_event_carries_metadata_receipt_and_a_deterministic_location(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        file_id = await ingest(registry, package_id, "a.bin", b"hello")

        address = ContentAddress.of(b"hello")
        location = storage_location_id("local", address)
        (_, event) = await _log(engine)
        assert event.event_type == "v1.file.ingested"
        assert cbor.decode(event.payload) == {
            "file_id": str(file_id),
            "relative_path": "a.bin",
            "media_type": "application/octet-stream",
            "size": 5,
            "content_address": str(address),
            "sha256": str(ContentAddress.of(b"hello", "sha256")),
            "backend_id": "local",
            "storage_location_id": str(location),
        }
        assert location.version == 5
        (row,) = await _rows(engine, storage_locations)
        assert (row.storage_location_id, row.backend_id) == (location, "local")
        assert row.content_address == str(address)

    async def test_equal_content_has_one_location(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        for path in ("a", "b"):
            await ingest(registry, package_id, path, b"same")

        locations = await _rows(engine, storage_locations)
        files = await _rows(engine, artifact_files)
        assert {row.artifact_file_id for row in locations} == {row.id for row in files}
        assert len({row.storage_location_id for row in locations}) == 1

    @pytest.mark.parametrize(
        "path",
        [
            *("", "/etc/passwd", "../a", "a/../b", "a/..", "./a", "a/.", "a//b", "a/", "a\0b"),
            *("a\\b", "C:/a", "c:a", "\ud800", "x" * 4097, "é" * 2049),
            unicodedata.normalize("NFD", "é.txt"),
        ],
        ids=ascii,
    )
    async def test_a_path_that_is_not_legal_is_refused(
        self, registry: Registry, package_fields: Fields, ingest: Ingest, path: str
    ) -> None:
        package_id = await registry.create_package(**package_fields)

        with pytest.raises(InvalidRelativePathError) as refused:
            await ingest(registry, package_id, path)

        assert isinstance(refused.value, ValueError)
        assert refused.value.relative_path == path

    @pytest.mark.parametrize(
        "path",
        ["a", "a/b/c.txt", "...", "..a", "a..", "é", "x" * 4096, "é" * 2048, "a b", "-", "~"],
    )
    async def test_a_path_that_is_legal_is_kept_as_it_is(
        self,
        registry: Registry,
        engine: AsyncEngine,
        package_fields: Fields,
        ingest: Ingest,
        path: str,
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await ingest(registry, package_id, path)

        assert [row.relative_path for row in await _rows(engine, artifact_files)] == [path]

    async def test_a_full_package_takes_no_more(
        self,
        engine: AsyncEngine,
        dataplane: InProcessDataPlane,
        package_fields: Fields,
        ingest: Ingest,
    ) -> None:
        registry = Registry(engine, dataplane, RegistryViewWriter(), limits=Limits(max_files=2))
        package_id = await registry.create_package(**package_fields)

        outcomes = await asyncio.gather(
            *(ingest(registry, package_id, str(number)) for number in range(5)),
            return_exceptions=True,
        )

        assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 2
        assert sum(isinstance(outcome, InvalidValueError) for outcome in outcomes) == 3

    async def test_a_file_that_is_not_there_is_not_found(self, registry: Registry) -> None:
        with pytest.raises(FileNotFoundInRegistryError):
            await registry.get_file(uuid4())


class TestFinalizePackage:
    async def test_the_payload_is_the_manifest_and_the_address_is_of_its_bytes(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await ingest(registry, package_id, "a.txt")
        address = await registry.finalize_package(package_id, actor="grace")

        data = await registry.get_manifest_bytes(package_id)
        *_, event = await _log(engine)
        assert (event.event_type, event.payload) == ("v1.package.finalized", data)
        assert str(address).startswith("blake3:")
        assert ContentAddress.of(data) == address
        assert event.payload_digest == address.digest
        assert cbor.encode(cbor.decode(data)) == data
        (package,) = await _rows(engine, artifact_packages)
        assert (package.status, package.manifest_digest) == ("finalized", str(address))

    async def test_the_manifest_says_what_the_views_say(
        self,
        registry: Registry,
        package_fields: Fields,
        ingest: Ingest,
        clock: ManualClock,
    ) -> None:
        created = clock.now()
        package_id = await registry.create_package(**package_fields, metadata={"run": 7})
        clock.advance(1000)
        ingested = clock.now_ms()
        paths = ["b", "a/z", "a", "a-b", "é", "Z"]
        ids = {path: await ingest(registry, package_id, path, path.encode()) for path in paths}
        clock.advance(1000)
        await registry.finalize_package(package_id, actor="grace")

        data = await registry.get_manifest_bytes(package_id)
        plain = cbor.decode(data)
        assert plain["manifest_version"] == 1
        assert plain["package"] == {
            "id": str(package_id),
            **{key: package_fields[key] for key in ("name", "producer", "subject")},
            "retention_class": "raw-evidence",
            "status": "finalized",
            "metadata": {"run": 7},
            "created_at": int(created.timestamp() * 1000),
            "created_by": "ada",
            "finalized_at": clock.now_ms(),
            "finalized_by": "grace",
        }
        assert [file["relative_path"] for file in plain["files"]] == sorted(
            paths, key=lambda path: path.encode()
        )
        for file in plain["files"]:
            content = file["relative_path"].encode()
            assert file["id"] == str(ids[file["relative_path"]])
            assert file["content_address"] == str(ContentAddress.of(content))
            assert file["ingested_at"] == ingested
        receipts = {one["storage_location_id"]: one for one in plain["storage_receipts"]}
        assert {file["storage_location_id"] for file in plain["files"]} == set(receipts)
        assert encode(decode(data)) == data

    async def test_the_json_form_is_the_same_content_by_rfc_8785(
        self, registry: Registry, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(
            **package_fields, metadata={"€": 1.5, "b": [None, True, 1e21], "a": "\u2028"}
        )
        await ingest(registry, package_id, "é.txt")
        await registry.finalize_package(package_id, actor="ada")

        text_form = await registry.get_manifest_bytes(package_id, format="json")

        plain = cbor.decode(await registry.get_manifest_bytes(package_id))
        assert json.loads(text_form) == plain
        assert text_form == stable_stringify(plain).encode()

    async def test_a_second_time_is_refused(
        self, registry: Registry, package_fields: Fields
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await registry.finalize_package(package_id, actor="ada")

        with pytest.raises(IllegalPackageStateError):
            await registry.finalize_package(package_id, actor="ada")

    async def test_an_unknown_package_and_one_without_a_manifest_are_told_apart(
        self, registry: Registry, package_fields: Fields
    ) -> None:
        package_id = await registry.create_package(**package_fields)

        with pytest.raises(IllegalPackageStateError, match="has no manifest yet"):
            await registry.get_manifest_bytes(package_id)
        for call in (
            registry.get_manifest_bytes(uuid4()),
            registry.finalize_package(uuid4(), actor="ada"),
        ):
            with pytest.raises(PackageNotFoundError):
                await call

    async def test_another_format_is_refused(
        self, registry: Registry, package_fields: Fields
    ) -> None:
        with pytest.raises(InvalidValueError, match="'cbor' or 'json'"):
            await registry.get_manifest_bytes(uuid4(), format="xml")  # type: ignore[arg-type]


class TestEvents:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE events SET actor = 'eve'",
            "UPDATE events SET actor = actor WHERE sequence = 1",
            "DELETE FROM events",
            "DELETE FROM events WHERE sequence = 1",
        ],
    )
    async def test_the_database_refuses_to_change_the_log(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, statement: str
    ) -> None:
        await registry.create_package(**package_fields)
        before = await _log(engine)

        with pytest.raises(DBAPIError, match="append-only"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))

        assert await _log(engine) == before

    async def test_the_database_refuses_to_replace_or_truncate(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields
    ) -> None:
        await registry.create_package(**package_fields)
        before = await _log(engine)
        statements = {
            "sqlite": [
                "INSERT OR REPLACE INTO events SELECT * FROM events",
                (
                    "INSERT OR REPLACE INTO events SELECT 2, event_id, package_id, event_type,"
                    " payload, payload_digest, prev_digest, event_digest, actor, created_at"
                    " FROM events"
                ),
            ],
            "postgresql": [
                "TRUNCATE events",
                (
                    "INSERT INTO events SELECT * FROM events ON CONFLICT (sequence)"
                    " DO UPDATE SET actor = 'eve'"
                ),
            ],
        }

        for statement in statements[engine.dialect.name]:
            with pytest.raises(DBAPIError, match="append-only"):
                async with engine.begin() as connection:
                    await connection.execute(text(statement))

        assert await _log(engine) == before

    async def test_sequences_have_no_holes_and_digests_link(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await asyncio.gather(*(ingest(registry, package_id, f"{number}") for number in range(20)))
        with pytest.raises(DuplicateRelativePathError):
            await ingest(registry, package_id, "3", b"other bytes")
        await registry.finalize_package(package_id, actor="ada")

        log = await _log(engine)
        assert [event.sequence for event in log] == list(range(1, 23))
        assert log[0].prev_digest == bytes(32)
        for before, after in itertools.pairwise(log):
            assert after.prev_digest == before.event_digest
        report = await registry.verify_log()
        assert (report.ok, report.head_sequence) == (True, 22)
        assert report.head_digest == log[-1].event_digest


class TestViews:
    async def test_replay_rebuilds_them_byte_for_byte_times_included(
        self,
        *,
        registry: Registry,
        engine: AsyncEngine,
        package_fields: Fields,
        ingest: Ingest,
        clock: ManualClock,
        rows_of: RowsOf,
    ) -> None:
        package_id = await registry.create_package(**package_fields, metadata={"run": 7})
        for path in ("a", "b", "c"):
            clock.advance(-1001)  # no log can rely on a machine's clock
            await ingest(registry, package_id, path, b"same")
        await registry.finalize_package(package_id, actor="grace")
        await registry.create_package(**package_fields)
        before = await rows_of(engine)
        async with engine.begin() as connection:
            await connection.execute(artifact_packages.update().values(name="changed by hand"))
            await connection.execute(artifact_files.delete())

        assert await replay(engine, RegistryViewWriter(), reset=True) == 6

        assert await rows_of(engine) == before
        assert before["artifact_packages"]

    async def test_replay_without_reset_goes_on_where_the_views_are(
        self,
        registry: Registry,
        engine: AsyncEngine,
        package_fields: Fields,
        ingest: Ingest,
        rows_of: RowsOf,
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        await ingest(registry, package_id, "a")
        before = await rows_of(engine)

        assert await replay(engine, RegistryViewWriter(), reset=False) == 0
        async with engine.begin() as connection:
            await RegistryViewWriter().reset(connection)
        assert await replay(engine, RegistryViewWriter(), reset=False) == 2

        assert await rows_of(engine) == before

    async def test_the_last_event_of_a_package_is_in_its_row(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
    ) -> None:
        first = await registry.create_package(**package_fields)
        second = await registry.create_package(**package_fields)
        await ingest(registry, first, "a")

        rows = {row.id: row for row in await _rows(engine, artifact_packages)}
        assert rows[first].last_event_sequence == 3
        assert rows[second].last_event_sequence == 2
        assert (rows[first].file_count, rows[first].total_bytes) == (1, 8)

    async def test_the_retention_date_follows_from_the_class_and_counts_from_the_end(
        self, registry: Registry, engine: AsyncEngine, package_fields: Fields, clock: ManualClock
    ) -> None:
        package_id = await registry.create_package(**package_fields)
        (row,) = await _rows(engine, retention_state)
        assert (row.retain_until - clock.now()).days == 3650
        clock.advance(86_400_000)
        await registry.finalize_package(package_id, actor="ada")

        (row,) = await _rows(engine, retention_state)
        assert (row.retain_until - clock.now()).days == 3650


class TestRaces:
    """Exactly one wins, and the other gets its typed error."""

    @pytest.fixture
    async def registries(
        self, database_url: str, registry: Registry, dataplane: InProcessDataPlane
    ) -> Any:
        """Two that know nothing of each other, as in two processes."""
        from starfish_artifact_registry.db.engine import create_engine

        other = create_engine(database_url)
        yield registry, Registry(other, dataplane, RegistryViewWriter())
        await other.dispose()

    async def test_the_same_path_twice(
        self,
        repetition: int,
        registries: tuple[Registry, Registry],
        engine: AsyncEngine,
        package_fields: Fields,
        ingest: Ingest,
    ) -> None:
        package_id = await registries[0].create_package(**package_fields)

        outcomes = await asyncio.gather(
            *(ingest(one, package_id, "a", b"%d" % n) for n, one in enumerate(registries * 2)),
            return_exceptions=True,
        )

        winners = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
        assert len(winners) == 1
        assert [type(o) for o in outcomes if o not in winners] == [DuplicateRelativePathError] * 3
        assert [row.id for row in await _rows(engine, artifact_files)] == winners

    async def test_finalize_against_ingest(
        self,
        repetition: int,
        registries: tuple[Registry, Registry],
        package_fields: Fields,
        ingest: Ingest,
    ) -> None:
        package_id = await registries[0].create_package(**package_fields)

        file_id, address = await asyncio.gather(
            ingest(registries[repetition % 2], package_id, "a"),
            registries[1].finalize_package(package_id, actor="ada"),
            return_exceptions=True,
        )

        manifest = decode(await registries[0].get_manifest_bytes(package_id))
        assert isinstance(address, ContentAddress)
        if isinstance(file_id, UUID):
            assert [file.id for file in manifest.files] == [file_id]
        else:
            assert type(file_id) is IllegalPackageStateError
            assert manifest.files == ()

    async def test_finalize_twice(
        self,
        repetition: int,
        registries: tuple[Registry, Registry],
        engine: AsyncEngine,
        package_fields: Fields,
    ) -> None:
        package_id = await registries[0].create_package(**package_fields)

        outcomes = await asyncio.gather(
            *(one.finalize_package(package_id, actor="ada") for one in registries * 2),
            return_exceptions=True,
        )

        assert sum(isinstance(outcome, ContentAddress) for outcome in outcomes) == 1
        assert sum(type(outcome) is IllegalPackageStateError for outcome in outcomes) == 3
        async with engine.connect() as connection:
            count = select(func.count()).where(events.c.event_type == "v1.package.finalized")
            assert (await connection.execute(count)).scalar() == 1
