"""Bags and layouts that other programs made or touched: RFC 8493 and OCI are the measure."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import unicodedata
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from starfish_artifact_registry.errors import ImportRefusedError
from starfish_artifact_registry.registry import Registry

MakePackage = Callable[..., Awaitable[UUID]]
FILES = {"day 1/x.txt": b"x", "é.txt": b"accent"}


def write_manifest(
    bag: Path, algorithm: str, files: dict[str, bytes], form: str = "{}  {}\n"
) -> None:
    lines = [
        form.format(hashlib.new(algorithm, data).hexdigest(), f"data/{path}")
        for path, data in files.items()
    ]
    (bag / f"manifest-{algorithm}.txt").write_text("".join(lines))


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Make a bag as other programs do."""

    def make(algorithm: str = "sha256", version: str = "1.0") -> Path:
        bag = tmp_path / "foreign"
        for path, data in FILES.items():
            (bag / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            (bag / "data" / path).write_bytes(data)
        (bag / "bagit.txt").write_text(
            f"BagIt-Version: {version}\nTag-File-Character-Encoding: UTF-8\n"
        )
        (bag / "bag-info.txt").write_text(
            "Source-Organization: Harbour office\nExternal-Identifier: dive 3\n"
            "External-Description: a long\n  description\nPayload-Oxum: 7.2\n"
        )
        write_manifest(bag, algorithm, FILES)
        return bag

    return make


async def contents(registry: Registry, package_id: UUID) -> dict[str, bytes]:
    return {
        file.relative_path: b"".join([c async for c in await registry.get_file(file.file_id)])
        for file in await registry.list_files(package_id)
    }


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("version", ["0.96", "0.97", "1.0"])
async def test_a_bag_of_another_maker_becomes_a_package(
    elsewhere: Registry, foreign: Callable[..., Path], algorithm: str, version: str
) -> None:
    package_id = await elsewhere.import_package(foreign(algorithm, version), actor="bob")

    package = await elsewhere.get_package(package_id)
    assert (package.name, package.producer) == ("dive 3", "Harbour office")
    assert package.subject == "a long description"
    assert (package.status, package.imported_by) == ("finalized", "bob")
    assert await contents(elsewhere, package_id) == FILES
    assert (await elsewhere.audit()).ok
    assert (await elsewhere.verify_package(package_id)).ok


def _dots(bag: Path) -> None:
    write_manifest(bag, "sha256", FILES, "{}  ./{}\n")


def _windows(bag: Path) -> None:
    text = (bag / "manifest-sha256.txt").read_text()
    (bag / "manifest-sha256.txt").write_bytes(text.replace("\n", "\r\n").encode())


def _fetched(bag: Path) -> None:
    (bag / "fetch.txt").write_text("http://127.0.0.1/x 1 data/day 1/x.txt\n")


def _decomposed(bag: Path) -> None:
    name = unicodedata.normalize("NFD", "é.txt")
    (bag / "data/é.txt").rename(bag / "data" / name)


def _utf8(bag: Path) -> None:
    text = (bag / "bagit.txt").read_text()
    (bag / "bagit.txt").write_text(text.replace("UTF-8", "utf-8"))


def _unknown(bag: Path) -> None:
    (bag / "manifest-whirlpool.txt").write_text("00  data/day 1/x.txt\n")


@pytest.mark.parametrize("touch", [_dots, _windows, _fetched, _decomposed, _utf8, _unknown])
async def test_what_the_standard_allows_comes_in(
    elsewhere: Registry, foreign: Callable[..., Path], touch: Callable[[Path], None]
) -> None:
    bag = foreign()
    touch(bag)

    package_id = await elsewhere.import_package(bag, actor="bob")

    assert await contents(elsewhere, package_id) == FILES


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
async def test_a_bag_may_be_one_file(
    elsewhere: Registry, foreign: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    bag = foreign()
    archive = Path(shutil.make_archive(str(tmp_path / "bag"), kind, bag.parent, bag.name))

    package_id = await elsewhere.import_package(archive, actor="bob")

    assert await contents(elsewhere, package_id) == FILES


def _change(bag: Path) -> None:
    (bag / "data/day 1/x.txt").write_bytes(b"y")


def _hole(bag: Path) -> None:
    (bag / "data/day 1/x.txt").unlink()
    (bag / "fetch.txt").write_text("http://127.0.0.1/x 1 data/day 1/x.txt\n")


def _more(bag: Path) -> None:
    (bag / "data/more").write_bytes(b"z")


def _out(bag: Path) -> None:
    with (bag / "manifest-sha256.txt").open("a") as opened:
        opened.write("00  data/../../etc/passwd\n")


def _link(bag: Path) -> None:
    (bag / "data/link").symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [_change, _hole, _more, _out, _link])
async def test_damage_is_refused_and_nothing_is_made(
    elsewhere: Registry, foreign: Callable[..., Path], damage: Callable[[Path], None]
) -> None:
    bag = foreign()
    damage(bag)

    with pytest.raises(ImportRefusedError):
        await elsewhere.import_package(bag, actor="bob")
    assert await elsewhere.list_packages() == []


async def test_an_archive_that_leads_out_is_refused(elsewhere: Registry, tmp_path: Path) -> None:
    evil, noise = tmp_path / "evil.zip", tmp_path / "noise"
    with zipfile.ZipFile(evil, "w") as opened:
        opened.writestr("../out.txt", "x")
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as opened_tar:
        link = tarfile.TarInfo("bag/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened_tar.addfile(link)
    noise.write_bytes(b"noise" * 100)

    for archive in (evil, linked, noise):
        with pytest.raises(ImportRefusedError):
            await elsewhere.import_package(archive, actor="bob")
    assert not (tmp_path.parent / "out.txt").exists()


async def test_a_layout_that_others_have_copied_comes_back(
    registry: Registry, elsewhere: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    package_id = await make_package(registry, FILES)
    layout = tmp_path / "layout"
    await registry.export_package(package_id, layout, format="oci")
    index = json.loads((layout / "index.json").read_text())
    kept = {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
    other = json.dumps({"schemaVersion": 2, "mediaType": kept["mediaType"], "layers": []}).encode()
    digest = hashlib.sha256(other).hexdigest()
    (layout / f"blobs/sha256/{digest}").write_bytes(other)
    beside = {"mediaType": kept["mediaType"], "digest": f"sha256:{digest}", "size": len(other)}
    tagged = kept | {"annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (layout / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [beside, tagged]})
    )

    assert await elsewhere.import_package(layout, actor="bob") == package_id
