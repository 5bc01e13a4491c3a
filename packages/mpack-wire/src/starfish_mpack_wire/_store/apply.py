"""`apply_mpack`: make a pack a part of a store, or leave the store as it was.

The order: the hash of all bytes, then the form, then the id of every record, then whether everything that a
record names is in the pack or in the store. Only then the file gets its place, in one rename. Refs are
never touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from starfish_mpack_wire._pack.layout import DIGEST_BYTES
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._pack.writer import write_mpack
from starfish_mpack_wire._store.indexing import PackListing
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_mpack_wire._store.verification import PackVerification, RejectedRecord
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError

__all__ = ("ApplyResult", "apply_mpack")

Buffer = bytes | bytearray | memoryview

HASH_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What a pack brought: objects that the store did not hold before."""

    mpack_id: str
    """The pack that came."""
    commits_written: int
    snapshots_written: int
    blobs_written: int
    rejected: tuple[RejectedRecord, ...] = ()
    """Records that were left out; always empty with ``strict``."""


def apply_mpack(
    store: LocalStore,
    data: bytes | bytearray | memoryview | str | os.PathLike[str],
    *,
    strict: bool = True,
    mpack_id: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ApplyResult:
    """Verify a pack and make it a part of a store; on disk when this returns.

    Applying it again changes nothing. A process that dies on the way leaves the store as it was.

    Args:
        store: where to.
        data: the bytes, or the path of a file. A file in the store's own folder for incoming ones is moved, any
            other is copied.
        strict: refuse the whole pack when one record is bad. Otherwise the good records are taken,
            in a new pack, and the bad ones reported.
        mpack_id: what the hash of the bytes must be.
        on_progress: called with the number of verified blobs and their total.

    Raises:
        MPackIntegrityError: a hash does not fit: of the whole, a blob, a snapshot or a commit.
        MPackFormatError: the bytes are not a pack.
        MPackLimitError: it is larger than the store accepts.
        IncompleteHistoryError: neither pack nor store holds a parent, snapshot or blob.
        StoreError: the disk is full, or refused.

    Examples:
        >>> from starfish_mpack_wire import LocalStore, blob_id, build_mpack
        >>> pack = build_mpack([], [], [{"object_id": blob_id(b"hi"), "content": b"hi"}])
        >>> with LocalStore("history") as store:
        ...     apply_mpack(store, pack).blobs_written, apply_mpack(store, pack).blobs_written
        (1, 0)
    """
    with ExitStack() as stack:
        file: Path | None = None
        if isinstance(data, (str, os.PathLike)):
            file = Path(data)
            if file.parent != store.incoming.folder:
                copy = stack.enter_context(store.incoming.new_file())
                with refuse_as_store_error("cannot copy", file):
                    shutil.copyfile(file, copy)
                file = copy
        source = data if file is None else file
        with refuse_as_store_error("cannot read", store.path):
            actual = _seal_of(source)
        if mpack_id is not None and actual != mpack_id:
            raise MPackIntegrityError("the pack", mpack_id, actual)
        if actual in store.packs.ids():
            store.refresh()
            return ApplyResult(actual, 0, 0, 0)
        stack.enter_context(store.building_on())
        with MPackReader(source, limits=store.limits) as reader:
            checked = PackVerification(store, reader, strict=strict, on_progress=on_progress)
            checked.run()
            result = _result_of(store, actual, checked)
            if checked.rejected:
                file = stack.enter_context(store.incoming.new_file())
                with refuse_as_store_error("cannot write", file), file.open("wb") as out:
                    stored = write_mpack(
                        out, checked.commits, checked.snapshots, checked.blob_ids, reader
                    ).mpack_id
            else:
                stored = actual
                if file is None:
                    file = stack.enter_context(store.incoming.new_file())
                    with refuse_as_store_error("cannot write", file):
                        file.write_bytes(_bytes_of(data))
        listing = PackListing.of(
            checked.commits, checked.snapshots, checked.blob_ids, checked.chunked_ids
        )
        store.adopt(file, stored, listing)
        for tree in checked.newest_trees():
            store.keep_tree(tree)
    return result


def _result_of(store: LocalStore, mpack_id: str, checked: PackVerification) -> ApplyResult:
    commits = [commit["commit_id"] for commit in checked.commits]
    snapshots = [snapshot["snapshot_id"] for snapshot in checked.snapshots]
    return ApplyResult(
        mpack_id,
        len(store.missing("commit", commits)),
        len(store.missing("snapshot", snapshots)),
        len(store.missing("blob", checked.blob_ids)),
        tuple(checked.rejected),
    )


def _bytes_of(data: object) -> Buffer:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return cast("Buffer", data)
    raise TypeError(f"{type(data).__name__} is neither bytes nor a path")


def _seal_of(source: object) -> str:
    """The id of a pack, after its footer was compared; one pass over the bytes."""
    digest = hashlib.sha256()
    if isinstance(source, Path):
        size = source.stat().st_size
        with source.open("rb") as file:
            left = max(size - DIGEST_BYTES, 0)
            while left and (piece := file.read(min(HASH_STEP_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
            footer = file.read()
    else:
        view = memoryview(_bytes_of(source)).cast("B")
        digest.update(view[:-DIGEST_BYTES])
        footer = bytes(view[-DIGEST_BYTES:])
    found = digest.digest()
    if len(footer) != DIGEST_BYTES:
        raise MPackFormatError(f"{len(footer)} bytes are not a pack")
    if found != footer:
        raise MPackIntegrityError(
            "the seal of the pack", f"sha256:{footer.hex()}", f"sha256:{found.hex()}"
        )
    digest.update(footer)
    return f"sha256:{digest.hexdigest()}"
