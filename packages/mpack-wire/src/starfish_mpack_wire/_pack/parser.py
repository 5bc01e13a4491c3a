"""Takes a whole pack apart: every check there is, then plain records."""

from __future__ import annotations

from typing import Final

from starfish_mpack_wire._model.records import BlobRecord, PackContents
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

    Not checked, because the pack alone does not tell: ids of snapshots, and whether what it names
    and does not hold is elsewhere.

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
    total = sum(entry[5] for entry in entries.values())
    if total > limits.max_content_bytes:
        raise MPackLimitError("max_content_bytes", total, limits.max_content_bytes)
    commits, snapshots, tags = parts.check_records()
    blobs: list[BlobRecord | None] = [None] * len(entries)
    names = parts.blob_names()
    for number, content in parts.contents(entries):
        blobs[number] = {"object_id": names[number], "content": content}
    return {
        "commits": commits,
        "snapshots": snapshots,
        "blobs": [blob for blob in blobs if blob is not None],
        "tags": tags,
    }
