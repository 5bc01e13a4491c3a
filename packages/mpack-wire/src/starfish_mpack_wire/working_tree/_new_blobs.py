"""The blobs of a folder that are in no pack yet: files are read when a pack is written, large ones chunk by chunk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from starfish_mpack_wire._model.chunk_lists import Chunk, ChunkList
from starfish_mpack_wire._model.entries import Entry, kind_of, same_path_blobs
from starfish_mpack_wire._model.object_ids import blob_id, object_id_of
from starfish_mpack_wire._pack.cutting import cut_stream, is_large
from starfish_mpack_wire.errors import MPackIntegrityError
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder
from starfish_mpack_wire.working_tree._scan import FolderContents

__all__ = ("NewBlobs",)


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of a file."""

    path: str
    start: int
    length: int | None
    """``None`` for all of it."""


class NewBlobs:
    """A `BlobSource` over files of a folder.

    Large files are read once here, to be cut, and their chunks once more when they are asked for.

    Args:
        folder: the root of the working tree.
        entries: the files to take.
        now: how the folder was found.

    Raises:
        MPackIntegrityError: a large file changed since it was looked at.
        UnsafePathError: a file is not a regular file any more.
        OSError: a file cannot be read.
    """

    def __init__(
        self, folder: SafeFolder, entries: Mapping[str, Entry], now: FolderContents
    ) -> None:
        self._folder = folder
        self._links: set[str] = set()
        self._places: dict[str, _Place] = {}
        self._lists: dict[str, ChunkList] = {}
        for path, object_id in same_path_blobs(entries.items()):
            if kind_of(entries[path]) == "symlink":
                self._links.add(path)
            elif is_large(now.stamps[path].size):
                if object_id not in self._lists:
                    self._lists[object_id] = self._cut(path, object_id)
                continue
            self._places[object_id] = _Place(path, 0, None)

    def _cut(self, path: str, object_id: str) -> ChunkList:
        whole, start = sha256(), 0
        chunks: list[Chunk] = []
        with self._folder.open_file(path) as file:
            for piece in cut_stream(file):
                whole.update(piece)
                chunk = Chunk(blob_id(piece), len(piece))
                self._places.setdefault(chunk.object_id, _Place(path, start, chunk.length))
                start += chunk.length
                chunks.append(chunk)
        actual = object_id_of(whole.digest())
        if actual != object_id or not is_large(start):
            raise MPackIntegrityError(f"the file {path}", object_id, actual)
        return tuple(chunks)

    def ids(self) -> list[str]:
        """Return the ids of all blobs, chunks included."""
        return [*self._places, *self._lists]

    def chunk_lists(self, object_ids: Collection[str], /) -> dict[str, ChunkList]:
        """Return the chunks of large files."""
        return {each: self._lists[each] for each in object_ids if each in self._lists}

    def blob(self, object_id: str) -> bytes:
        """Return the bytes of a small file, of a link, or of a chunk.

        Raises:
            MPackIntegrityError: the file changed since it was looked at.
        """
        place = self._places[object_id]
        if place.path in self._links:
            content = self._folder.read_link(place.path)
        else:
            with self._folder.open_file(place.path) as file:
                file.seek(place.start)
                content = file.read(-1 if place.length is None else place.length)
        actual = blob_id(content)
        if actual != object_id:
            raise MPackIntegrityError(f"the file {place.path}", object_id, actual)
        return content
