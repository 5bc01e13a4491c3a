"""Packs whose bytes are written down: those of docs/mpack-format.md."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from starfish_mpack_wire import SnapshotTree, blob_id, build_mpack, commit_id, parse_wire_mpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GOLDEN = Path(__file__).parents[1] / "golden"
PAGE = Path(__file__).parents[4] / "docs" / "mpack-format.md"
NAMES = ("empty", "history", "increment", "kinds")


def golden(name: str) -> tuple[bytes, dict[str, Any]]:
    contents = json.loads((GOLDEN / f"{name}.json").read_text())
    for blob in contents["blobs"]:
        blob["content"] = blob["content"].encode()
    return bytes.fromhex((GOLDEN / f"{name}.mpack.hex").read_text()), contents


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_pack_has_its_id_and_its_content(name: str) -> None:
    pack, contents = golden(name)

    assert blob_id(pack) == contents.pop("mpack_id")
    assert parse_wire_mpack(pack) == contents


@pytest.mark.skipif(zstd.zstd_version_info[:2] != (1, 5), reason="the bytes are those of zstd 1.5")
@pytest.mark.parametrize("name", NAMES)
def test_the_content_of_a_golden_pack_builds_it(name: str) -> None:
    pack, contents = golden(name)
    del contents["mpack_id"]

    assert build_mpack(**contents) == pack


def test_golden_ids_of_snapshots_and_commits_are_computed() -> None:
    contents = golden("history")[1]
    tree = SnapshotTree.empty()

    assert tree.snapshot_id == (
        "sha256:1f0734b27285753f1e49b0e18a08ae0ebb9d3c43a94106de2daca34dc4b742ac"
    )
    for record in contents["snapshots"]:
        tree = tree.apply(record["upsert"], record["remove"], record["directories"])
        assert tree.snapshot_id == record["snapshot_id"]
    assert [commit_id(each) for each in contents["commits"]] == [
        "sha256:cf5040a04e119aec20bb6002a1f4feefaaa374fdd1cf0981e6bc6e01a02625a3",
        "sha256:777e732e6f4b0ff32b15cdcd2544d7f8e13e99e814de22d4fcecdb845d79221f",
    ]


def test_golden_ids_of_kinds_are_computed() -> None:
    record = golden("kinds")[1]["snapshots"][0]
    tree = SnapshotTree.empty().apply(record["upsert"])

    assert tree.snapshot_id == record["snapshot_id"]
    assert tree.manifest == record["upsert"]


def test_the_page_shows_these_packs_and_a_reader_that_reads_them(tmp_path, monkeypatch) -> None:
    page = PAGE.read_text()
    shown = [bytes.fromhex(block) for block in re.findall(r"```text\n([0-9a-f\n]+)```", page)]
    namespace: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/mpack-format.md", "exec"), namespace)

    assert shown == [golden(name)[0] for name in NAMES]
    for pack in shown:
        assert namespace["read_pack"](pack) == parse_wire_mpack(pack)
        assert f"`{blob_id(pack)}`" in page
