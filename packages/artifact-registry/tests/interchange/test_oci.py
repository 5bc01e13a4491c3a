"""OCI image layouts, checked against what the specification (version 1.1) demands of one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from starfish_artifact_registry.errors import ImportRefusedError
from starfish_artifact_registry.interchange import ARTIFACT_TYPE, MANIFEST_TYPE
from starfish_artifact_registry.registry import Registry

MakePackage = Callable[..., Awaitable[UUID]]
FILES = {"a.txt": b"alpha", "logs/again": b"alpha", "logs/ü%\n": b"beta", "z": b""}
MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """A folder is refused before any database is asked."""
    return sqlite_url


def check_descriptor(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Descriptor: mediaType, digest and size are required; the blob stands under its digest."""
    assert MEDIA_TYPE.fullmatch(descriptor["mediaType"])
    algorithm, _, encoded = descriptor["digest"].partition(":")
    assert algorithm == "sha256"
    assert re.fullmatch("[a-f0-9]{64}", encoded)
    assert type(descriptor["size"]) is int
    assert "data" not in descriptor or not descriptor["data"]
    annotations = descriptor.get("annotations", {})
    assert all(type(key) is str and type(value) is str for key, value in annotations.items())
    blob = (layout / "blobs" / algorithm / encoded).read_bytes()
    assert len(blob) == descriptor["size"]
    assert sha256(blob).hexdigest() == encoded
    return blob


