"""``verify``, ``export-proof``, ``verify-proof``, ``checkpoint``: is it still what it was?"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from starfish_artifact_registry.cli._command import LOCAL_ACTOR, Actor, Session, command
from starfish_artifact_registry.cli._exit_status import ExitStatus
from starfish_artifact_registry.cli._packages import PackageId
from starfish_artifact_registry.cli._progress import Meter, meter
from starfish_artifact_registry.cli._terminal_text import printable, readable_size
from starfish_artifact_registry.fixity import FixityProgress, FixityReport
from starfish_artifact_registry.model._checkpoint import Checkpoint
from starfish_artifact_registry.model._json_form import json_form
from starfish_artifact_registry.proof import _verify as proofs
from starfish_artifact_registry.registry import Registry
from starfish_disk import create_file

__all__ = ("add_proof_commands",)


def _key(text: str) -> str:
    if _HEX_KEY.fullmatch(text) is None:
        raise typer.BadParameter("a public key is 64 lowercase hex digits")
    return text


_HEX_KEY = re.compile("[0-9a-f]{64}")
_Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="HEX", parser=_key, help="A trusted Ed25519 public key; repeatable."
    ),
]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to.")]


def add_proof_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "verify")(verify)
    command(app, "export-proof")(export_proof)
    command(app, "verify-proof")(verify_proof)
    command(app, "checkpoint")(checkpoint)
    command(app, "make-key")(make_key)


async def verify(
    session: Session,
    package_ids: Annotated[
        list[UUID] | None,
        typer.Argument(metavar="[PACKAGE]...", help="These; all of them if none is named."),
    ] = None,
    *,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="The log must agree with it; repeatable."
        ),
    ] = None,
    keys: _Keys = None,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Check the chain, every history, table and trigger, and every stored byte; name differences."""
    if keys and not checkpoints:
        raise typer.BadParameter("--key says who may sign a checkpoint: give --checkpoint too")
    known = [
        Checkpoint.decode(await asyncio.to_thread(file.read_bytes)) for file in checkpoints or []
    ]
    async with session.registry() as registry:
        log = await registry.verify_log(checkpoints=known, trusted_keys=keys or ())
        audited = await registry.audit()
        reports: list[FixityReport] = []
        packages = files = size = 0
        if log.damage is None and not any(d.kind == "history" for d in audited.differences):
            with meter(session.output) as progress:
                packages, files, size = await _check_files(
                    registry, package_ids, actor, progress, reports
                )
    lines = [
        f"CHANGED  {each.package_id}  {printable(path)}"
        for each in reports
        for path in each.changed
    ]
    lines += [
        f"MISSING  {each.package_id}  {printable(path)}"
        for each in reports
        for path in each.missing
    ]
    if log.damage is not None:
        lines.append(f"LOG      {printable(str(log.damage))}")
    lines += [f"{each.kind.upper():<8} {printable(each.text)}" for each in audited.differences]
    result = {
        "differences": json_form(audited.differences),
        "log": {
            "head_sequence": log.head_sequence,
            "head_digest": log.head_digest.hex(),
            "damage": None if log.damage is None else str(log.damage),
        },
        "packages": packages,
        "files": files,
        "bytes": size,
        "damaged": json_form(reports),
    }
    counted = f"{packages} packages, {files} files, {readable_size(size)}"
    if lines:
        session.output.failed_check(result, "\n".join(lines))
        raise typer.Exit(ExitStatus.REFUSED)
    if known and not keys:
        signers = ", ".join(sorted({each.public_key for each in known}))
        session.output.note(f"signed by {signers}; name the keys that you trust with --key")
    session.output.result(result, f"ok: {log.head_sequence} events, {counted}")


