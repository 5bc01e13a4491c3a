"""Random commands against a plain model: the views say the same, and a replay gives the same bytes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, type_coerce
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import NullType

from servers.postgres import PostgresServer
from starfish_artifact_registry.commands._garbage import collect_garbage
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    create_schema,
    retention_classes,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    HoldNotFoundError,
    IllegalPackageStateError,
    PackageExistsError,
    PackageHeldError,
    PackageNotFoundError,
    RetentionPeriodError,
)
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.manifest import decode
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import SystemClock
from starfish_protocol.testing import ManualClock

VIEWS = (
    *(artifact_packages, artifact_metadata, artifact_files, storage_locations),
    retention_state,
)
PATHS = st.sampled_from(["a", "b", "c/d", "é"])
CONTENTS = st.sampled_from([b"", b"x", b"evidence"])


class RegistryMachine(RuleBasedStateMachine):
    packages = Bundle("packages")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        root = Path(self.folder.name)
        self.engine = create_engine(self.new_database())
        self.run(self._prepare(self.engine))
        self.elsewhere_engine = create_engine(self.new_database())
        self.run(self._prepare(self.elsewhere_engine))
        self.dataplane = InProcessDataPlane(LocalBackend(root / "content"))
        self.elsewhere = Registry(
            self.elsewhere_engine,
            InProcessDataPlane(LocalBackend(root / "elsewhere", backend_id="elsewhere")),
            RegistryViewWriter(),
        )
        self.clock = ManualClock(1_700_000_000_000)
        self.registry = Registry(
            self.engine,
            self.dataplane,
            RegistryViewWriter(),
            clock=self.clock,
        )
        self.model: dict[UUID, dict[str, bytes]] = {}
        self.addresses: dict[UUID, ContentAddress] = {}
        self.holds: dict[UUID, list[UUID]] = {}
        self.expired: set[UUID] = set()
        self.deleted: set[UUID] = set()
        self.travelled: set[UUID] = set()
        self.classes: dict[UUID, str] = {}
        self.events = 0

    def new_database(self) -> str:
        return f"sqlite:///{self.folder.name}/{uuid4().hex}.sqlite"

    def teardown(self) -> None:
        self.the_chain_verifies_and_the_manifests_hold()
        self.run(self.engine.dispose())
        self.run(self.elsewhere_engine.dispose())
        self.drop_databases()
        self.runner.close()
        self.folder.cleanup()

    def drop_databases(self) -> None:
        """SQLite files go with their folder."""

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    async def _ingest(self, package_id: UUID, path: str, content: bytes) -> UUID:
        async def stream() -> AsyncIterator[bytes]:
            yield content

        return await self.registry.ingest_file(
            package_id, relative_path=path, media_type="a/b", stream=stream(), actor="ada"
        )

    @rule(milliseconds=st.integers(-3, 3))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    @rule(
        target=packages,
        retention_class=st.sampled_from(["instant", "permanent"]),
        metadata=st.dictionaries(st.sampled_from("ab"), st.integers(-3, 3) | st.text(max_size=3)),
    )
    def create(self, retention_class: str, metadata: dict[str, Any]) -> UUID:
        for key, value in metadata.items():
            metadata[key] = value.replace("\0", "") if isinstance(value, str) else value
        package_id: UUID = self.run(
            self.registry.create_package(
                name="n",
                producer="p",
                subject="s",
                retention_class=retention_class,
                actor="ada",
                metadata=metadata,
            )
        )
        self.model[package_id] = {}
        self.classes[package_id] = retention_class
        self.events += 1
        return package_id

    @rule(package_id=packages, path=PATHS, content=CONTENTS)
    def ingest(self, package_id: UUID, path: str, content: bytes) -> None:
        refusal = self._refusal(package_id, path)
        if refusal is not None:
            with pytest.raises(refusal):
                self.run(self._ingest(package_id, path, content))
            return
        self.run(self._ingest(package_id, path, content))
        self.model[package_id][path] = content
        self.events += 1

    @rule(package_id=packages, paths=st.lists(PATHS, min_size=2, max_size=5), content=CONTENTS)
    def ingest_at_once(self, package_id: UUID, paths: list[str], content: bytes) -> None:
        free = {path for path in paths if self._refusal(package_id, path) is None}

        async def all_at_once() -> list[Any]:
            calls = (self._ingest(package_id, path, content) for path in paths)
            return await asyncio.gather(*calls, return_exceptions=True)

        outcomes = self.run(all_at_once())

        won = [path for path, end in zip(paths, outcomes, strict=True) if isinstance(end, UUID)]
        assert sorted(won) == sorted(free)
        self.model[package_id] |= dict.fromkeys(won, content)
        self.events += len(won)

    @rule(package_id=packages)
    def finalize(self, package_id: UUID) -> None:
        if package_id in {*self.addresses, *self.expired, *self.deleted}:
            with pytest.raises(IllegalPackageStateError):
                self.run(self.registry.finalize_package(package_id, actor="ada"))
            return
        self.addresses[package_id] = self.run(
            self.registry.finalize_package(package_id, actor="ada")
        )
        self.events += 1

    @rule(package_id=packages)
    def hold(self, package_id: UUID) -> None:
        if package_id in self.deleted:
            with pytest.raises(IllegalPackageStateError):
                self.run(self.registry.hold_package(package_id, reason="r", actor="ada"))
            return
        hold_id = self.run(self.registry.hold_package(package_id, reason="r", actor="ada"))
        self.holds.setdefault(package_id, []).append(hold_id)
        self.events += 1

    @rule(package_id=packages)
    def release(self, package_id: UUID) -> None:
        held = self.holds.get(package_id, [])
        if held:
            call = self.registry.release_hold(package_id, held.pop(0), reason="r", actor="ada")
            self.run(call)
            self.events += 1
        else:
            with pytest.raises(HoldNotFoundError):
                self.run(self.registry.release_hold(package_id, uuid4(), reason="r", actor="ada"))

    @rule(package_id=packages)
    def delete(self, package_id: UUID) -> None:
        call = self.registry.delete_package(package_id, reason="r", actor="ada")
        if package_id in self.deleted:
            refusal: type[Exception] = IllegalPackageStateError
        elif self.holds.get(package_id):
            refusal = PackageHeldError
        elif self.classes[package_id] == "permanent":
            refusal = RetentionPeriodError
        else:
            # A minute after the end of its class; "instant" ends at once.
            self.clock.advance(60_000)
            self.run(call)
            self.deleted.add(package_id)
            self.events += 1
            return
        with pytest.raises(refusal):
            self.run(call)

    @rule(package_id=packages)
    def expire(self, package_id: UUID) -> None:
        call = self.registry.expire_package(package_id, actor="clerk")
        if package_id in self.deleted or package_id in self.expired:
            refusal: type[Exception] = IllegalPackageStateError
        elif self.holds.get(package_id):
            refusal = PackageHeldError
        elif self.classes[package_id] == "permanent":
            refusal = RetentionPeriodError
        else:
            self.clock.advance(60_000)
            self.run(call)
            self.expired.add(package_id)
            self.events += 1
            return
        with pytest.raises(refusal):
            self.run(call)

    @rule(package_id=packages)
    def check_fixity(self, package_id: UUID) -> None:
        if package_id in self.deleted:
            with pytest.raises(IllegalPackageStateError):
                self.run(self.registry.verify_package(package_id))
            return
        report = self.run(self.registry.verify_package(package_id))
        assert (report.ok, report.files_checked) == (True, len(self.model[package_id]))
        self.events += 1

    @rule()
    def garbage_collection_leaves_what_live_packages_hold(self) -> None:
        async def collect() -> set[ContentAddress]:
            await collect_garbage(
                Database(self.engine), self.dataplane, SystemClock(), grace=timedelta(0)
            )
            return {info.address async for info in self.dataplane.backend.list()}

        assert self.run(collect()) == {
            ContentAddress.of(data)
            for package_id, files in self.model.items()
            if package_id not in self.deleted
            for data in files.values()
        }

    @rule(package_id=packages, form=st.sampled_from(["bagit", "oci"]))
    def travel(self, package_id: UUID, form: Any) -> None:
        target = Path(self.folder.name) / uuid4().hex
        if package_id not in self.addresses or package_id in self.deleted:
            with pytest.raises(IllegalPackageStateError):
                self.run(self.registry.export_package(package_id, target, form))
            return
        if package_id in self.travelled:
            self.run(self.registry.export_package(package_id, target, form))
            with pytest.raises(PackageExistsError):
                self.run(self.elsewhere.import_package(target, actor="bob"))
            return
        self.run(self.registry.export_package(package_id, target, form))
        assert self.run(self.elsewhere.import_package(target, actor="bob")) == package_id
        self.travelled.add(package_id)
        package = self.run(self.elsewhere.get_package(package_id))
        assert package.manifest_digest == self.addresses[package_id]
        assert self.run(self.elsewhere.verify_package(package_id)).ok
        assert self.run(self.elsewhere.verify_log()).ok

    @rule(package_id=packages)
    def a_proof_holds(self, package_id: UUID) -> None:
        if package_id not in self.addresses:
            with pytest.raises(IllegalPackageStateError):
                self.run(self.registry.export_proof(package_id))
            return
        proof = verify_proof(self.run(self.registry.export_proof(package_id)))
        assert proof.manifest_digest == self.addresses[package_id]
        assert proof.head_sequence == self.events

    @rule()
    def ask_for_what_is_not_there(self) -> None:
        with pytest.raises(PackageNotFoundError):
            self.run(self._ingest(uuid4(), "a", b""))

    @rule()
    def replay_gives_the_same_bytes(self) -> None:
        before = self.run(self._rows())
        assert self.run(replay(self.engine, RegistryViewWriter())) == self.events
        assert self.run(self._rows()) == before

    @invariant()
    def the_views_say_what_the_model_says(self) -> None:
        rows = self.run(self._rows())
        found: dict[UUID, dict[str, str]] = {package_id: {} for package_id in self.model}
        for _, package_id, path, *_rest in rows["artifact_files"]:
            found[UUID(str(package_id))][path] = _rest[2]
        assert found == {
            package_id: {path: str(ContentAddress.of(data)) for path, data in files.items()}
            for package_id, files in self.model.items()
        }
        assert len(rows["storage_locations"]) == sum(len(files) for files in self.model.values())

    @rule()  # it reads every row: now and then, and at the end of each run
    def the_chain_verifies_and_the_manifests_hold(self) -> None:
        report = self.run(self.registry.verify_log())
        assert (report.ok, report.head_sequence) == (True, self.events)
        for package_id, address in self.addresses.items():
            data = self.run(self.registry.get_manifest_bytes(package_id))
            assert ContentAddress.of(data) == address
            assert {file.relative_path for file in decode(data).files} == set(
                self.model[package_id]
            )

    def _refusal(self, package_id: UUID, path: str) -> type[Exception] | None:
        if package_id in {*self.addresses, *self.expired, *self.deleted}:
            return IllegalPackageStateError
        return DuplicateRelativePathError if path in self.model[package_id] else None

    async def _prepare(self, engine: AsyncEngine) -> None:
        await create_schema(engine)
        async with engine.begin() as connection:
            instant = {"name": "instant", "description": "for tests", "duration_days": 0}
            await connection.execute(retention_classes.insert(), instant)

    async def _rows(self) -> dict[str, list[tuple[Any, ...]]]:
        async with self.engine.connect() as connection:
            return {
                table.name: [
                    tuple(row)
                    for row in await connection.execute(
                        select(*(type_coerce(column, NullType) for column in table.c)).order_by(
                            *list(table.c)[:2]
                        )
                    )
                ]
                for table in VIEWS
            }


def limited(share: int) -> settings:
    return settings(max_examples=max(settings().max_examples // share, 4), stateful_step_count=15)


TestRegistryMachine = pytest.mark.timeout(300)(RegistryMachine.TestCase)
TestRegistryMachine.settings = limited(4)


@pytest.mark.timeout(300)
def test_postgresql_keeps_the_same_promises(
    postgres_server: PostgresServer, postgres_template: str
) -> None:
    asyncpg = pytest.importorskip("asyncpg", reason="the extra postgres is not installed")

    async def administer(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server.dsn)
        await connection.execute(statement)
        await connection.close()

    class OnPostgres(RegistryMachine):
        def __init__(self) -> None:
            self.databases: list[str] = []
            super().__init__()

        def new_database(self) -> str:
            name = f"m_{uuid4().hex[:16]}"
            self.run(administer(f"CREATE DATABASE {name} TEMPLATE {postgres_template}"))
            self.databases.append(name)
            return postgres_server.address("asyncpg", name)

        def drop_databases(self) -> None:
            for name in self.databases:
                self.run(administer(f"DROP DATABASE {name}"))

    run_state_machine_as_test(OnPostgres, settings=limited(10))
