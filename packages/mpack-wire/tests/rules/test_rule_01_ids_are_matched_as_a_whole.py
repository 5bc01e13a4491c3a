"""Rule 1: an id is checked as a whole before it touches anything; ids of commits are recomputed."""

from __future__ import annotations

import pytest

from starfish_mpack_wire import (
    MPackFormatError,
    MPackIntegrityError,
    MPackReader,
    SnapshotTree,
    blob_id,
    build_mpack,
    parse_wire_mpack,
)
from starfish_mpack_wire._model.object_ids import check_object_id, digest_of, is_object_id
from starfish_mpack_wire._pack.layout import Section
from starfish_mpack_wire.testing.damage import assemble, sections_of

GOOD = "sha256:" + "0a" * 32
BAD = {
    "line end": GOOD + "\n",
    "capitals": GOOD.upper(),
    "capital digits": "sha256:" + "0A" * 32,
    "space before": " " + GOOD,
    "spaces inside": "sha256:" + "0a " * 21 + "0",
    "short": GOOD[:-1],
    "long": GOOD + "0",
    "no prefix": "0a" * 32,
    "other hash": "blake3:" + "0a" * 32,
    "digits of another script": "sha256:" + "\u0660" * 64,
    "path": "sha256:../../../" + "0" * 55,
    "bytes": GOOD.encode(),
    "nothing": None,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_rule_01_what_is_not_wholly_an_id_is_refused(text) -> None:
    assert not is_object_id(text)
    for check in (check_object_id, digest_of):
        with pytest.raises(MPackFormatError, match="64 lowercase hex digits"):
            check(text)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_rule_01_no_door_takes_such_an_id(text) -> None:
    reader = MPackReader(build_mpack([], [], []))
    snapshot = {
        "snapshot_id": GOOD,
        "parent_snapshot_id": None,
        "upsert": {"a": text},
        "remove": [],
        "directories": [],
    }

    for door in (
        lambda: reader.has_blob(text),
        lambda: reader.blob(text),
        lambda: reader.has_commit(text),
        lambda: reader.snapshot(text),
        lambda: SnapshotTree.empty().apply({"a": text}),
        lambda: build_mpack([], [snapshot], []),
        lambda: build_mpack([], [{**snapshot, "snapshot_id": text, "upsert": {}}], []),
        lambda: build_mpack([], [], [{"object_id": text, "content": b""}]),
        lambda: build_mpack([], [], [], [{"name": "v1", "commit_id": text}]),
    ):
        with pytest.raises(MPackFormatError):
            door()


def test_rule_01_a_commit_under_another_id_is_refused_by_builder_and_parser(history) -> None:
    contents = history()
    other = blob_id(b"something else")
    renamed = [{**contents["commits"][-1], "commit_id": other}, *contents["commits"][:-1]]
    sections = sections_of(build_mpack(**{**contents, "tags": []}))
    index = bytearray(sections[Section.COMMIT_INDEX])
    index[31] ^= 1

    with pytest.raises(MPackIntegrityError):
        build_mpack(**{**contents, "commits": renamed})
    pack = assemble({**sections, Section.COMMIT_INDEX: bytes(index)})
    with pytest.raises(MPackIntegrityError):
        parse_wire_mpack(pack)
    with pytest.raises(MPackIntegrityError):
        list(MPackReader(pack).commits())


def test_rule_01_a_blob_under_another_id_is_refused_by_builder_and_parser(history) -> None:
    contents = history()
    sections = sections_of(build_mpack(**contents))
    index = bytearray(sections[Section.BLOB_INDEX])
    index[31] ^= 1
    pack = assemble({**sections, Section.BLOB_INDEX: bytes(index)})

    with pytest.raises(MPackIntegrityError):
        build_mpack([], [], [{"object_id": GOOD, "content": b""}])
    with pytest.raises(MPackIntegrityError):
        parse_wire_mpack(pack)
    reader = MPackReader(pack)
    with pytest.raises(MPackIntegrityError):
        reader.blob(next(reader.blob_ids()))


def test_rule_01_the_seal_is_checked_before_anything_is_decoded(history) -> None:
    pack = bytearray(build_mpack(**history()))
    pack[20] ^= 1

    with pytest.raises(MPackIntegrityError, match="seal"):
        parse_wire_mpack(bytes(pack))
    with pytest.raises(MPackIntegrityError, match="seal"):
        MPackReader(bytes(pack)).verify()
