"""Fixity checks find and name what has changed, and only that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.schema import artifact_files
from starfish_artifact_registry.errors import StorageUnavailableError
from starfish_artifact_registry.fixity import FixityProgress, FixityReport
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.log._log import read_events
from starfish_artifact_registry.model._catalogue import FixityChecked
from starfish_artifact_registry.registry import (
    IllegalPackageStateError,
    PackageNotFoundError,
    Registry,
)
from starfish_protocol.address import ContentAddress
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
FILES = {"a.txt": b"alpha", "b.txt": b"beta", "logs/again.txt": b"alpha", "z": b""}


@pytest.fixture
def registry_limits() -> Limits:
    """All content in the backend."""
    return Limits(pack_bytes=0)


def place(tmp_path: Path, data: bytes) -> Path:
    digits = ContentAddress.of(data).digest.hex()
    return tmp_path / "content" / "blake3" / digits[:2] / digits


async def last_check(engine: AsyncEngine, package_id: UUID) -> tuple[FixityChecked, str]:
    async with engine.connect() as connection:
        event = (await read_events(connection, 0, 1000, package_id=package_id))[-1]
    payload = event.decoded()
    assert isinstance(payload, FixityChecked)
    return payload, event.actor


@pytest.mark.parametrize("finalize", [True, False])
async def test_a_package_that_is_whole_is_said_to_be(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine, *, finalize: bool
) -> None:
    package_id = await make_package(registry, FILES, finalize=finalize)

    report = await registry.verify_package(package_id, actor="clerk")

    assert report == FixityReport(package_id, 4, 14, (), ())
    assert report.ok
    assert await last_check(engine, package_id) == (
        FixityChecked(files_checked=4, bytes_checked=14, missing=(), changed=()),
        "clerk",
    )


async def test_missing_and_changed_files_are_named(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine, tmp_path: Path
) -> None:
    package_id = await make_package(registry, FILES)
    ids = {file.relative_path: file.file_id for file in await registry.list_files(package_id)}
    place(tmp_path, b"alpha").write_bytes(b"alphA")
    place(tmp_path, b"beta").unlink()

    report = await registry.verify_package(package_id)

    assert report == FixityReport(package_id, 4, 10, ("b.txt",), ("a.txt", "logs/again.txt"))
    assert not report.ok
    assert await last_check(engine, package_id) == (
        FixityChecked(
            files_checked=4,
            bytes_checked=10,
            missing=(ids["b.txt"],),
            changed=(ids["a.txt"], ids["logs/again.txt"]),
        ),
        "fixity",
    )


@pytest.mark.parametrize("place_of_bit", range(0, 40, 7))
async def test_any_single_changed_bit_of_the_store_is_found(
    registry: Registry, make_package: MakePackage, tmp_path: Path, place_of_bit: int
) -> None:
    package_id = await make_package(registry, FILES)
    stored = bytearray(b"alpha")
    stored[place_of_bit // 8] ^= 1 << place_of_bit % 8
    place(tmp_path, b"alpha").write_bytes(stored)

    assert (await registry.verify_package(package_id)).changed == ("a.txt", "logs/again.txt")


async def test_views_that_were_changed_to_fit_do_not_hide_a_changed_file(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES)
    async with engine.begin() as connection:
        await connection.execute(
            artifact_files.delete().where(artifact_files.c.relative_path == "a.txt")
        )

    assert (await registry.verify_package(package_id)).files_checked == 4


async def test_all_packages_are_checked_but_deleted_ones(
    registry: Registry, make_package: MakePackage, clock: ManualClock, tmp_path: Path
) -> None:
    first = await make_package(registry, {"one": b"1"})
    second = await make_package(registry, {"two": b"22", "three": b"333"})
    await make_package(registry, {}, finalize=False)
    deleted = await make_package(registry, {"gone": b"4444"}, retention_class="working")
    clock.advance(31 * 24 * 60 * 60 * 1000)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.delete_package(deleted, reason="done", actor="bob")
    place(tmp_path, b"22").unlink()
    seen: list[FixityProgress] = []

    summary = await registry.verify_all(on_progress=seen.append)

    assert (summary.packages_checked, summary.files_checked, summary.bytes_checked) == (3, 3, 4)
    assert [(report.package_id, report.missing) for report in summary.damaged] == [
        (second, ("two",))
    ]
    assert not summary.ok
    assert max((progress.files, progress.bytes) for progress in seen) == (3, 6)
    assert (await registry.verify_package(first)).ok


async def test_what_has_no_bytes_is_not_checked(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, retention_class="working")
    clock.advance(31 * 24 * 60 * 60 * 1000)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.delete_package(package_id, reason="done", actor="bob")

    with pytest.raises(IllegalPackageStateError):
        await registry.verify_package(package_id)
    with pytest.raises(PackageNotFoundError):
        await registry.verify_package(uuid4())


async def test_a_backend_that_does_not_answer_is_no_finding(
    registry: Registry,
    make_package: MakePackage,
    engine: AsyncEngine,
    dataplane: InProcessDataPlane,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package_id = await make_package(registry, FILES)

    async def rehash(address: ContentAddress) -> ContentAddress | None:
        raise StorageUnavailableError("local", "the disk is away")

    monkeypatch.setattr(dataplane, "rehash", rehash)
    with pytest.raises(StorageUnavailableError):
        await registry.verify_package(package_id)

    async with engine.connect() as connection:
        assert (await read_events(connection, 0, 99))[-1].event_type == "v1.package.finalized"