def check_layout(layout: Path) -> dict[str, Any]:
    """Every rule of image-layout.md, image-index.md and manifest.md; gives the image manifest."""
    marker = json.loads((layout / "oci-layout").read_bytes())
    assert marker["imageLayoutVersion"] == "1.0.0"
    assert (layout / "blobs").is_dir()
    index = json.loads((layout / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (descriptor,) = index["manifests"]
    assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    reference = descriptor["annotations"]["org.opencontainers.image.ref.name"]
    assert re.fullmatch(r"[A-Za-z0-9]+(?:[-._:@/+][A-Za-z0-9]+)*", reference)
    image: dict[str, Any] = json.loads(check_descriptor(layout, descriptor))
    assert image["schemaVersion"] == 2
    assert image["mediaType"] == descriptor["mediaType"]
    assert MEDIA_TYPE.fullmatch(image["artifactType"])
    assert image["artifactType"] == descriptor["artifactType"]
    check_descriptor(layout, image["config"])
    assert image["layers"]  # SHOULD have at least one entry, for portability
    for layer in image["layers"]:
        check_descriptor(layout, layer)
    created = image["annotations"]["org.opencontainers.image.created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", created)
    for blob in (layout / "blobs").rglob("*"):
        if blob.is_file():
            assert sha256(blob.read_bytes()).hexdigest() == blob.name
    return image


@pytest.fixture
async def layout(registry: Registry, make_package: MakePackage, tmp_path: Path) -> Path:
    package_id = await make_package(registry, FILES)
    await registry.export_package(package_id, tmp_path / "layout", "oci")
    return tmp_path / "layout"


async def test_a_layout_keeps_every_rule_of_the_specification(
    registry: Registry, layout: Path
) -> None:
    image = await asyncio.to_thread(check_layout, layout)

    (package,) = await registry.list_packages()
    manifest = await registry.get_manifest_bytes(package.package_id)
    assert image["artifactType"] == ARTIFACT_TYPE
    assert image["config"]["mediaType"] == MANIFEST_TYPE
    assert image["config"]["digest"] == f"sha256:{sha256(manifest).hexdigest()}"
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in image["layers"]]
    assert titles == sorted(FILES)
    digests = {layer["digest"] for layer in image["layers"]}
    assert len(digests) == 3  # the same content is one blob


async def test_a_layout_without_files_has_the_empty_layer(
    registry: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    package_id = await make_package(registry, {})
    await registry.export_package(package_id, tmp_path / "layout", "oci")

    image = await asyncio.to_thread(check_layout, tmp_path / "layout")

    (layer,) = image["layers"]
    assert layer == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }


async def test_a_media_type_with_parameters_is_none_of_a_descriptor(
    registry: Registry, tmp_path: Path, package_fields: dict[str, Any], stream_of: Any
) -> None:
    package_id = await registry.create_package(**package_fields)
    for path, media_type in (("a", "text/plain; charset=utf-8"), ("b", "text/csv")):
        await registry.ingest_file(
            package_id,
            relative_path=path,
            media_type=media_type,
            stream=stream_of(b"{}"),
            actor="ada",
        )
    await registry.finalize_package(package_id, actor="ada")
    await registry.export_package(package_id, tmp_path / "layout", "oci")

    image = await asyncio.to_thread(check_layout, tmp_path / "layout")

    types = [layer["mediaType"] for layer in image["layers"]]
    assert types == ["application/octet-stream", "text/csv"]


def edit_index(layout: Path, **changes: Any) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    (layout / "index.json").write_text(json.dumps(index | changes))


def edit_image(layout: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the image manifest, and the index so that it fits."""
    index = json.loads((layout / "index.json").read_bytes())
    (descriptor,) = index["manifests"]
    image = json.loads((layout / "blobs/sha256" / descriptor["digest"][7:]).read_bytes())
    change(image)
    data = json.dumps(image).encode()
    digest = sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    descriptor |= {"digest": f"sha256:{digest}", "size": len(data)}
    edit_index(layout, manifests=[descriptor])


def edit_descriptor(layout: Path, **changes: Any) -> None:
    (descriptor,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    edit_index(layout, manifests=[descriptor | changes])


def another_package(layout: Path) -> None:
    (descriptor,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    edit_index(layout, manifests=[descriptor, descriptor])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda at: (at / "oci-layout").write_text("{}"), id="no version"),
        pytest.param(lambda at: (at / "oci-layout").write_text("[" * 100_000), id="deep JSON"),
        pytest.param(lambda at: (at / "index.json").write_bytes(b"\xff"), id="no JSON"),
        pytest.param(lambda at: (at / "index.json").write_text("[]"), id="no object"),
        pytest.param(lambda at: (at / "index.json").write_text(" " * 5_000_000), id="long"),
        pytest.param(lambda at: edit_index(at, manifests=[]), id="no manifest"),
        pytest.param(lambda at: edit_index(at, manifests=7), id="odd manifests"),
        pytest.param(lambda at: edit_index(at, manifests=[7]), id="odd descriptor"),
        pytest.param(lambda at: edit_index(at, schemaVersion=1), id="schema"),
        pytest.param(another_package, id="two packages"),
        pytest.param(lambda at: edit_descriptor(at, digest="sha256:../../x"), id="leads out"),
        pytest.param(lambda at: edit_descriptor(at, digest=7), id="odd digest"),
        pytest.param(lambda at: edit_descriptor(at, digest=f"blake3:{'0' * 64}"), id="blake3"),
        pytest.param(lambda at: edit_descriptor(at, digest=f"sha256:{'0' * 64}"), id="nowhere"),
        pytest.param(lambda at: edit_descriptor(at, size=1), id="size"),
        pytest.param(lambda at: edit_descriptor(at, size="1"), id="odd size"),
        pytest.param(lambda at: edit_descriptor(at, mediaType="a/b"), id="media type"),
        pytest.param(lambda at: edit_image(at, lambda image: image.pop("config")), id="no config"),
        pytest.param(lambda at: edit_image(at, lambda image: image.pop("layers")), id="no layers"),
        pytest.param(lambda at: edit_image(at, lambda image: image["layers"].pop()), id="fewer"),
        pytest.param(
            lambda at: edit_image(at, lambda image: image["layers"].append(image["layers"][0])),
            id="more",
        ),
        pytest.param(
            lambda at: edit_image(at, lambda image: image["layers"].reverse()), id="other order"
        ),
        pytest.param(
            lambda at: edit_image(at, lambda image: image["layers"][0].update(size=5.0)),
            id="a size that is not an integer",
        ),
        pytest.param(
            lambda at: edit_image(at, lambda image: image["layers"][0].update(annotations=[])),
            id="odd annotations",
        ),
        pytest.param(
            lambda at: edit_image(at, lambda image: image.update(artifactType="a/b")), id="type"
        ),
    ],
)
async def test_a_layout_that_does_not_hold_what_it_says_is_refused(
    elsewhere: Registry, layout: Path, damage: Callable[[Path], None]
) -> None:
    damage(layout)

    with pytest.raises(ImportRefusedError):
        await elsewhere.import_package(layout, actor="bob")
    assert await elsewhere.list_packages() == []


async def test_what_else_is_in_a_layout_does_not_matter(elsewhere: Registry, layout: Path) -> None:
    (descriptor,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    image = descriptor | {"artifactType": "application/vnd.other"}
    edit_index(layout, manifests=[image, descriptor, {}], annotations={"a": "b"})
    (layout / "blobs/sha256/unused").write_bytes(b"")

    await elsewhere.import_package(layout, actor="bob")

    assert (await elsewhere.verify_all()).files_checked == 4
