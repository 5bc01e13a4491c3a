"""Bags, as RFC 8493 and the bagit library see them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_artifact_registry.errors import ExportRefusedError, ImportRefusedError
from starfish_artifact_registry.interchange._bagit import payload_path
from starfish_artifact_registry.registry import Registry

MakePackage = Callable[..., Awaitable[UUID]]

ODD_NAMES = [
    *("plain.txt", "with space.txt", "trailing space ", " leading", "100%", "%41", "a^b", "~root"),
    *("cr\rlf\nboth\r\n", "\r\r\r\n\n\n", "line\u2028separator\u2029and\x85next", "tab\tbell\a"),
    *("-rf", "*star", "#hash", "ü/ö/ä", "deep/" * 100 + "file", "x" * 255, "con", "no\u00a0"),
]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """A folder is refused before any database is asked."""
    return sqlite_url


def validate(folder: Path) -> None:
    bagit = pytest.importorskip("bagit", reason="the bagit library is not installed")
    bag = bagit.Bag(str(folder))
    assert sorted(bag.algorithms) == ["sha256", "sha512"]
    bag.validate()


async def test_the_bagit_library_finds_our_bag_valid_whatever_the_names(
    registry: Registry, elsewhere: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    files = {name: b"%d" % number for number, name in enumerate(ODD_NAMES)}
    package_id = await make_package(registry, files)

    await registry.export_package(package_id, tmp_path / "bag")
    await asyncio.to_thread(validate, tmp_path / "bag")
    await elsewhere.import_package(tmp_path / "bag", actor="bob")

    paths = {file.relative_path for file in await elsewhere.list_files(package_id)}
    assert paths == set(ODD_NAMES)


async def test_an_empty_bag_is_valid(
    registry: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    package_id = await make_package(registry, {})

    await registry.export_package(package_id, tmp_path / "bag")

    await asyncio.to_thread(validate, tmp_path / "bag")


@pytest.fixture
async def bag(registry: Registry, make_package: MakePackage, tmp_path: Path) -> Path:
    package_id = await make_package(registry, {"a.txt": b"alpha", "logs/b.txt": b"beta"})
    await registry.export_package(package_id, tmp_path / "bag")
    return tmp_path / "bag"


def everything_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


async def test_a_bag_is_laid_out_as_documented(registry: Registry, bag: Path) -> None:
    (package,) = await registry.list_packages()

    assert {str(path.relative_to(bag)) for path in everything_below(bag)} == {
        *("bagit.txt", "bag-info.txt", "manifest-sha256.txt", "manifest-sha512.txt"),
        *("tagmanifest-sha256.txt", "tagmanifest-sha512.txt", "starfish"),
        *("starfish/manifest.cbor", "data", "data/a.txt", "data/logs", "data/logs/b.txt"),
    }
    assert (bag / "manifest-sha256.txt").read_text() == (
        f"{sha256(b'alpha').hexdigest()}  data/a.txt\n"
        f"{sha256(b'beta').hexdigest()}  data/logs/b.txt\n"
    )
    manifest = await registry.get_manifest_bytes(package.package_id)
    assert (bag / "starfish/manifest.cbor").read_bytes() == manifest
    assert (bag / "bag-info.txt").read_text() == (
        "Bagging-Date: 2023-11-14\n"
        f"External-Identifier: urn:uuid:{package.package_id}\n"
        "Payload-Oxum: 9.2\n"
        f"Starfish-Manifest-Digest: {package.manifest_digest}\n"
    )


PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(PATHS, PATHS)
def test_no_two_paths_become_one_and_none_needs_encoding(first: str, second: str) -> None:
    assert (payload_path(first) == payload_path(second)) == (first == second)
    name = payload_path(first)
    assert name.splitlines() == [name]
    assert name.strip() == name
    assert "%" not in name
    assert name.count("/") == first.count("/") + 1


async def test_names_that_no_folder_can_hold_are_refused_and_said(
    registry: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    too_long = await make_package(registry, {"ok": b"", f"a/{'x' * 256}": b""})
    both = await make_package(registry, {"a": b"", "a/b/c": b""})

    for package_id, path in ((too_long, f"a/{'x' * 256}"), (both, "a/b/c")):
        with pytest.raises(ExportRefusedError, match="OCI") as refused:
            await registry.export_package(package_id, tmp_path / "bag")
        assert refused.value.path == path
        await registry.export_package(package_id, tmp_path / path[-1:], "oci")


def rewrite(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_text(changed)


def tags_fit_again(bag: Path) -> None:
    """Without them nothing covers the tag files but the one that has the manifest."""
    (bag / "tagmanifest-sha512.txt").unlink()
    line = sha256((bag / "starfish/manifest.cbor").read_bytes()).hexdigest()
    (bag / "tagmanifest-sha256.txt").write_text(f"{line}  starfish/manifest.cbor\n")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda bag: (bag / "bagit.txt").write_text("BagIt-Version: 7\n"), id="version"
        ),
        pytest.param(lambda bag: (bag / "fetch.txt").write_text("http://x 1 data/x"), id="fetch"),
        pytest.param(lambda bag: (bag / "data/extra").write_text(""), id="extra payload"),
        pytest.param(
            lambda bag: rewrite(bag / "manifest-sha256.txt", "data/a", "data/c"), id="other name"
        ),
        pytest.param(lambda bag: rewrite(bag / "manifest-sha512.txt", "^.", "g"), id="no hex"),
        pytest.param(
            lambda bag: rewrite(bag / "manifest-sha512.txt", "^[^ ]+", "00"), id="wrong sha512"
        ),
        pytest.param(
            lambda bag: rewrite(bag / "manifest-sha256.txt", "^[^ ]+", "00"), id="wrong sha256"
        ),
        pytest.param(
            lambda bag: rewrite(bag / "manifest-sha256.txt", "data/a.txt", "../../etc/passwd"),
            id="leads out",
        ),
        pytest.param(
            lambda bag: rewrite(bag / "manifest-sha256.txt", "(.*)\n", r"\1\n\1\n"), id="twice"
        ),
        pytest.param(lambda bag: (bag / "manifest-sha256.txt").write_bytes(b"\xff"), id="no UTF-8"),
        pytest.param(lambda bag: (bag / "manifest-md5.txt").write_text("00  data/a"), id="md5"),
        pytest.param(
            lambda bag: rewrite(bag / "bag-info.txt", "Oxum: 9", "Oxum: 8"), id="wrong oxum"
        ),
    ],
)
@pytest.mark.parametrize("consistent", [False, True])
async def test_a_bag_that_does_not_hold_what_it_says_is_refused(
    elsewhere: Registry, bag: Path, damage: Callable[[Path], None], *, consistent: bool
) -> None:
    damage(bag)
    if consistent:
        tags_fit_again(bag)

    with pytest.raises(ImportRefusedError):
        await elsewhere.import_package(bag, actor="bob")
    assert await elsewhere.list_packages() == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda bag: (bag / "bag-info.txt").unlink(), id="tag file gone"),
        pytest.param(
            lambda bag: rewrite(bag / "bag-info.txt", "2023", "2024"), id="tag file changed"
        ),
    ],
)
async def test_tag_files_are_what_the_tag_manifests_say_and_free_without(
    elsewhere: Registry, bag: Path, damage: Callable[[Path], None]
) -> None:
    damage(bag)

    with pytest.raises(ImportRefusedError, match="bag-info"):
        await elsewhere.import_package(bag, actor="bob")
    tags_fit_again(bag)
    await elsewhere.import_package(bag, actor="bob")


async def test_tag_manifests_are_optional(elsewhere: Registry, bag: Path) -> None:
    for name in ("sha256", "sha512"):
        (bag / f"tagmanifest-{name}.txt").unlink()

    package_id = await elsewhere.import_package(bag, actor="bob")

    assert (await elsewhere.verify_package(package_id)).ok


async def test_a_bag_that_another_tool_wrote_anew_is_taken(elsewhere: Registry, bag: Path) -> None:
    """Other line ends, capital digits, one algorithm, and a `*` before the path are fine too."""
    for name in ("manifest", "tagmanifest"):
        (bag / f"{name}-sha512.txt").unlink()
    path = bag / "manifest-sha256.txt"
    lines = [line.split("  ") for line in path.read_text().splitlines()]
    path.write_bytes("".join(f"{sum_.upper()} \t*{file}\r\n" for sum_, file in lines).encode())
    tags_fit = sha256((bag / "starfish/manifest.cbor").read_bytes()).hexdigest()
    (bag / "tagmanifest-sha256.txt").write_text(f"{tags_fit} starfish/manifest.cbor\r")

    await elsewhere.import_package(bag, actor="bob")

    assert (await elsewhere.verify_all()).files_checked == 2
