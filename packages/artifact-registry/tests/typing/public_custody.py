"""Proof, retention, queries and interchange as a user types them; read by mypy, never run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import assert_type
from uuid import UUID

from starfish_artifact_registry.checkpoint import Checkpoint
from starfish_artifact_registry.commands._garbage import GarbageReport
from starfish_artifact_registry.fixity import FixityReport, FixitySummary
from starfish_artifact_registry.log._hash_chain import LogReport
from starfish_artifact_registry.manifest import Manifest
from starfish_artifact_registry.proof import PackageProof, ProvedEvent, verify_proof
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._query import Hold, PackageRecord
from starfish_protocol.address import ContentAddress


async def prove(registry: Registry, package_id: UUID, key: str) -> None:
    checkpoint = await registry.sign_checkpoint(key)
    assert_type(checkpoint, Checkpoint)
    assert_type(checkpoint.encode(), bytes)
    assert_type(Checkpoint.decode(b""), Checkpoint)
    data = await registry.export_proof(package_id, checkpoint=checkpoint)
    assert_type(data, bytes)
    proof = verify_proof(data, trusted_keys=[checkpoint.public_key], files=Path())
    assert_type(proof, PackageProof)
    assert_type(proof.manifest, Manifest)
    assert_type(proof.events, tuple[ProvedEvent, ...])
    assert_type(proof.checkpoint, Checkpoint | None)
    assert_type(await registry.verify_log(checkpoints=[checkpoint]), LogReport)
    report = await registry.verify_package(package_id, on_progress=lambda done: print(done.files))  # noqa: T201  # never run
    assert_type(report, FixityReport)
    assert_type(report.changed, tuple[str, ...])
    summary = await registry.verify_all(actor="night watch")
    assert_type(summary, FixitySummary)
    assert_type(summary.damaged, tuple[FixityReport, ...])


async def retain(registry: Registry, package_id: UUID) -> None:
    hold_id = await registry.hold_package(package_id, reason="case", actor="ada")
    assert_type(hold_id, UUID)
    await registry.release_hold(package_id, hold_id, reason="settled", actor="ada")
    assert_type(await registry.expire_due(actor="clerk"), list[UUID])
    await registry.expire_package(package_id, actor="clerk")
    await registry.delete_package(package_id, reason="done", actor="bob")
    assert_type(await registry.gc(grace=timedelta(hours=1)), GarbageReport)


async def find(registry: Registry, package_id: UUID) -> None:
    package = await registry.get_package(package_id)
    assert_type(package, PackageRecord)
    assert_type(package.holds, tuple[Hold, ...])
    assert_type(package.manifest_digest, ContentAddress | None)
    page = await registry.list_packages(metadata={"case": 7}, after=package_id, limit=10)
    assert_type(page, list[PackageRecord])


async def travel(registry: Registry, package_id: UUID) -> None:
    await registry.export_package(package_id, "folder", "oci")
    await registry.export_package(package_id, Path("folder"), "zip")  # type: ignore[arg-type]  # no such form
    assert_type(await registry.import_package("folder", actor="bob"), UUID)
