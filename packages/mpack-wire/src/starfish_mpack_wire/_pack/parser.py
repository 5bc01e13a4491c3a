"""Takes a whole pack apart: every check there is, then plain records."""

from __future__ import annotations

from typing import Final

from starfish_mpack_wire._model.chunk_lists import chunk_ids, length_of
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.records import PackContents
from starfish_mpack_wire._pack.layout import Sections
from starfish_mpack_wire._pack.parts import Parts
from starfish_mpack_wire.errors import MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("parse_wire_mpack",)

_DEFAULT: Final = Limits()


def parse_wire_mpack(
    data: bytes | bytearray | memoryview, *, limits: Limits = _DEFAULT
) -> PackContents:
    """Give all that a pack holds, after the seal, each record and each blob were checked.

    Large blobs come as their bytes, and their chunks are left out, unless a snapshot names them. A large blob with
    chunks that are not in the pack is listed under ``chunked``.

    Not checked, because the pack alone does not tell: ids of snapshots, whether what it names
    and does not hold is elsewhere, and ids of blobs under ``chunked``.

    Raises:
        MPackFormatError: a rule of the format is broken.
        MPackIntegrityError: the seal, a blob or a commit does not have its hash.
        MPackLimitError: something is larger than the limits allow.

    Examples:
        >>> from starfish_mpack_wire import build_mpack
        >>> parse_wire_mpack(build_mpack([], [], []))
        {'commits': [], 'snapshots': [], 'blobs': [], 'tags': []}
    """
    parts = Parts(Sections(memoryview(data).cast("B"), limits), limits)
    parts.check_seal()
    entries = parts.blobs.checked()
    parts.check_chunk_lists()
    lists = dict(parts.chunk_lists())
    total = sum(entry[5] for entry in entries.values()) + sum(map(length_of, lists.values()))
    if total > limits.max_content_bytes:
        raise MPackLimitError("max_content_bytes", total, limits.max_content_bytes)
    commits, snapshots, tags = parts.check_records()
    names = parts.blob_names()
    contents = {names[number]: content for number, content in parts.contents(entries)}
    whole = {each: chunks for each, chunks in lists.items() if parts.is_whole(chunks)}
    partial = {each: chunks for each, chunks in lists.items() if each not in whole}
    joined = {
        each: b"".join([contents[chunk.object_id] for chunk in chunks])
        for each, chunks in whole.items()
    }
    named = {blob for each in snapshots for blob in blobs_in(each["upsert"].values())}
    pieces = chunk_ids(whole) - named - chunk_ids(partial)
    contents = {each: content for each, content in contents.items() if each not in pieces} | joined
    parsed: PackContents = {
        "commits": commits,
        "snapshots": snapshots,
        "blobs": [{"object_id": each, "content": contents[each]} for each in sorted(contents)],
        "tags": tags,
    }
    if partial:
        parsed["chunked"] = [
            {"object_id": each, "chunks": [(chunk.object_id, chunk.length) for chunk in chunks]}
            for each, chunks in partial.items()
        ]
    return parsed
