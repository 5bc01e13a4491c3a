"""The console's pages about a registry: packages, one of them, a check of its bytes, a dropped proof."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from starfish_artifact_registry.console import console_component
from starfish_artifact_registry.registry import Registry
from starfish_http.callers import Caller
from starfish_http.components import PageRequest, everybody, has_role
from starfish_http.errors import RequestRefusedError


async def content() -> AsyncIterator[bytes]:
    yield b"a frame"


@pytest.fixture
async def package_id(registry: Registry) -> UUID:
    package_id = await registry.create_package(
        name="night", producer="camera", subject="gate", retention_class="raw-evidence", actor="ada"
    )
    await registry.ingest_file(
        package_id, relative_path="gate.mp4", media_type="video/mp4", stream=content(), actor="ada"
    )
    await registry.finalize_package(package_id, actor="ada")
    return package_id


async def shown(
    registry: Registry, page: str, query: Mapping[str, str] | None = None, file: bytes | None = None
) -> list[Any]:
    found = console_component(registry, may_see=everybody).page(page)
    assert found is not None
    return list(await found.show(PageRequest(Caller("ada"), query or {}, file)))


async def test_a_package_is_listed_and_shown_with_its_files_and_events(
    registry: Registry, package_id: UUID
) -> None:
    (listed,) = await shown(registry, "packages")
    _facts, files, events = await shown(registry, "package", {"id": str(package_id)})

    assert listed.rows[0][0].query == {"id": str(package_id)}
    assert [row[0] for row in files.rows] == ["gate.mp4"]
    assert [row[2] for row in events.rows] == [
        "v1.package.created",
        "v1.file.ingested",
        "v1.package.finalized",
    ]


async def test_bytes_are_checked_while_one_watches(registry: Registry, package_id: UUID) -> None:
    facts, *damage = await shown(registry, "check", {"id": str(package_id)})

    assert dict(facts.rows)["result"] == "every byte is as it was"
    assert damage == []


async def test_the_log_is_walked(registry: Registry, package_id: UUID) -> None:
    (facts,) = await shown(registry, "log")

    assert dict(facts.rows)["events"] == 3


async def test_a_proof_that_is_dropped_is_checked(registry: Registry, package_id: UUID) -> None:
    proof = await registry.export_proof(package_id)

    facts, files = await shown(registry, "proof", file=proof)

    assert dict(facts.rows)["package"] == str(package_id)
    assert [row[0] for row in files.rows] == ["gate.mp4"]
    for damaged in (b"", proof[:-1], proof.replace(b"gate.mp4", b"gata.mp4")):
        with pytest.raises(RequestRefusedError, match="proves nothing"):
            await shown(registry, "proof", file=damaged)


@pytest.mark.parametrize("text", ["", "7", "00000000-0000-4000-8000-000000000000"])
async def test_a_package_that_is_not_there_is_said_to_be(registry: Registry, text: str) -> None:
    for page in ("package", "check"):
        with pytest.raises(RequestRefusedError) as refused:
            await shown(registry, page, {"id": text})
        assert refused.value.status == 404


async def test_others_are_refused(registry: Registry, tmp_path: Path) -> None:
    for page in console_component(registry, may_see=has_role("auditor")).pages:
        with pytest.raises(RequestRefusedError):
            await page.show(PageRequest(Caller("ben"), {}))
