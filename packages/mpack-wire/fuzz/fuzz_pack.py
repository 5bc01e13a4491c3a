# ruff: noqa: INP001 - a script, not a package
r"""Feeds a coverage-guided fuzzer's bytes to all that reads packs.

    uv run --isolated --no-default-groups --package starfish-mpack-wire --group fuzz \
      python packages/mpack-wire/fuzz/fuzz_pack.py -max_total_time=600 NEW packages/mpack-wire/fuzz/corpus

What it finds new goes to the folder NEW, which must be there.
The first byte says what the rest is, so that the fuzzer gets behind each check that would stop
random bytes: a whole file, one with a seal that fits, one section of a good pack, the msgpack inside, or
blobs upon each other.
Anything but the three errors of packs, and any pack that is accepted and cannot be built again, is
a finding. The tests run the same over the corpus, without the fuzzer.
"""

from __future__ import annotations

import struct
import sys
from hashlib import sha256

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import msgpack

try:
    import atheris
except ImportError:  # the corpus is run without it
    atheris = None

from starfish_mpack_wire import (
    Limits,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    MPackReader,
    ObjectNotFoundError,
    SnapshotTree,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
)
from starfish_mpack_wire._pack.layout import BLOB_ENTRY, ID_ENTRY, Section
from starfish_mpack_wire.testing.damage import (
    RECORD_SECTIONS,
    assemble,
    group_of,
    reseal,
    sections_of,
)

REFUSALS = (MPackFormatError, MPackIntegrityError, MPackLimitError)
LIMITS = Limits(max_unpacked_bytes=1 << 26, max_content_bytes=1 << 26, max_records_bytes=1 << 26)


def good_pack() -> bytes:
    """A pack with one of everything."""
    blobs = {
        blob_id(each): each
        for each in (b"one line of text\n" * 9, b"one line of text\n" * 9 + b"!")
    }
    first, second = blobs
    one = SnapshotTree.empty().apply({"a/b": first})
    two = one.apply(
        {
            "a/b": second,
            "run": {"kind": "executable", "id": first},
            "link": {"kind": "symlink", "id": first},
            "module": {"kind": "gitlink", "id": "sha1:" + "12" * 20},
        },
        directories=["c"],
    )
    commits = []
    for tree, extra in ((one, {}), (two, {"metadata": {"k": "v"}, "x": [1, {"y": b"z"}]})):
        commit = {
            "branch": "main",
            "snapshot_id": tree.snapshot_id,
            "parent_ids": [commits[-1]["commit_id"] if commits else blob_id(b"elsewhere")],
            "message": "m",
            "author": "a",
            "committed_at": "2026-01-31T12:00:00Z",
            **extra,
        }
        commits.append({"commit_id": commit_id(commit), **commit})
    snapshots = [
        {
            "snapshot_id": tree.snapshot_id,
            "parent_snapshot_id": parent,
            "upsert": {"a/b": each},
            "remove": [],
            "directories": list(tree.directories),
        }
        for tree, parent, each in ((one, None, first), (two, one.snapshot_id, second))
    ]
    return build_mpack(
        commits,
        snapshots,
        [{"object_id": each, "content": content} for each, content in blobs.items()],
        [{"name": "v1", "commit_id": commits[0]["commit_id"]}],
    )


PACK = good_pack()
SECTIONS = sections_of(PACK)
EMPTY = sections_of(build_mpack([], [], []))
CHUNKS = {blob_id(each): each for each in (bytes(2**20), b"x" * 2**19, b"y")}
CHUNK_IDS = sorted(CHUNKS)
STORED = sections_of(
    build_mpack([], [], [{"object_id": each, "content": data} for each, data in CHUNKS.items()])
)


def pack_of(data: bytes) -> bytes:
    """Read the fuzzer's bytes as a pack."""
    kind, rest = data[0] if data else 0, data[1:]
    if kind == 0:
        return rest
    if kind == 1:
        return reseal(rest + bytes(32))
    if kind == 2:  # bytes over the good pack: two of place, then what stands there
        place = int.from_bytes(rest[:2], "big") % len(PACK)
        return reseal(PACK[:place] + rest[2:] + PACK[place + len(rest[2:]) :])
    if kind < 13:
        return assemble({**SECTIONS, Section(kind - 2): rest})
    if kind >= 64:
        return pack_of_blobs(rest) if kind >= 128 else pack_of_lists(rest)
    section = RECORD_SECTIONS[kind % len(RECORD_SECTIONS)]
    return assemble({**SECTIONS, section: group_of(rest[1:], rest[0] % 8 if rest else 0)})


