"""Bytes from storage into a file: capped, resumed where they broke off, and hashed.

Half a download that a killed process left under the pack's name is taken up again. What the hash of the whole
does not confirm is not kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx

from starfish_mpack_wire._store.durable import refuse_as_store_error
from starfish_mpack_wire.client._answers import PackOffer
from starfish_mpack_wire.client._transport import TransientError, Transport, check_url
from starfish_mpack_wire.errors import MPackLimitError, RemoteNotFoundError, RemoteProtocolError

__all__ = ("ByteProgress", "download_pack")

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")

ByteProgress = Callable[[int, int], None]


class _StartAgainError(Exception):
    """The part that came cannot be continued."""


def download_pack(
    transport: Transport,
    offer: PackOffer,
    into: Path,
    *,
    max_bytes: int,
    on_progress: ByteProgress | None = None,
) -> None:
    """Have the bytes of a pack in a file, which may hold the first part of them.

    Args:
        transport: whose storage client is used.
        offer: what the server promised.
        into: the file.
        max_bytes: the largest pack that is accepted.
        on_progress: called with bytes and total bytes.

    Raises:
        MPackLimitError: the pack is too large.
        RemoteProtocolError: the bytes are not the promised ones, or come with a redirect or encoded.
        RemoteNotFoundError: the address is no longer good; ask for another.
        RemoteUnavailableError: it broke off in every attempt.
        StoreError: the disk is full.
    """
    if offer.size_bytes > max_bytes:
        raise MPackLimitError("max_pack_bytes", offer.size_bytes, max_bytes)
    url = check_url(offer.mpack_url, "the address of a pack")
    if transport.repo_url.startswith("https:") and not url.startswith("https:"):
        raise RemoteProtocolError(
            "the address of the pack is not encrypted, but the repository's is"
        )
    download = _Download(transport, offer, into, on_progress)
    transport.retry(lambda: download.go_on(url), download.size)
    if download.hashed_id() == offer.mpack_id:
        return
    if not download.resumed_leftover:
        raise RemoteProtocolError(
            f"the downloaded bytes are {download.hashed_id()}, promised was {offer.mpack_id}"
        )
    # The leftover of an earlier process was not what it seemed.
    download = _Download(transport, offer, into, on_progress)
    into.write_bytes(b"")
    transport.retry(lambda: download.go_on(url), download.size)
    if download.hashed_id() != offer.mpack_id:
        raise RemoteProtocolError(
            f"the downloaded bytes are {download.hashed_id()}, promised was {offer.mpack_id}"
        )


class _Download:
    """One file on its way."""

    def __init__(
        self, transport: Transport, offer: PackOffer, into: Path, on_progress: ByteProgress | None
    ) -> None:
        self._transport = transport
        self._offer = offer
        self._into = into
        self._on_progress = on_progress
        self._etag: str | None = None
        size = into.stat().st_size
        self.resumed_leftover = 0 < size <= offer.size_bytes
        """Whether the file held bytes before."""
        if size > offer.size_bytes:
            into.write_bytes(b"")

    def size(self) -> int:
        """Return the bytes that have come."""
        return self._into.stat().st_size

    def hashed_id(self) -> str:
        """The blob id of the file."""
        with self._into.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def go_on(self, url: str) -> None:
        """Get the missing bytes.

        Raises:
            TransientError: not all of it came.
        """
        try:
            self._go_on(url)
        except _StartAgainError as error:
            with refuse_as_store_error("cannot write", self._into):
                self._into.write_bytes(b"")
            self.resumed_leftover = False
            self._etag = None
            raise TransientError(str(error)) from error

    def _go_on(self, url: str) -> None:
        have = self._into.stat().st_size
        if have == self._offer.size_bytes:
            return
        headers: dict[str, str] = {}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._etag is not None:
                headers["If-Range"] = self._etag
        client = self._transport.storage(url)
        request = client.build_request("GET", url, headers=headers)
        with self._transport.open(client, request) as response:
            self._check(response, have)
            if response.status_code == HTTPStatus.OK:
                have = 0
            self._write(response, have)
        if self._into.stat().st_size < self._offer.size_bytes:
            raise TransientError("the download ended too early")

    def _check(self, response: httpx.Response, have: int) -> None:
        status = response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            raise _StartAgainError("the storage does not know this range")
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.GONE}:
            raise RemoteNotFoundError(f"the pack is not at its address any more ({status})")
        if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise self._transport.refusal(response, b"")
        expected = self._offer.size_bytes
        if status == HTTPStatus.PARTIAL_CONTENT:
            found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not have or found is None or int(found[1]) != have:
                raise _StartAgainError("the storage sent another range than was asked for")
            if found[3] not in {"*", str(self._offer.size_bytes)}:
                raise RemoteProtocolError(
                    f"the pack has {found[3]} bytes, promised were {self._offer.size_bytes}"
                )
            expected -= have
        length = response.headers.get("Content-Length")
        if length is not None and length != str(expected):
            raise RemoteProtocolError(
                f"the storage sends {length[:20]} bytes, promised were {expected}"
            )
        etag = response.headers.get("ETag", "")
        self._etag = etag if etag.startswith('"') and etag.isascii() else None

    def _write(self, response: httpx.Response, have: int) -> None:
        total = self._offer.size_bytes
        with refuse_as_store_error("cannot write", self._into), self._into.open("r+b") as file:
            file.truncate(have)
            file.seek(have)
            # As it comes: a chunk size of our own would lose what a broken connection brought last.
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > total:
                    raise RemoteProtocolError(
                        f"the download is longer than the promised {total} bytes"
                    )
                file.write(chunk)
                if self._on_progress is not None:
                    self._on_progress(have, total)
