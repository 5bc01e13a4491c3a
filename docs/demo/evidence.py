"""A chapter of the demo: the project's pages as evidence, a byte that rots, views made again.

The pages become one package of a registry, finalized and verified. Then one byte of one stored
page is changed behind the registry's back: the fixity check names the page. At the end every view
is thrown away and made from the log again, to the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    create_schema,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.address import ContentAddress

VIEWS = (artifact_packages, artifact_metadata, artifact_files, storage_locations, retention_state)


async def chapter(
    folder: Path, say: Callable[[str], None], *, pages: Iterable[Path], root: Path
) -> None:
    """Tell it; ends the program where something does not hold.

    Args:
        folder: where the registry is made.
        say: prints a line.
        pages: the files.
        root: the folder that their paths in the package are relative to.
    """
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    engine = create_engine(f"sqlite:///{folder / 'registry.sqlite'}")
    try:
        await create_schema(engine)
        backend = LocalBackend(folder / "content")
        # Each page is a file of its own, so that a byte can be changed by hand.
        limits = Limits(pack_bytes=0)
        registry = Registry(
            engine, InProcessDataPlane(backend), RegistryViewWriter(), limits=limits
        )
        await _tell(registry, engine, backend, say, {str(p.relative_to(root)): p for p in pages})
    finally:
        await engine.dispose()


async def _tell(
    registry: Registry,
    engine: AsyncEngine,
    backend: LocalBackend,
    say: Callable[[str], None],
    pages: dict[str, Path],
) -> None:
    package = await registry.create_package(
        name="pages", producer="make demo", subject="documentation", retention_class="raw-evidence", actor="ada",
    )  # fmt: skip
    for name, page in pages.items():
        await registry.ingest_file(
            package, relative_path=name, media_type="text/markdown", stream=_content(page), actor="ada",
        )  # fmt: skip
    digest = await registry.finalize_package(package, actor="ada")
    say(f"The pages become evidence: {len(pages)} files, manifest {str(digest)[:20]}….")
    proof = verify_proof(await registry.export_proof(package))
    clean = (await registry.verify_log()).ok and (await registry.verify_package(package)).ok
    if not clean or proof.manifest_digest != digest:
        raise SystemExit("the registry does not hold what it was given")
    say("   Every event and every byte is as it was written; an exported proof says the same.")

    victim = next(iter(pages))
    _flip_one_byte(backend, ContentAddress.of(pages[victim].read_bytes()))
    report = await registry.verify_package(package)
    if report.changed != (victim,) or report.missing:
        raise SystemExit(f"{victim} was changed, and the check says {report}")
    say(f"   One byte of one stored file is changed by hand. The fixity check names it: {victim}.")

    before = await _views(engine)
    applied = await replay(engine, RegistryViewWriter(), reset=True)
    if await _views(engine) != before:
        raise SystemExit("the views that were made again are others")
    say(f"   All views are made again from {applied} events: the same rows, byte for byte.")


async def _content(page: Path) -> AsyncIterator[bytes]:
    yield await asyncio.to_thread(page.read_bytes)


def _flip_one_byte(backend: LocalBackend, address: ContentAddress) -> None:
    digits = address.digest.hex()
    stored = backend.root / "blake3" / digits[:2] / digits
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)


async def _views(engine: AsyncEngine) -> list[list[tuple[object, ...]]]:
    async with engine.connect() as connection:
        return [
            sorted((tuple(row) for row in await connection.execute(select(view))), key=repr)
            for view in VIEWS
        ]