async def export_proof(
    session: Session,
    package_id: PackageId,
    *,
    output: _Output,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="A signed one, for the proof to reach."),
    ] = None,
) -> None:
    """Write a file that proves what a package holds, to somebody who has neither database nor network."""
    signed = None
    if checkpoint is not None:
        signed = Checkpoint.decode(await asyncio.to_thread(checkpoint.read_bytes))
    async with session.registry() as registry:
        data = await registry.export_proof(package_id, checkpoint=signed)
    await asyncio.to_thread(output.write_bytes, data)
    session.output.result(
        {"package_id": str(package_id), "path": str(output), "size": len(data)},
        f"{printable(str(output))}: {readable_size(len(data))}",
    )


async def verify_proof(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export-proof wrote.")],
    *,
    keys: _Keys = None,
    files: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare the files below this folder too."),
    ] = None,
) -> None:
    """Check a proof; needs no registry."""
    data = await asyncio.to_thread(file.read_bytes)
    try:
        found = await asyncio.to_thread(
            proofs.verify_proof, data, trusted_keys=keys or (), files=files
        )
    except ImportError as error:
        raise typer.BadParameter(str(error)) from None
    package = found.manifest.package
    result = {
        "package_id": str(found.package_id),
        "name": package.name,
        "manifest_digest": str(found.manifest_digest),
        "files": len(found.manifest.files),
        "files_checked": found.files_checked,
        "head_sequence": found.head_sequence,
        "root_hash": found.root_hash.hex(),
        "signed_by": None if found.checkpoint is None else found.checkpoint.public_key,
    }
    lines = [
        f"the proof holds: {printable(package.name)}, {len(found.manifest.files)} files",
        f"manifest {found.manifest_digest}",
        f"tree of {found.head_sequence} events, root {found.root_hash.hex()}",
    ]
    if found.checkpoint is not None:
        lines.append(f"signed by {found.checkpoint.public_key}")
    elif not keys:
        lines.append("nobody's signature was asked for: compare the root with one that you trust")
    session.output.result(result, "\n".join(lines))


async def checkpoint(
    session: Session,
    *,
    key_file: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Ed25519 private key, 64 hex digits on one line."),
    ],
    output: _Output,
) -> None:
    """Sign the head of the log; keep the result where no writer of the database comes."""
    key = (await asyncio.to_thread(key_file.read_text, "ascii", "replace")).strip()
    if _HEX_KEY.fullmatch(key) is None:  # which is not shown: it may be half of one
        raise typer.BadParameter(f"{str(key_file)!r} does not hold 64 lowercase hex digits")
    async with session.registry() as registry:
        signed = await registry.sign_checkpoint(key)
    await asyncio.to_thread(output.write_bytes, signed.encode())
    session.output.result(
        {"sequence": signed.sequence, "public_key": signed.public_key, "path": str(output)},
        f"event {signed.sequence} signed by {signed.public_key}: {printable(str(output))}",
    )


async def make_key(session: Session, *, output: _Output) -> None:
    """Make an Ed25519 key that signs checkpoints; prints its public half."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    line = f"{key.private_bytes_raw().hex()}\n".encode()
    await asyncio.to_thread(create_file, output, line)
    public = key.public_key().public_bytes_raw().hex()
    session.output.result({"public_key": public, "path": str(output)}, public)


async def _check_files(
    registry: Registry,
    package_ids: list[UUID] | None,
    actor: str,
    progress: Meter,
    damaged: list[FixityReport],
) -> tuple[int, int, int]:
    """Packages, files and bytes that were checked."""

    def show(done: FixityProgress) -> None:
        progress.add_bytes(done.bytes - progress.bytes)
        while progress.files < done.files:
            progress.add_file()

    if not package_ids:
        summary = await registry.verify_all(actor=actor, on_progress=show)
        damaged += summary.damaged
        return summary.packages_checked, summary.files_checked, summary.bytes_checked
    files = size = 0
    for package_id in package_ids:
        report = await registry.verify_package(package_id, actor=actor)
        files, size = files + report.files_checked, size + report.bytes_checked
        progress.add_bytes(report.bytes_checked)
        if not report.ok:
            damaged.append(report)
    return len(package_ids), files, size
