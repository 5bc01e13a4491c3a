"""What every backend of content must keep to.

Inherit, and supply the fixture ``backend`` with an empty one::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path)
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pytest

from starfish_artifact_registry.errors import ContentNotFoundError
from starfish_artifact_registry.storage._base import ContentBackend, ContentInfo, StoredContent
from starfish_protocol.address import ContentAddress

__all__ = ("BackendContract", "content", "read_all", "stream_of")

_MIB = 1024 * 1024
_SIZES = (0, 1, 4096, _MIB, 4 * _MIB, 4 * _MIB + 1, 9 * _MIB + 7)
"""Around the sizes at which a backend may change from memory to files or to several parts."""


@lru_cache(maxsize=4)
def content(size: int, seed: int = 7) -> bytes:
    """Bytes that compress badly, the same each time."""
    return random.Random(seed).randbytes(size)  # noqa: S311  repeatable


async def stream_of(data: bytes, chunk: int = 64 * 1024) -> AsyncGenerator[bytes]:
    """The data in chunks; none for no data. Lets other tasks run in between."""
    for start in range(0, len(data), chunk):
        await asyncio.sleep(0)
        yield data[start : start + chunk]


async def read_all(
    backend: ContentBackend, address: ContentAddress, start: int = 0, end: int | None = None
) -> bytes:
    """All of a range at once."""
    return b"".join([chunk async for chunk in backend.read(address, start=start, end=end)])


async def _listed(backend: ContentBackend) -> dict[ContentAddress, ContentInfo]:
    entries = [entry async for entry in backend.list()]
    assert len({entry.address for entry in entries}) == len(entries)
    return {entry.address: entry for entry in entries}


@pytest.mark.asyncio
class BackendContract:
    """Tests of one backend; supply the fixture ``backend``."""

    time_step = timedelta(milliseconds=2)
    """How far apart two writes must be for the backend to tell their times apart."""
    rounds = 8
    """How often each race is run."""

    @pytest.fixture
    def backend(self) -> ContentBackend:
        """An empty backend."""
        raise NotImplementedError("a subclass supplies the fixture `backend`")

    @pytest.mark.parametrize("size", _SIZES)
    async def test_what_was_put_is_read_back(self, backend: ContentBackend, size: int) -> None:
        data = content(size)
        stored = await backend.put(stream_of(data))

        assert stored == StoredContent(
            address=ContentAddress.of(data),
            sha256=ContentAddress("sha256", hashlib.sha256(data).digest()),
            size=size,
            was_present=False,
        )
        assert await read_all(backend, stored.address) == data
        assert await backend.size(stored.address) == size

    @pytest.mark.parametrize("size", [4096, 9 * _MIB])
    async def test_the_same_content_is_stored_once_however_it_is_cut(
        self, backend: ContentBackend, size: int
    ) -> None:
        data = content(size)
        stored = [
            await backend.put(stream_of(data, chunk))
            for chunk in (size, 64 * 1024 - 1, max(1, size // 5))
        ]

        assert len({(one.address, one.sha256, one.size) for one in stored}) == 1
        assert [one.was_present for one in stored] == [False, True, True]
        assert list(await _listed(backend)) == [stored[0].address]

    async def test_many_tiny_chunks_are_fine(self, backend: ContentBackend) -> None:
        data = content(20_000)
        stored = await backend.put(stream_of(data, 1))

        assert await read_all(backend, stored.address) == data

    async def test_a_buffer_that_is_filled_again_does_no_harm(
        self, backend: ContentBackend
    ) -> None:
        async def reusing() -> AsyncGenerator[Any]:
            buffer = bytearray(_MIB)
            for number in range(10):
                buffer[:] = bytes([number]) * _MIB
                yield buffer

        stored = await backend.put(reusing())
        expected = b"".join(bytes([number]) * _MIB for number in range(10))

        assert stored.address == ContentAddress.of(expected)
        assert await read_all(backend, stored.address) == expected

    @pytest.mark.parametrize("size", [1000, 9 * _MIB])
    async def test_a_range_is_what_a_slice_is(self, backend: ContentBackend, size: int) -> None:
        data = content(size)
        address = (await backend.put(stream_of(data))).address
        edges = (0, 1, 17, size // 2, size - 1, size, size + 5)

        for start in edges:
            assert await read_all(backend, address, start) == data[start:]
            for end in edges:
                if end >= start:
                    assert await read_all(backend, address, start, end) == data[start:end]

    async def test_a_range_that_means_nothing_is_refused_at_once(
        self, backend: ContentBackend
    ) -> None:
        address = (await backend.put(stream_of(b"abc"))).address

        for start, end in ((-1, None), (2, 1), (0, -1)):
            with pytest.raises(ValueError, match="not a range"):
                backend.read(address, start=start, end=end)

    async def test_no_chunk_is_larger_than_a_mebibyte(self, backend: ContentBackend) -> None:
        address = (await backend.put(stream_of(content(9 * _MIB), 9 * _MIB))).address
        lengths = [len(chunk) async for chunk in backend.read(address)]

        assert sum(lengths) == 9 * _MIB
        assert 0 < min(lengths) <= max(lengths) <= _MIB

    async def test_what_is_not_there_is_said_so(self, backend: ContentBackend) -> None:
        await backend.put(stream_of(b"other"))
        missing = ContentAddress.of(b"missing")

        for address in (missing, ContentAddress.of(b"other", "sha256")):
            with pytest.raises(ContentNotFoundError, match=str(address)) as caught:
                await anext(backend.read(address))
            assert (caught.value.address, caught.value.backend_id) == (address, backend.backend_id)
            with pytest.raises(ContentNotFoundError):
                await read_all(backend, address, 5, 5)
            assert await backend.size(address) is None
            assert not await backend.touch(address)
            assert not await backend.delete(address)

    async def test_only_an_address_names_content(self, backend: ContentBackend) -> None:
        hostile: Any
        for hostile in ("../../etc/passwd", "blake3:../x", b"x" * 32, None):
            with pytest.raises(TypeError, match="ContentAddress"):
                backend.read(hostile)
            for method in (backend.size, backend.touch, backend.delete):
                with pytest.raises(TypeError, match="ContentAddress"):
                    await method(hostile)

    @pytest.mark.parametrize("size", [10, 9 * _MIB])
    async def test_a_stream_that_fails_leaves_nothing(
        self, backend: ContentBackend, size: int
    ) -> None:
        async def failing() -> AsyncGenerator[bytes]:
            async for chunk in stream_of(content(size)):
                yield chunk
            raise ConnectionResetError("the sender has gone")

        with pytest.raises(ConnectionResetError, match="the sender has gone"):
            await backend.put(failing())
        assert await _listed(backend) == {}
        assert await backend.sweep() == 0

    async def test_a_stream_of_something_else_is_refused(self, backend: ContentBackend) -> None:
        for wrong in ("text", 7, None):

            async def stream(chunk: Any = wrong) -> AsyncGenerator[Any]:
                yield content(5 * _MIB)
                yield chunk

            with pytest.raises(TypeError, match=type(wrong).__name__):
                await backend.put(stream())
        assert await _listed(backend) == {}

    @pytest.mark.parametrize("size", [10, 9 * _MIB])
    async def test_a_put_that_is_cancelled_leaves_nothing(
        self, backend: ContentBackend, size: int
    ) -> None:
        waiting = asyncio.Event()

        async def endless() -> AsyncGenerator[bytes]:
            async for chunk in stream_of(content(size)):
                yield chunk
            waiting.set()
            await asyncio.Event().wait()

        putting = asyncio.create_task(backend.put(endless()))
        await waiting.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await _listed(backend) == {}
        assert await backend.sweep() == 0

    async def test_a_put_that_is_cancelled_at_any_moment_leaves_all_or_nothing(
        self, backend: ContentBackend
    ) -> None:
        data = content(9 * _MIB)
        address = ContentAddress.of(data)
        for number in range(self.rounds):
            putting = asyncio.create_task(backend.put(stream_of(data, _MIB)))
            await asyncio.sleep(number % 20 * 0.002)
            putting.cancel()
            await asyncio.gather(putting, return_exceptions=True)
            if await backend.size(address) is not None:
                assert await read_all(backend, address) == data
                await backend.delete(address)
        assert await backend.sweep() == 0

    async def test_a_reader_may_stop_early(self, backend: ContentBackend) -> None:
        data = content(9 * _MIB)
        address = (await backend.put(stream_of(data))).address
        for _ in range(3):
            reader = backend.read(address)
            first = await anext(reader)
            await reader.aclose()
            assert data.startswith(first)

        assert await read_all(backend, address) == data

    async def test_slow_readers_do_not_hold_up_others(self, backend: ContentBackend) -> None:
        data = content(9 * _MIB)
        address = (await backend.put(stream_of(data))).address
        slow = [backend.read(address) for _ in range(30)]
        begun = [await anext(reader) for reader in slow]

        assert await read_all(backend, address) == data
        assert (await backend.put(stream_of(b"more"))).size == 4
        for first, reader in zip(begun, slow, strict=True):
            assert data.startswith(first)
            await reader.aclose()

    async def test_removed_content_is_gone_and_can_be_put_again(
        self, backend: ContentBackend
    ) -> None:
        stored = await backend.put(stream_of(b"abc"))

        assert await backend.delete(stored.address)
        assert not await backend.delete(stored.address)
        assert await backend.size(stored.address) is None
        assert await _listed(backend) == {}
        assert await backend.put(stream_of(b"abc")) == stored
        assert await read_all(backend, stored.address) == b"abc"

    async def test_the_listing_tells_all(self, backend: ContentBackend) -> None:
        stored = [await backend.put(stream_of(content(n * 100, n))) for n in range(30)]

        listed = await _listed(backend)
        assert {a: entry.size for a, entry in listed.items()} == {
            one.address: one.size for one in stored
        }
        assert all(entry.modified_at.utcoffset() == timedelta(0) for entry in listed.values())

    async def test_a_put_and_a_touch_start_the_grace_time_anew(
        self, backend: ContentBackend
    ) -> None:
        address = (await backend.put(stream_of(b"abc"))).address
        times = [(await _listed(backend))[address].modified_at]
        for renew in (
            lambda: backend.put(stream_of(b"abc")),
            lambda: backend.touch(address),
            lambda: backend.touch(address),
        ):
            await asyncio.sleep(self.time_step.total_seconds())
            assert await renew()
            times.append((await _listed(backend))[address].modified_at)

        assert times == sorted(set(times))
        for time in times[:-1]:
            assert not await backend.delete(address, unmodified_since=time)
        assert await backend.size(address) == 3
        assert await backend.delete(address, unmodified_since=times[-1])
        assert await backend.size(address) is None

    async def test_equal_content_put_at_once_is_stored_once(self, backend: ContentBackend) -> None:
        for number in range(self.rounds):
            data = content(9 * _MIB if number % 10 == 0 else 1000, number)
            stored = await asyncio.gather(*(backend.put(stream_of(data)) for _ in range(6)))

            assert {one.address for one in stored} == {ContentAddress.of(data)}
            assert not all(one.was_present for one in stored)
            assert await read_all(backend, stored[0].address) == data
            assert list(await _listed(backend)) == [stored[0].address]
            await backend.delete(stored[0].address)

    async def test_different_content_put_at_once_does_not_mix(
        self, backend: ContentBackend
    ) -> None:
        data = [content(n * 400_000, n) for n in range(16)]
        stored = await asyncio.gather(*(backend.put(stream_of(one)) for one in data))

        for one, found in zip(data, stored, strict=True):
            assert await read_all(backend, found.address) == one

    async def test_a_removal_of_old_content_never_takes_what_a_put_has_just_answered(
        self, backend: ContentBackend
    ) -> None:
        for number in range(self.rounds):
            data = content(500, number)
            address = (await backend.put(stream_of(data))).address
            old = (await _listed(backend))[address].modified_at
            await asyncio.sleep(self.time_step.total_seconds())
            calls: Iterable[asyncio.Task[object]] = [
                asyncio.create_task(call)
                for call in (
                    backend.delete(address, unmodified_since=old),
                    backend.put(stream_of(data)),
                    backend.delete(address, unmodified_since=old),
                )
            ]
            await asyncio.gather(*calls)

            assert await read_all(backend, address) == data

    async def test_a_removal_and_a_put_leave_the_whole_or_nothing(
        self, backend: ContentBackend
    ) -> None:
        for number in range(self.rounds):
            data = content(5 * _MIB if number % 10 == 0 else 500, number)
            address = (await backend.put(stream_of(data))).address
            await asyncio.gather(
                backend.put(stream_of(data)), backend.delete(address), backend.touch(address)
            )

            if await backend.size(address) is not None:
                assert await read_all(backend, address) == data
            assert (await backend.put(stream_of(data))).address == address
            assert await read_all(backend, address) == data
