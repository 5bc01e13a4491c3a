"""Laws of packs, for any history and any damage."""

from __future__ import annotations

import random
import tracemalloc
from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire import (
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    MPackReader,
    SnapshotTree,
    blob_id,
    build_mpack,
    parse_wire_mpack,
    snapshot_id,
    write_mpack,
)
from starfish_mpack_wire.testing.strategies import damaged_packs, histories, packs

REFUSALS = (MPackFormatError, MPackIntegrityError, MPackLimitError)


def by_id(contents: Any) -> dict[str, dict[str, Any]]:
    keys = {
        "commits": "commit_id",
        "snapshots": "snapshot_id",
        "blobs": "object_id",
        "tags": "name",
    }
    return {
        kind: {record[keys[kind]]: record for record in records}
        for kind, records in contents.items()
    }


@given(history=histories())
def test_parsing_a_pack_gives_the_records_it_was_built_of(history: Any) -> None:
    assert by_id(parse_wire_mpack(build_mpack(**history))) == by_id(history)


@given(history=histories(), seed=st.integers())
def test_records_in_any_order_give_the_same_bytes(history: Any, seed: int) -> None:
    rng = random.Random(seed)

    shuffled = {kind: rng.sample(records, len(records)) for kind, records in history.items()}

    assert build_mpack(**shuffled) == build_mpack(**history)


@given(pack=packs())
def test_building_what_was_parsed_gives_the_same_bytes(pack: bytes) -> None:
    assert build_mpack(**parse_wire_mpack(pack)) == pack


@given(pack=packs())
def test_a_reader_gives_what_the_parser_gives_and_copies_to_the_same_bytes(pack: bytes) -> None:
    parsed = parse_wire_mpack(pack)
    reader = MPackReader(pack)
    out = BytesIO()

    write_mpack(out, reader.commits(), reader.snapshots(), reader.blob_ids(), reader, reader.tags())
    reader.verify()

    assert out.getvalue() == pack
    assert reader.mpack_id == blob_id(pack)
    assert [reader.commit(each["commit_id"]) for each in parsed["commits"]] == parsed["commits"]
    assert [reader.snapshot(each["snapshot_id"]) for each in parsed["snapshots"]] == (
        parsed["snapshots"]
    )
    contents = {each["object_id"]: each["content"] for each in parsed["blobs"]}
    assert {each: reader.blob(each) for each in contents} == contents
    assert dict(reader.blobs()) == contents
    for each, content in contents.items():
        assert dict(reader.blobs([each])) == {each: content}
        assert reader.blob_length(each) == len(content)


@given(history=histories())
def test_snapshots_of_a_pack_restore_their_trees(history: Any) -> None:
    parsed = parse_wire_mpack(build_mpack(**history))
    trees = {None: SnapshotTree.empty()}
    for record in parsed["snapshots"]:
        parent = trees[record["parent_snapshot_id"]]
        tree = parent.apply(record["upsert"], record["remove"], record["directories"])
        trees[record["snapshot_id"]] = tree

        assert tree.snapshot_id == record["snapshot_id"]
        assert snapshot_id(tree.manifest, tree.directories) == record["snapshot_id"]
        assert len(tree) == len(tree.manifest)


@given(pack=damaged_packs())
def test_damage_is_refused_with_one_of_three_errors_or_harmless(pack: bytes) -> None:
    tracemalloc.start()
    try:
        contents = parse_wire_mpack(pack)
    except REFUSALS:
        contents = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # Small packs: a damaged length may not reserve what it claims.
    assert peak < 24 * 2**20
    try:
        MPackReader(pack).verify()
    except REFUSALS:
        assert contents is None
    else:
        assert contents is not None
        # An accepted pack is one like any other: its content builds and comes back.
        assert by_id(parse_wire_mpack(build_mpack(**contents))) == by_id(contents)


@given(pack=damaged_packs())
def test_damage_that_is_met_by_single_reads_is_refused_with_the_same_errors(pack: bytes) -> None:
    try:
        reader = MPackReader(pack)
    except REFUSALS:
        return
    for read in (reader.commits, reader.snapshots, reader.tags):
        try:
            for record in read():
                if "message" in record:
                    reader.commit(record["commit_id"])
                elif "upsert" in record:
                    reader.snapshot(record["snapshot_id"])
        except REFUSALS:
            continue
    for object_id in reader.blob_ids():
        for read_blob in (reader.blob, reader.blob_length):
            try:
                read_blob(object_id)
            except (*REFUSALS, KeyError):
                continue
