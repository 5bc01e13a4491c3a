"""Packs: what goes in comes out, and equal content gives equal bytes."""

from __future__ import annotations

from io import BytesIO

from starfish_mpack_wire import (
    MPackReader,
    blob_id,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)
from starfish_mpack_wire._pack.layout import Section
from starfish_mpack_wire.testing.damage import sections_of


def test_parsing_gives_what_was_built_and_building_that_gives_the_same_bytes(
    history_contents,
) -> None:
    history = history_contents

    pack = build_mpack(**history)

    assert parse_wire_mpack(pack) == history
    assert build_mpack(**parse_wire_mpack(pack)) == pack


def test_records_in_another_order_give_the_same_bytes(history_contents) -> None:
    history = history_contents

    backwards = {kind: records[::-1] for kind, records in history.items()}

    assert build_mpack(**backwards) == build_mpack(**history)


def test_blobs_that_no_snapshot_names_are_stored_by_id() -> None:
    contents = [b"%d" % number for number in range(8)]
    pack = build_mpack([], [], [{"object_id": blob_id(each), "content": each} for each in contents])

    assert sections_of(pack)[Section.BLOBS] == b"".join(sorted(contents, key=blob_id))


def test_a_reader_is_a_source_whose_frames_are_copied_as_they_are(history_contents) -> None:
    pack = build_mpack(**history_contents)
    reader = MPackReader(pack)
    out = BytesIO()

    written = write_mpack(
        out, reader.commits(), reader.snapshots(), reader.blob_ids(), reader, reader.tags()
    )

    assert out.getvalue() == pack
    assert (written.mpack_id, written.size_bytes) == (blob_id(pack), len(pack))
