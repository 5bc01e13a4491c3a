"""A folder of content: the contract, and what only a folder can get wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from starfish_artifact_registry.errors import (
    ContentNotFoundError,
    StorageFullError,
    StorageUnavailableError,
)
from starfish_artifact_registry.storage import LocalBackend
from starfish_artifact_registry.testing import BackendContract, content, read_all, stream_of
from starfish_protocol.address import ContentAddress
from starfish_protocol.testing import ManualClock

MIB = 1024 * 1024
SIZES = pytest.mark.parametrize("size", [1000, 9 * MIB])
"""Written in one visit to a thread, and block by block."""


class TestLocalBackend(BackendContract):
    rounds = max(8, int(os.environ.get("STARFISH_REPEAT", "1")))

    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "evidence" / "content")


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "content")


def path_of(backend: LocalBackend, address: ContentAddress) -> Path:
    digits = address.digest.hex()
    return backend.root / "blake3" / digits[:2] / digits


def files_in(backend: LocalBackend) -> list[Path]:
    return [path for path in backend.root.rglob("*") if not path.is_dir()]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@SIZES
async def test_content_is_a_file_named_by_its_hash_and_only_for_its_owner(
    backend: LocalBackend, size: int
) -> None:
    data = content(size)
    stored = await backend.put(stream_of(data))

    assert files_in(backend) == [path_of(backend, stored.address)]
    assert path_of(backend, stored.address).read_bytes() == data
    for path in (backend.root, *backend.root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


async def test_times_are_those_of_the_clock(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000_000)
    backend = LocalBackend(tmp_path, clock=clock)
    stored = await backend.put(stream_of(b"abc"))
    (entry,) = [entry async for entry in backend.list()]
    assert entry.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)

    clock.advance(5000)
    await backend.touch(stored.address)
    (entry,) = [entry async for entry in backend.list()]
    assert entry.modified_at == datetime.fromtimestamp(1_700_000_005, UTC)


@SIZES
async def test_a_full_disk_leaves_nothing_and_what_was_there(small_disk: Path, size: int) -> None:
    backend = LocalBackend(small_disk)
    kept = await backend.put(stream_of(content(4 * MIB, 1)))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))

    for _ in range(3):
        with pytest.raises(StorageFullError, match="No space left") as caught:
            await backend.put(stream_of(content(size)))
        assert caught.value.backend_id == "local"
    filler.unlink()
    assert files_in(backend) == [path_of(backend, kept.address)]
    assert await read_all(backend, kept.address) == content(4 * MIB, 1)
    assert (await backend.put(stream_of(b"room again"))).size == 10


async def test_a_limit_of_the_process_leaves_nothing(backend: LocalBackend) -> None:
    await backend.put(stream_of(b"before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, hard))
    try:
        with pytest.raises(StorageFullError, match="too large"):
            await backend.put(stream_of(content(9 * MIB)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert len(files_in(backend)) == 1


@SIZES
@pytest.mark.parametrize("name", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_a_disk_that_refuses_any_step_leaves_nothing_half(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, size: int, name: str, number: int
) -> None:
    await backend.put(stream_of(b"before"))
    data = content(size)
    folder = path_of(backend, ContentAddress.of(data)).parent
    folder.mkdir(mode=0o700, exist_ok=True)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        with pytest.raises(StorageUnavailableError, match=os.strerror(number)) as caught:
            await backend.put(stream_of(data))
    assert isinstance(caught.value, StorageFullError) == (number == errno.ENOSPC)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(files_in(backend)) == 1
    assert open_files() <= before

    assert not (await backend.put(stream_of(data))).was_present


async def test_an_os_error_of_the_stream_stays_its_own(backend: LocalBackend) -> None:
    async def stream() -> AsyncGenerator[bytes]:
        yield content(9 * MIB)
        raise OSError(errno.ENOSPC, "the sender's disk")

    with pytest.raises(OSError, match="the sender's disk"):
        await backend.put(stream())


async def test_a_link_below_the_folder_is_not_followed(
    backend: LocalBackend, tmp_path: Path
) -> None:
    address = (await backend.put(stream_of(b"abc"))).address
    secret = tmp_path / "secret"
    secret.write_bytes(b"xyz")
    path = path_of(backend, address)
    path.unlink()
    path.symlink_to(secret)

    with pytest.raises(StorageUnavailableError):
        await read_all(backend, address)
    assert [entry async for entry in backend.list()] == []
    assert not await backend.touch(address)
    await backend.put(stream_of(b"abc"))
    assert await read_all(backend, address) == b"abc"
    assert secret.read_bytes() == b"xyz"


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_folder_that_is_a_link_is_not_entered(
    backend: LocalBackend, tmp_path: Path, depth: int
) -> None:
    address = (await backend.put(stream_of(b"abc"))).address
    folder = path_of(backend, address).parents[depth]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    calls: list[Callable[[], object]] = [
        lambda: read_all(backend, address),
        lambda: backend.put(stream_of(b"abc")),
        lambda: backend.size(address),
        lambda: backend.delete(address),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailableError):
            await call()  # type: ignore[misc]

    assert len([*(tmp_path / "elsewhere").rglob("?" * 64)]) == 1


async def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "content").symlink_to("disk")
    stored = await LocalBackend(tmp_path / "content").put(stream_of(b"abc"))

    assert await read_all(LocalBackend(tmp_path / "disk"), stored.address) == b"abc"


async def test_what_is_not_ours_is_neither_listed_nor_read(backend: LocalBackend) -> None:
    address = (await backend.put(stream_of(b"abc"))).address
    folder = path_of(backend, address).parent
    (folder / "README").write_text("x")
    (folder / ("0" * 63)).write_text("x")
    (folder / path_of(backend, address).name.upper()).write_text("x")
    (folder.parent / "zz").mkdir()
    wrong = "ff" if folder.name != "ff" else "00"
    (folder / (wrong * 32)).write_text("x")
    pipe = ContentAddress("blake3", bytes.fromhex(folder.name) + bytes(31))
    os.mkfifo(path_of(backend, pipe))

    assert [entry.address async for entry in backend.list()] == [address]
    with pytest.raises(StorageUnavailableError, match="not a file"):
        await read_all(backend, pipe)


async def test_a_folder_that_goes_or_is_replaced_is_no_empty_store(
    backend: LocalBackend, tmp_path: Path
) -> None:
    address = (await backend.put(stream_of(b"abc"))).address
    backend.root.rename(tmp_path / "moved")

    async def assert_unavailable(reason: str) -> None:
        for call in (backend.put(stream_of(b"x")), backend.size(address), backend.touch(address)):
            with pytest.raises(StorageUnavailableError, match=reason):
                await call
        with pytest.raises(StorageUnavailableError, match=reason):
            await read_all(backend, address)
        with pytest.raises(StorageUnavailableError, match=reason):
            assert [entry async for entry in backend.list()]

    await assert_unavailable("has gone")
    assert not backend.root.exists()
    backend.root.mkdir()
    await assert_unavailable("was replaced")
    backend.root.rmdir()
    (tmp_path / "moved").rename(backend.root)
    assert await read_all(backend, address) == b"abc"


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    backend = LocalBackend(tmp_path / "file" / "content")

    with pytest.raises(StorageUnavailableError, match="Not a directory"):
        await backend.put(stream_of(b"abc"))


async def test_an_empty_backend_answers_before_its_folder_is_made(backend: LocalBackend) -> None:
    assert [entry async for entry in backend.list()] == []
    assert await backend.sweep() == 0
    assert await backend.size(ContentAddress.of(b"x")) is None
    with pytest.raises(ContentNotFoundError):
        await read_all(backend, ContentAddress.of(b"x"))
    assert not backend.root.exists()


async def test_no_file_stays_open(backend: LocalBackend) -> None:
    data = content(9 * MIB)
    address = (await backend.put(stream_of(data))).address
    before = open_files()
    for _ in range(5):
        await backend.put(stream_of(data))
        await read_all(backend, address)
        reader = backend.read(address)
        await anext(reader)
        assert open_files() == before + 1
        await reader.aclose()
        reading = asyncio.create_task(read_all(backend, address))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    assert open_files() == before


async def test_whoever_reads_when_it_is_removed_reads_on(backend: LocalBackend) -> None:
    data = content(9 * MIB)
    address = (await backend.put(stream_of(data))).address
    reader = backend.read(address)
    first = await anext(reader)
    assert await backend.delete(address)

    assert first + b"".join([chunk async for chunk in reader]) == data


async def test_a_forked_process_has_threads_of_its_own(backend: LocalBackend) -> None:
    await backend.put(stream_of(b"abc"))
    program = (
        "import asyncio, os, sys\n"
        "from starfish_artifact_registry.storage import LocalBackend\n"
        "async def stream():\n    yield sys.argv[2].encode()\n"
        "backend = LocalBackend(sys.argv[1])\n"
        "asyncio.run(backend.put(stream()))\n"
        "child = os.fork()\n"
        "stored = asyncio.run(backend.put(stream()))\n"
        "if not child: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stored.was_present)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, backend.root, "abc"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.stdout, done.stderr) == ("7 True\n", "")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", [1024, 8 * MIB])
async def test_a_long_stream_passes_through_little_memory(tmp_path: Path, chunk: int) -> None:
    size = int(os.environ.get("STARFISH_STREAM_MIB", "112")) * MIB
    program = (
        "import asyncio, re, sys\n"
        "from starfish_artifact_registry.dataplane import InProcessDataPlane\n"
        "from starfish_artifact_registry.storage import LocalBackend\n"
        "size, chunk = int(sys.argv[2]), int(sys.argv[3])\n"
        "async def stream():\n"
        "    for number in range(size // chunk):\n"
        "        yield number.to_bytes(8, 'big') * (chunk // 8)\n"
        "async def main():\n"
        "    dataplane = InProcessDataPlane(LocalBackend(sys.argv[1]))\n"
        "    stored = await dataplane.put(stream())\n"
        "    assert stored.size == size\n"
        "    assert await dataplane.rehash(stored.address) == stored.address\n"
        "asyncio.run(main())\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())\n"
        "print(int(peak[1]) // 1024)\n"
    )
    command = [sys.executable, "-c", program, tmp_path, str(size), str(chunk)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=600, check=False
    )

    assert re.fullmatch(r"\d+\n", done.stdout), done.stderr
    assert int(done.stdout) < 100
