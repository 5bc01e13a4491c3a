"""What comes from outside may be anything: refused, said where, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from starfish_artifact_registry.errors import (
    ImportRefusedError,
    UnknownRetentionClassError,
)
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.registry import (
    Registry,
)
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
FILES = {"a.txt": b"alpha", "empty": b"", "logs/again.txt": b"alpha", "logs/deep/ü.bin": b"\0" * 70}
FORMS = ("bagit", "oci")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """A folder is refused before any database is asked."""
    return sqlite_url


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


def payload_of(folder: Path) -> list[Path]:
    """The files of the package in either form."""
    if (folder / "bagit.txt").exists():
        return sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    digests = {sha256(data).hexdigest() for data in FILES.values()}
    return sorted(path for path in (folder / "blobs/sha256").iterdir() if path.name in digests)


async def refused(elsewhere: Registry, folder: Path) -> ImportRefusedError:
    with pytest.raises(ImportRefusedError) as caught:
        await elsewhere.import_package(folder, actor="bob")
    assert await elsewhere.list_packages() == []
    assert (await elsewhere.verify_log()).head_sequence == 0
    return caught.value


@pytest.mark.parametrize("number", range(3))
async def test_a_changed_file_is_refused(elsewhere: Registry, folder: Path, number: int) -> None:
    victim = payload_of(folder)[number]
    data = bytearray(victim.read_bytes() or b"1")
    data[-1] ^= 1
    victim.write_bytes(data)

    await refused(elsewhere, folder)


async def test_a_missing_longer_or_shorter_file_is_refused(
    elsewhere: Registry, folder: Path, tmp_path: Path
) -> None:
    for number, change in enumerate(("missing", "longer", "shorter", "huge")):
        copy = tmp_path / f"copy{number}"
        await _copy(folder, copy)
        victim = payload_of(copy)[0]
        data = victim.read_bytes()
        if change == "missing":
            victim.unlink()
        elif change == "huge":
            os.truncate(victim, 1 << 40)  # a hole; reading it all takes for an hour
        else:
            victim.write_bytes(data + b"1" if change == "longer" else data[:-1] or b"12")
        await refused(elsewhere, copy)


async def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


@pytest.mark.parametrize("what", ["link", "link to a folder", "pipe", "folder"])
async def test_what_is_no_file_is_not_followed(
    elsewhere: Registry, folder: Path, tmp_path: Path, what: str
) -> None:
    victim = payload_of(folder)[0]
    (tmp_path / "secret").write_bytes(victim.read_bytes())
    if what == "link to a folder":
        moved = tmp_path / "moved"
        parent = victim.parent
        parent.rename(moved)
        parent.symlink_to(moved)
    else:
        victim.unlink()
        if what == "link":
            victim.symlink_to(tmp_path / "secret")
        elif what == "pipe":
            os.mkfifo(victim)
        else:
            victim.mkdir()

    await refused(elsewhere, folder)


async def test_a_folder_that_is_none_of_both_is_refused(
    elsewhere: Registry, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "file", tmp_path / "folder", tmp_path / "nowhere"):
        await refused(elsewhere, path)


async def test_an_unknown_retention_class_is_said(
    registry: Registry, elsewhere: Registry, folder: Path
) -> None:
    async with elsewhere._database.engine.begin() as connection:
        from starfish_artifact_registry.db.schema import retention_classes

        await connection.execute(retention_classes.delete())

    with pytest.raises(UnknownRetentionClassError):
        await elsewhere.import_package(folder, actor="bob")


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the package's manifest, and everything around it so that it fits."""
    from starfish_protocol import cbor

    if (folder / "bagit.txt").exists():
        path = folder / "starfish/manifest.cbor"
        plain = cbor.decode(path.read_bytes())
        change(plain)
        path.write_bytes(cbor.encode(plain))
        for name, digest in (("sha256", sha256), ("sha512", sha512)):
            tags = folder / f"tagmanifest-{name}.txt"
            lines = [line.split("  ", 1) for line in tags.read_text().splitlines()]
            tags.write_text(
                "".join(
                    f"{digest((folder / file).read_bytes()).hexdigest()}  {file}\n"
                    for _, file in lines
                )
            )
        return
    blobs = folder / "blobs/sha256"
    index = json.loads((folder / "index.json").read_bytes())
    image = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    plain = cbor.decode((blobs / image["config"]["digest"][7:]).read_bytes())
    change(plain)

    def put(data: bytes) -> dict[str, Any]:
        (blobs / sha256(data).hexdigest()).write_bytes(data)
        return {"digest": f"sha256:{sha256(data).hexdigest()}", "size": len(data)}

    image["config"] |= put(cbor.encode(plain))
    index["manifests"][0] |= put(json.dumps(image).encode())
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda plain: plain["files"][0].update(relative_path="../evil"), id="path"),
        pytest.param(lambda plain: plain["files"][0].update(relative_path="a/b/c"), id="moved"),
        pytest.param(lambda plain: plain["files"][0].update(size=6), id="size"),
        pytest.param(lambda plain: plain["files"][0].update(size=-1), id="negative size"),
        pytest.param(lambda plain: plain["files"][0].update(size=1 << 60), id="endless size"),
        pytest.param(
            lambda plain: plain["files"][0].update(content_address=f"blake3:{'0' * 64}"),
            id="blake3",
        ),
        pytest.param(
            lambda plain: plain["files"][0].update(sha256=f"sha256:{'0' * 64}"), id="sha256"
        ),
        pytest.param(lambda plain: plain["files"].pop(), id="a file less"),
        pytest.param(
            lambda plain: plain["files"][1].update(id=plain["files"][0]["id"]), id="an id twice"
        ),
        pytest.param(lambda plain: plain["package"].update(name=""), id="no name"),
        pytest.param(lambda plain: plain["package"].update(created_by="a\nb"), id="odd actor"),
        pytest.param(lambda plain: plain["package"].update(metadata={"a": 1.0}), id="odd number"),
        pytest.param(lambda plain: plain["package"].update(status="created"), id="status"),
        pytest.param(lambda plain: plain["files"][0].update(media_type="\x1b[2J"), id="media type"),
        pytest.param(lambda plain: plain.update(manifest_version=2), id="version"),
    ],
)
async def test_a_manifest_that_was_made_up_is_refused(
    elsewhere: Registry, folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    forge(folder, change)

    await refused(elsewhere, folder)


async def test_forged_for_the_test_means_else_nothing_changed(
    elsewhere: Registry, package_id: UUID, folder: Path
) -> None:
    forge(folder, lambda plain: plain["package"].update(name="another name"))

    await elsewhere.import_package(folder, actor="bob")

    assert (await elsewhere.get_package(package_id)).name == "another name"
    manifest = manifests.decode(await elsewhere.get_manifest_bytes(package_id))
    assert manifest.package.name == "another name"


async def test_ids_of_files_that_others_have_are_refused_and_disturb_nobody(
    elsewhere: Registry, folder: Path
) -> None:
    await elsewhere.import_package(folder, actor="bob")
    forge(folder, lambda plain: plain["package"].update(id=str(uuid4())))

    with pytest.raises(ImportRefusedError, match="another file"):
        await elsewhere.import_package(folder, actor="bob")


async def test_more_files_than_the_registry_takes_are_refused(
    elsewhere: Registry, folder: Path
) -> None:
    from starfish_artifact_registry.limits import Limits

    elsewhere._limits = Limits(max_files=3)

    assert "3 files" in (await refused(elsewhere, folder)).reason
