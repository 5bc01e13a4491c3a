"""Packages that leave a registry and come into another: the same package, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.errors import (
    ContentDamagedError,
    ContentNotFoundError,
    ExportRefusedError,
    InvalidValueError,
    PackageExistsError,
)
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.interchange._transfer import TransferProgress
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.model._catalogue import PackageImported
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import (
    IllegalPackageStateError,
    PackageNotFoundError,
    Registry,
)
from starfish_protocol.address import ContentAddress
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
FILES = {"a.txt": b"alpha", "empty": b"", "logs/again.txt": b"alpha", "logs/deep/ü.bin": b"\0" * 70}
FORMS = ("bagit", "oci")


@pytest.fixture
def registry_limits() -> Limits:
    """All content in the backend."""
    return Limits(pack_bytes=0)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def package_id(registry: Registry, make_package: MakePackage, clock: ManualClock) -> UUID:
    metadata = {"case": 7, "tags": ["x", None]}
    package_id = await make_package(registry, FILES, finalize=False, metadata=metadata)
    clock.advance(1234)
    await registry.finalize_package(package_id, actor="grace")
    return package_id


@pytest.fixture
async def folder(registry: Registry, package_id: UUID, form: Any, tmp_path: Path) -> Path:
    await registry.export_package(package_id, tmp_path / "out", form)
    return tmp_path / "out"


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def read_all(registry: Registry, package_id: UUID) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in await registry.list_files(package_id):
        stream = await registry.get_file(file.file_id)
        found[file.relative_path] = b"".join([chunk async for chunk in stream])
    return found


async def test_a_package_comes_back_with_the_same_manifest_digest(
    registry: Registry, elsewhere: Registry, package_id: UUID, folder: Path
) -> None:
    before = await registry.get_package(package_id)
    seen: list[TransferProgress] = []

    assert (
        await elsewhere.import_package(folder, actor="bob", on_progress=seen.append) == package_id
    )

    after = await elsewhere.get_package(package_id)
    assert after.manifest_digest == before.manifest_digest
    manifest = await elsewhere.get_manifest_bytes(package_id)
    assert manifest == await registry.get_manifest_bytes(package_id)
    for name in ("name", "metadata", "status", "file_count", "total_bytes"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("created_at", "created_by", "finalized_at", "finalized_by"):
        assert getattr(after, name) == getattr(before, name)
    assert (after.imported_by, before.imported_by) == ("bob", None)
    assert after.imported_at is not None
    assert after.retain_until == after.imported_at + timedelta(days=3650)
    assert await elsewhere.list_files(package_id) == await registry.list_files(package_id)
    assert await read_all(elsewhere, package_id) == FILES
    assert (await elsewhere.verify_all()).ok
    assert seen[-1] == TransferProgress(4, 80)


async def test_the_log_says_who_imported_it_and_proves_it(
    elsewhere: Registry, package_id: UUID, folder: Path, form: Any
) -> None:
    await elsewhere.import_package(folder, actor="bob")

    proof = verify_proof(await elsewhere.export_proof(package_id))

    assert [(event.event_type, event.actor) for event in proof.events] == [
        ("v1.package.created", "ada"),
        *[("v1.file.ingested", "ada")] * 4,
        ("v1.package.finalized", "grace"),
        ("v1.package.imported", "bob"),
    ]
    async for event in elsewhere.tail_events(6):
        assert event.decoded() == PackageImported(source_format=form)
        assert event.created_at.timestamp() == 1_800_000_000
        break
    assert (await elsewhere.verify_log()).ok


async def test_what_was_imported_is_replayed_and_exported_again(
    elsewhere: Registry, package_id: UUID, folder: Path, form: Any, tmp_path: Path
) -> None:
    await elsewhere.import_package(folder, actor="bob")
    before = await elsewhere.get_package(package_id)

    await replay(elsewhere._database.engine, RegistryViewWriter(), reset=True)
    assert await elsewhere.get_package(package_id) == before
    await elsewhere.export_package(package_id, tmp_path / "again", form)

    def tree(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert tree(tmp_path / "again") == tree(folder)


async def test_a_package_is_imported_once(
    registry: Registry, elsewhere: Registry, package_id: UUID, folder: Path
) -> None:
    await elsewhere.import_package(folder, actor="bob")

    for one in (elsewhere, registry):
        with pytest.raises(PackageExistsError) as refused:
            await one.import_package(folder, actor="bob")
        assert refused.value.package_id == package_id


async def test_an_empty_package_travels_too(
    registry: Registry, elsewhere: Registry, make_package: MakePackage, form: Any, tmp_path: Path
) -> None:
    package_id = await make_package(registry, {})
    await registry.export_package(package_id, tmp_path / "out", form)

    assert await elsewhere.import_package(tmp_path / "out", actor="bob") == package_id


async def test_only_a_finalized_package_is_exported(
    registry: Registry, make_package: MakePackage, form: Any, tmp_path: Path, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, finalize=False, retention_class="working")

    with pytest.raises(IllegalPackageStateError):
        await registry.export_package(package_id, tmp_path / "out", form)
    with pytest.raises(PackageNotFoundError):
        await registry.export_package(uuid4(), tmp_path / "out", form)
    with pytest.raises(InvalidValueError):
        await registry.export_package(package_id, tmp_path / "out", "zip")  # type: ignore[arg-type] - that is refused
    await registry.finalize_package(package_id, actor="ada")
    clock.advance(31 * 24 * 60 * 60 * 1000)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.delete_package(package_id, reason="done", actor="bob")
    with pytest.raises(IllegalPackageStateError):
        await registry.export_package(package_id, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


async def test_nothing_is_overwritten(registry: Registry, package_id: UUID, folder: Path) -> None:
    before = everything_below(folder)

    for target in (folder, folder / "oci-layout" / "below a file", Path("/proc/nowhere")):
        with pytest.raises(ExportRefusedError):
            await registry.export_package(package_id, target)

    assert everything_below(folder) == before


@pytest.mark.parametrize("damage", ["changed", "missing"])
async def test_damaged_content_is_not_exported(
    registry: Registry, package_id: UUID, form: Any, tmp_path: Path, damage: str
) -> None:
    digits = ContentAddress.of(b"alpha").digest.hex()
    stored = tmp_path / "content" / "blake3" / digits[:2] / digits
    if damage == "changed":
        stored.write_bytes(b"alphA")
    else:
        stored.unlink()

    with pytest.raises(ContentDamagedError if damage == "changed" else ContentNotFoundError):
        await registry.export_package(package_id, tmp_path / "out", form)

    assert not [name for name in everything_below(tmp_path) if "out" in name]


async def test_an_export_that_fails_half_way_leaves_nothing(
    *,
    registry: Registry,
    dataplane: InProcessDataPlane,
    package_id: UUID,
    form: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(address: ContentAddress, *_range: object) -> AsyncIterator[bytes]:
        yield b"al"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataplane, "read", read)
    with pytest.raises(ExportRefusedError, match="No space left"):
        await registry.export_package(package_id, tmp_path / "out", form)

    assert not [name for name in everything_below(tmp_path) if "out" in name]
