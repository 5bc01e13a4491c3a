"""Packs on their way to a server: small ones as a whole, larger ones in parts, of which those that came stay there.

The bytes of a pack are the same each time it is built from the same history, and so are its parts. So a push that was
interrupted, or begun again by another process, sends the parts that are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from starfish_mpack_wire._messages import PresignRequest, UploadPart
from starfish_mpack_wire.client._answers import UploadOffer
from starfish_mpack_wire.client._download import ByteProgress
from starfish_mpack_wire.client._transport import Transport, check_url
from starfish_mpack_wire.errors import (
    RemoteNotFoundError,
    RemoteProtocolError,
    RemoteRefusedError,
)

__all__ = ("parts_of", "upload_pack")

_READ_BYTES = 1 << 18


def parts_of(pack: Path, part_bytes: int) -> tuple[UploadPart, ...]:
    """Return the parts in which a file is sent; none for one that is sent as a whole.

    Raises:
        OSError: it cannot be read.
    """
    size = pack.stat().st_size
    if size <= part_bytes:
        return ()
    parts: list[UploadPart] = []
    with pack.open("rb") as file:
        for start in range(0, size, part_bytes):
            found, left = hashlib.sha256(), min(part_bytes, size - start)
            for piece in _pieces(file, left):
                found.update(piece)
            parts.append(UploadPart(part_id=f"sha256:{found.hexdigest()}", size_bytes=left))
    return tuple(parts)


def upload_pack(
    transport: Transport,
    mpack_id: str,
    pack: Path,
    parts: Sequence[UploadPart],
    *,
    on_progress: ByteProgress | None = None,
) -> None:
    """Have the bytes of a pack on the server.

    Args:
        transport: whose server.
        mpack_id: the id of the pack.
        pack: the file.
        parts: as `parts_of` gave them.
        on_progress: called with bytes and total bytes.

    Raises:
        RemoteRefusedError: the server or its storage does not want them.
        RemoteUnavailableError: it broke off in every attempt; parts that came stay there.
    """
    size = pack.stat().st_size
    request = PresignRequest(mpack_id=mpack_id, size_bytes=size, parts=tuple(parts)).to_bytes()
    every = parts or (UploadPart(part_id=mpack_id, size_bytes=size),)
    missing_before = len(every) + 1
    while True:
        offer = UploadOffer.read(transport.post("push/presign", request), len(parts))
        missing = sum(url is not None for url in offer.urls)
        try:
            _send(transport, offer, pack, every, on_progress)
        except (RemoteNotFoundError, RemoteRefusedError):
            # The addresses of a long upload end while it runs: ask for new ones as long as it gets on.
            if missing >= missing_before:
                raise
            missing_before = missing
        else:
            return


def _send(
    transport: Transport,
    offer: UploadOffer,
    pack: Path,
    parts: Sequence[UploadPart],
    on_progress: ByteProgress | None,
) -> None:
    start, total = 0, sum(part.size_bytes for part in parts)
    for part, url in zip(parts, offer.urls, strict=True):
        if url is not None:
            _put(transport, url, pack, (start, part.size_bytes, total), on_progress)
        start += part.size_bytes
        if on_progress is not None:
            on_progress(start, total)


def _put(
    transport: Transport,
    url: str,
    pack: Path,
    place: tuple[int, int, int],
    on_progress: ByteProgress | None,
) -> None:
    start, length, total = place
    check_url(url, "the address of an upload")
    if transport.repo_url.startswith("https:") and not url.startswith("https:"):
        raise RemoteProtocolError(
            "the address of the upload is not encrypted, but the repository's is"
        )

    def attempt() -> None:
        with pack.open("rb") as file:
            file.seek(start)

            def content() -> Iterator[bytes]:
                sent = start
                for piece in _pieces(file, length):
                    yield piece
                    sent += len(piece)
                    if on_progress is not None:
                        on_progress(sent, total)

            headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
            client = transport.storage(url)
            request = client.build_request("PUT", url, content=content(), headers=headers)
            with transport.open(client, request) as response:
                if not response.is_success:
                    raise transport.refusal(response, transport.read(response))

    transport.retry(attempt)


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (piece := file.read(min(_READ_BYTES, length))):
        length -= len(piece)
        yield piece
