"""Blobs out of the packs that hold them, for a writer that asks for one at a time.

Neighbours in a pack are read together: a writer asks in an order that is nearly the one in which
they were stored. Small amounts are read before the first question, from several packs at once.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._pack.frame import decompress
from starfish_mpack_wire.errors import MPackFormatError
from starfish_mpack_wire.server._history_rows import BlobPlace
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server.errors import BlobUnavailableError

__all__ = ("StoredBlobs",)

_RUN_BYTES = 4 * 1024 * 1024
_GAP_BYTES = 64 * 1024
_HELD_BYTES = 32 * 1024 * 1024
_READERS = 8


class _Run:
    """A part of a pack that is read at once."""

    __slots__ = ("end", "key", "mpack_id", "start")

    def __init__(self, mpack_id: str, key: str, start: int) -> None:
        self.mpack_id, self.key, self.start, self.end = mpack_id, key, start, start


class StoredBlobs:
    """The blobs of some places; a `BlobSource`. Blocks, so it is for a thread.

    Args:
        storage: where the packs are.
        repo_id: whose packs.
        places: of every blob that will be asked for.
        lists: the chunks of the large ones.

    Raises:
        BlobUnavailableError: the bytes of a place are gone.
        StorageUnavailableError: the storage failed.
    """

    def __init__(
        self,
        storage: PackStorage,
        repo_id: int,
        places: Mapping[str, BlobPlace],
        lists: Mapping[str, ChunkList],
    ) -> None:
        self._storage = storage
        self._lists = lists
        self._places = places
        self._run_of: dict[str, _Run] = {}
        self._held: OrderedDict[_Run, memoryview] = OrderedDict()
        self._held_bytes = 0
        self._block: tuple[str, int, bytes] = ("", 0, b"")  # the last one: its pack and offset
        runs = self._plan_runs(repo_id)
        if sum(run.end - run.start for run in runs) <= _HELD_BYTES:
            self._preload(runs)

    def chunk_lists(self, object_ids: Collection[str], /) -> dict[str, ChunkList]:
        """Return the chunks of large blobs."""
        return {each: self._lists[each] for each in object_ids if each in self._lists}

    def blob(self, object_id: str) -> bytes:
        """The bytes of a blob; the caller compares them with its id."""
        place = self._places.get(object_id)
        if place is None:
            raise BlobUnavailableError(object_id)
        if not place.size_bytes:
            return b""
        mpack_id, offset, block = self._block
        if (mpack_id, offset) != (place.mpack_id, place.offset):
            block = self._read_block(place)
            self._block = (place.mpack_id, place.offset, block)
        return block[place.start : place.start + place.size_bytes]

    def _read_block(self, place: BlobPlace) -> bytes:
        run = self._run_of[place.object_id]
        stored = self._bytes_of(run)[place.offset - run.start :][: place.stored_bytes]
        if place.stored_bytes == place.block_bytes:
            return bytes(stored)
        try:
            return decompress(stored, place.block_bytes)
        except MPackFormatError as error:
            raise BlobUnavailableError(place.object_id) from error

    def _plan_runs(self, repo_id: int) -> list[_Run]:
        by_pack: defaultdict[str, list[BlobPlace]] = defaultdict(list)
        for place in self._places.values():
            if place.size_bytes:
                by_pack[place.mpack_id].append(place)
        runs: list[_Run] = []
        for mpack_id, places in by_pack.items():
            places.sort(key=lambda place: place.offset)
            key = self._storage.key("packs", repo_id, mpack_id)
            run: _Run | None = None
            for place in places:
                end = place.offset + place.stored_bytes
                if (
                    run is None
                    or place.offset - run.end > _GAP_BYTES
                    or end - run.start > _RUN_BYTES
                ):
                    run = _Run(mpack_id, key, place.offset)
                    runs.append(run)
                run.end = end
                self._run_of[place.object_id] = run
        return runs

    def _preload(self, runs: list[_Run]) -> None:
        if len(runs) == 1:
            self._bytes_of(runs[0])
        elif runs:
            with ThreadPoolExecutor(min(_READERS, len(runs))) as readers:
                for run, view in zip(runs, readers.map(self._read, runs), strict=True):
                    self._hold(run, view)

    def _bytes_of(self, run: _Run) -> memoryview:
        view = self._held.get(run)
        if view is None:
            view = self._read(run)
            self._hold(run, view)
        return view

    def _hold(self, run: _Run, view: memoryview) -> None:
        self._held[run] = view
        self._held_bytes += len(view)
        while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._held_bytes -= len(gone)

    def _read(self, run: _Run) -> memoryview:
        try:
            return self._storage.read_range(run.key, run.start, run.end)
        except FileNotFoundError:
            raise BlobUnavailableError(run.mpack_id) from None