def pack_of_blobs(data: bytes) -> bytes:
    """Blocks of blobs with the digests they have; four bytes a blob name its damage, then its content."""
    stored, blobs, entries = b"", [], []
    while len(data) > 4:
        flags, shift, growth, size = data[:4]
        blobs.append((data[4 : 4 + size] * (1 + flags // 64), shift % 4, growth % 4))
        data = data[4 + size :]
        if flags & 1 and len(data) > 4:
            continue  # the next one is in the same block
        block = b"".join(content for content, _, _ in blobs)
        kept = zstd.compress(block) if flags & 2 else block
        start = 0
        for content, shift, growth in blobs:
            place = (len(stored), len(kept), len(block) + growth, start + shift, len(content))
            entries.append((sha256(content).digest(), *place))
            start += len(content)
        stored, blobs = stored + kept, []
    index = b"".join(BLOB_ENTRY.pack(*entry) for entry in sorted(entries))
    return assemble({**EMPTY, Section.BLOBS: stored, Section.BLOB_INDEX: index})


def pack_of_lists(data: bytes) -> bytes:
    """Lists over stored chunks: a byte of length, then a byte a chunk; the last bit says that the id fits."""
    lists = []
    while data:
        size, numbers, fits = data[0] % 32, data[1 : 1 + data[0] % 32], data[0] & 32
        content = b"".join(CHUNKS[CHUNK_IDS[each % len(CHUNK_IDS)]] for each in numbers)
        name = sha256(content if fits else bytes([size])).digest()
        given = [each if each & 64 else each % len(CHUNK_IDS) for each in numbers]
        lengths = [len(CHUNKS[CHUNK_IDS[each % len(CHUNK_IDS)]]) for each in numbers]
        width = f">{len(numbers)}I"
        record = [struct.pack(width, *given), struct.pack(width, *lengths)]
        lists.append((name, msgpack.packb(record)))
        data = data[1 + size :]
    lists.sort()
    index = b"".join(ID_ENTRY.pack(name, number) for number, (name, _) in enumerate(lists))
    group = group_of(b"".join(each for _, each in lists), len(lists))
    return assemble({**STORED, Section.CHUNKED_INDEX: index, Section.CHUNKED: group})


def check_input(data: bytes) -> bool:
    """Read bytes in every way there is; tell whether they were accepted.

    Raises:
        Exception: a finding.
    """
    pack = pack_of(data)
    try:
        reader = MPackReader(pack, limits=LIMITS)
    except REFUSALS:
        return False
    for read in (reader.commits, reader.snapshots, reader.tags):
        try:
            list(read())
        except REFUSALS:
            continue
    try:
        object_ids = list(reader.blob_ids())[:8]
    except REFUSALS:
        return False
    for object_id in object_ids:
        for read in (reader.blob, lambda each: list(reader.blob_pieces(each))):
            try:
                read(object_id)
            except (*REFUSALS, ObjectNotFoundError):
                continue
    try:
        contents = parse_wire_mpack(pack, limits=LIMITS)
    except REFUSALS:
        return False
    reader.verify()
    again = parse_wire_mpack(build_mpack(**contents))
    if {kind: len(records) for kind, records in again.items()} != {
        kind: len(records) for kind, records in contents.items()
    }:
        raise AssertionError("an accepted pack does not come back")
    return True


def main() -> None:
    """Run the fuzzer with the arguments of libFuzzer."""
    if atheris is None:
        sys.exit("atheris is not installed: uv sync --package starfish-mpack-wire --group fuzz")
    atheris.instrument_all()
    atheris.Setup(sys.argv, check_input_only)
    atheris.Fuzz()


def check_input_only(data: bytes) -> None:
    """The same with the result that libFuzzer wants, which is none."""
    check_input(data)


if __name__ == "__main__":
    main()
