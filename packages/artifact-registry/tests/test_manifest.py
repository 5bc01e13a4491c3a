"""The manifest as the page describes it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import cbor2
import pytest

from starfish_artifact_registry.errors import ManifestError
from starfish_artifact_registry.manifest import decode, encode, to_json
from starfish_artifact_registry.model._catalogue import EVENT_TYPES, PackageFinalized
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress
from starfish_protocol.hash import stable_stringify

ROOT = Path(__file__).parents[3]
GOLDEN = ContentAddress.parse(
    "blake3:8e8a495862daf3c3c3ff0ff4b6436e4e978013f51419bb472fa3d8be2d41f562"
)


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "artifact-registry.md").read_text()


@pytest.fixture(scope="module")
def golden(page: str) -> dict[str, Any]:
    block = re.search(r"```json\n(\{.*?\n\})\n```", page, re.DOTALL)
    assert block is not None
    found: dict[str, Any] = json.loads(block[1])
    return found


def test_the_golden_manifest_has_its_address(golden: dict[str, Any], page: str) -> None:
    data = cbor2.dumps(golden, canonical=True)  # not our own encoder

    manifest = decode(data)

    assert encode(manifest) == data
    assert ContentAddress.of(data) == GOLDEN
    assert str(GOLDEN) in page
    assert to_json(manifest) == stable_stringify(golden).encode()


def _changed(golden: dict[str, Any], *path: str | int, value: Any) -> bytes:
    changed = json.loads(json.dumps(golden))
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return cbor.encode(changed)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("manifest_version",), 2, "version"),
        (("manifest_version",), True, "version"),
        (("more",), 1, "not a map of exactly"),
        (("package", "status"), "created", "status"),
        (("package", "id"), "2" * 32, "id"),
        (("package", "created_at"), 1.5, "created_at"),
        (("package", "created_at"), 10**18, "created_at"),
        (("package", "metadata"), [], "metadata"),
        (("files",), [], "belongs to no file"),
        (("storage_receipts",), [], "no receipt"),
        (("files", 0, "relative_path"), "../a", "not a path of a file"),
        (("files", 0, "size"), 6, "no receipt"),
        (("files", 0, "size"), -1, "no receipt"),
        (("files", 0, "sha256"), "blake3:" + "0" * 64, "swapped"),
        (("files", 0, "content_address"), "blake3:00", "content_address"),
    ],
    ids=str,
)
def test_what_is_no_manifest_is_refused(
    golden: dict[str, Any], path: tuple[str | int, ...], value: Any, reason: str
) -> None:
    with pytest.raises(ManifestError, match=reason):
        decode(_changed(golden, *path, value=value))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff", b"\xa0", cbor.encode([1])], ids=repr)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode(data)


def test_files_are_sorted_and_no_path_is_there_twice(golden: dict[str, Any]) -> None:
    twice = _changed(golden, "files", value=golden["files"] * 2)

    with pytest.raises(ManifestError, match="not sorted, or one is there twice"):
        decode(twice)


def test_the_page_names_every_event_and_every_field(page: str) -> None:
    for event_type, payload in EVENT_TYPES.items():
        row = re.search(rf"^\| `{re.escape(event_type)}` \|(.*)\|$", page, re.MULTILINE)
        assert row is not None, event_type
        if payload is not PackageFinalized:
            assert {field.name for field in fields(payload)} <= set(re.findall(r"`(\w+)`", row[1]))
