"""Proofs, checkpoints and the log, as a registry makes and checks them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.checkpoint import Checkpoint
from starfish_artifact_registry.errors import CheckpointError, LogDamagedError, ProofError
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.model._merkle import root_of
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import (
    IllegalPackageStateError,
    PackageNotFoundError,
    Registry,
)
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
FILES = {"a.txt": b"alpha", "logs/b.txt": b"beta"}

needs_signing = pytest.mark.skipif(
    find_spec("cryptography") is None,
    reason="the extra signing is not installed",
)


async def rewrite(engine: AsyncEngine, statement: str) -> None:
    """Change the log as somebody could who owns the database."""
    disable = {
        "sqlite": [
            "DROP TRIGGER events_refuse_update",
            "DROP TRIGGER events_refuse_delete",
        ],
        "postgresql": ["ALTER TABLE events DISABLE TRIGGER USER"],
    }
    async with engine.begin() as connection:
        for one in (*disable[engine.dialect.name], statement):
            await connection.execute(text(one))


async def test_a_proof_holds_whatever_else_is_in_the_log(
    registry: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    await make_package(registry, {"other": b"secret"}, name="classified")
    package_id = await make_package(registry, FILES)
    await make_package(registry, {"other": b"secret"}, name="classified")
    await registry.hold_package(package_id, reason="case", actor="eve")
    await make_package(registry, {}, finalize=False, name="classified")
    (tmp_path / "logs").mkdir()
    for path, data in FILES.items():
        (tmp_path / path).write_bytes(data)

    data = await registry.export_proof(package_id)
    proof = verify_proof(data, files=tmp_path)

    assert b"classified" not in data
    assert proof.manifest_bytes == await registry.get_manifest_bytes(package_id)
    assert [event.event_type for event in proof.events] == [
        "v1.package.created",
        "v1.file.ingested",
        "v1.file.ingested",
        "v1.package.finalized",
        "v1.retention.held",
    ]
    report = await registry.verify_log()
    assert proof.head_sequence == report.head_sequence
    assert proof.files_checked == 2


async def test_a_proof_is_the_same_whatever_the_size_of_pages(
    registry: Registry, make_package: MakePackage
) -> None:
    package_id = await make_package(registry, FILES)
    await make_package(registry, FILES)
    whole = await registry.export_proof(package_id)

    registry._limits = Limits(replay_page=1)

    assert await registry.export_proof(package_id) == whole


async def test_only_a_finalized_package_has_a_proof(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, finalize=False, retention_class="working")

    with pytest.raises(IllegalPackageStateError):
        await registry.export_proof(package_id)
    with pytest.raises(PackageNotFoundError):
        await registry.export_proof(uuid4())
    await registry.finalize_package(package_id, actor="ada")
    clock.advance(31 * 24 * 60 * 60 * 1000)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.delete_package(package_id, reason="done", actor="bob")

    proof = verify_proof(await registry.export_proof(package_id))
    assert proof.events[-1].event_type == "v1.package.deleted"


async def test_a_log_that_was_changed_gives_no_proof(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES)
    await rewrite(engine, "UPDATE events SET actor = 'eve' WHERE sequence = 2")

    with pytest.raises(LogDamagedError) as refused:
        await registry.export_proof(package_id)
    assert refused.value.sequence == 2


@needs_signing
async def test_a_signed_proof_ends_with_its_checkpoint(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES)
    await make_package(registry, FILES)
    checkpoint = await registry.sign_checkpoint(SEED)
    await registry.hold_package(package_id, reason="later", actor="ada")

    proof = verify_proof(
        await registry.export_proof(package_id, checkpoint=checkpoint), trusted_keys=[PUBLIC]
    )

    assert proof.checkpoint == checkpoint
    assert (checkpoint.sequence, checkpoint.created_at) == (8, clock.now())
    assert proof.head_sequence == 8
    assert proof.events[-1].event_type == "v1.package.finalized"


@needs_signing
async def test_a_checkpoint_that_does_not_fit_is_refused(
    registry: Registry, make_package: MakePackage
) -> None:
    await make_package(registry, {})
    early = await registry.sign_checkpoint(SEED)
    package_id = await make_package(registry, FILES)
    other_log = Checkpoint(1, bytes(32), early.created_at, PUBLIC, bytes(64))
    ahead = Checkpoint(99, bytes(32), early.created_at, PUBLIC, bytes(64))

    for checkpoint, message in ((early, "older"), (other_log, "another"), (ahead, "another")):
        with pytest.raises(ProofError, match=message):
            await registry.export_proof(package_id, checkpoint=checkpoint)


@needs_signing
async def test_an_empty_log_has_no_checkpoint(registry: Registry) -> None:
    with pytest.raises(CheckpointError):
        await registry.sign_checkpoint(SEED)


@needs_signing
async def test_checkpoints_agree_with_the_log_that_they_are_of(
    registry: Registry, make_package: MakePackage
) -> None:
    await make_package(registry, FILES)
    first = await registry.sign_checkpoint(SEED)
    await make_package(registry, FILES)
    second = await registry.sign_checkpoint(SEED)

    report = await registry.verify_log(checkpoints=[second, first], trusted_keys=[PUBLIC])

    assert report.ok
    assert report.head_sequence == second.sequence
    with pytest.raises(CheckpointError):
        await registry.verify_log(checkpoints=[first], trusted_keys=["00" * 32])


@needs_signing
async def test_a_log_that_was_cut_is_noticed(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    await make_package(registry, FILES)
    checkpoint = await registry.sign_checkpoint(SEED)
    await rewrite(engine, "DELETE FROM events WHERE sequence > 2")
    async with engine.begin() as connection:  # who cuts the log also hides it from the views
        await connection.execute(text("UPDATE artifact_packages SET last_event_sequence = 2"))

    assert (await registry.verify_log()).ok
    report = await registry.verify_log(checkpoints=[checkpoint])

    assert report.damage is not None
    assert (report.damage.sequence, report.head_sequence) == (3, 2)


@needs_signing
async def test_a_log_that_was_written_anew_is_noticed(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    await make_package(registry, FILES)
    checkpoint = await registry.sign_checkpoint(SEED)
    await rewrite(engine, "DELETE FROM events")
    async with engine.begin() as connection:
        for table in ("artifact_files", "retention_state", "artifact_metadata"):
            await connection.execute(text(f"DELETE FROM {table}"))
        await connection.execute(text("DELETE FROM artifact_packages"))
    await make_package(registry, FILES | {"a.txt": b"another story"})

    assert (await registry.verify_log()).ok
    report = await registry.verify_log(checkpoints=[checkpoint])

    assert report.damage is not None
    assert (report.damage.sequence, report.head_sequence) == (checkpoint.sequence, 3)


async def test_the_root_of_the_tree_is_that_of_the_proof(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES)
    proof = verify_proof(await registry.export_proof(package_id))

    _, hashes = await registry.read_tile(0, 0)
    assert root_of(hashes) == proof.root_hash
