"""Content in object stores: the contract on three of them, and what can go wrong in each request."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

obstore = pytest.importorskip("obstore", reason="the extra s3 is not installed")

from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store  # noqa: E402  after the skip

from servers.process import free_port  # noqa: E402
from servers.s3 import S3Server  # noqa: E402
from starfish_artifact_registry.errors import StorageFullError, StorageUnavailableError  # noqa: E402
from starfish_artifact_registry.storage.object_store import ObjectStoreBackend  # noqa: E402
from starfish_artifact_registry.testing import BackendContract  # noqa: E402
from starfish_artifact_registry.testing._backend_contract import content, read_all, stream_of  # noqa: E402
from starfish_protocol.address import ContentAddress  # noqa: E402
from starfish_protocol.clock import SystemClock  # noqa: E402
from starfish_protocol.testing import ManualClock  # noqa: E402

MIB = 1024 * 1024


class TestMemoryStore(BackendContract):
    rounds = max(8, int(os.environ.get("STARFISH_REPEAT", "1")))

    @pytest.fixture
    def backend(self, tmp_path: Path) -> ObjectStoreBackend:
        return ObjectStoreBackend(MemoryStore(), "memory", spool_folder=tmp_path)


class TestLocalStore(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> ObjectStoreBackend:
        return ObjectStoreBackend(LocalStore(tmp_path / "store", mkdir=True), "folder")


class TestS3Store(BackendContract):
    time_step = timedelta(seconds=1.1)
    rounds = 2

    @pytest.fixture
    def backend(self, s3_server: S3Server) -> ObjectStoreBackend:
        store = S3Store(
            prefix=uuid.uuid4().hex, **s3_server.store_options, client_options={"allow_http": True}
        )
        return ObjectStoreBackend(store, "s3")


async def _keys(store: ObjectStore) -> dict[str, int]:
    return {one["path"]: one["size"] async for page in obstore.list(store) for one in page}


def _key(data: bytes, folder: str = "blake3") -> str:
    digits = ContentAddress.of(data).digest.hex()
    return f"{folder}/{digits[:2]}/{digits}"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def backend(store: MemoryStore) -> ObjectStoreBackend:
    return ObjectStoreBackend(store, "memory")


SIZES = pytest.mark.parametrize("size", [1000, 9 * MIB])


@SIZES
async def test_known_content_is_not_uploaded_again(
    store: MemoryStore, backend: ObjectStoreBackend, size: int
) -> None:
    data = content(size)
    await backend.put(stream_of(data))
    assert await _keys(store) == {_key(data): size}
    first = await obstore.head_async(store, _key(data))

    assert (await backend.put(stream_of(data))).was_present
    assert await obstore.head_async(store, _key(data)) == first
    assert await _keys(store) == {_key(data): size, _key(data, "touched"): 0}
    assert await backend.delete(ContentAddress.of(data))
    assert await _keys(store) == {}


@SIZES
@pytest.mark.parametrize("change", [-1, 1])
async def test_content_of_the_wrong_length_is_put_right_by_the_next_put(
    store: MemoryStore, backend: ObjectStoreBackend, size: int, change: int
) -> None:
    data = content(size)
    await obstore.put_async(store, _key(data), data[:-1] if change < 0 else data + b"x")

    assert not (await backend.put(stream_of(data))).was_present
    assert await read_all(backend, ContentAddress.of(data)) == data


async def test_a_removal_that_was_broken_off_holds_puts_up_until_a_sweep(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(SystemClock().now_ms())
    backend = ObjectStoreBackend(store, "memory", clock=clock)
    await backend.put(stream_of(b"abc"))
    await obstore.put_async(store, _key(b"abc", "removing"), b"")
    monkeypatch.setattr(f"{ObjectStoreBackend.__module__}._REMOVAL_S", 0.2)

    with pytest.raises(StorageUnavailableError, match="under removal for"):
        await backend.put(stream_of(b"abc"))
    assert not await backend.delete(ContentAddress.of(b"abc"))
    assert await backend.sweep() == 0
    clock.advance(16 * 60 * 1000)
    assert await backend.sweep() == 1
    assert (await backend.put(stream_of(b"abc"))).was_present
    assert await backend.delete(ContentAddress.of(b"abc"))


async def test_a_put_waits_for_a_removal_and_then_uploads(
    store: MemoryStore, backend: ObjectStoreBackend
) -> None:
    await backend.put(stream_of(b"abc"))
    await obstore.put_async(store, _key(b"abc", "removing"), b"")
    putting = asyncio.create_task(backend.put(stream_of(b"abc")))
    await asyncio.sleep(0.1)
    assert not putting.done()
    await obstore.delete_async(store, _key(b"abc"))
    await obstore.delete_async(store, _key(b"abc", "removing"))

    assert not (await putting).was_present
    assert await read_all(backend, ContentAddress.of(b"abc")) == b"abc"


async def test_what_is_not_ours_is_not_listed(
    store: MemoryStore, backend: ObjectStoreBackend
) -> None:
    address = (await backend.put(stream_of(b"abc"))).address
    for key in ("blake3/README", f"blake3/zz/{'z' * 64}", f"blake3/00/{'f' * 64}", "other/x"):
        await obstore.put_async(store, key, b"x")

    assert [entry.address async for entry in backend.list()] == [address]


async def _assert_unavailable(
    backend: ObjectStoreBackend, *secrets: str, writing_only: bool = False
) -> None:
    address = ContentAddress.of(b"abc")
    writing: list[Callable[[], Awaitable[object]]] = [
        lambda: backend.put(stream_of(b"abc")),
        lambda: backend.put(stream_of(content(9 * MIB))),
    ]
    reading: list[Callable[[], Awaitable[object]]] = [
        lambda: read_all(backend, address),
        lambda: backend.size(address),
        lambda: backend.touch(address),
        lambda: backend.delete(address),
        lambda: anext(backend.list()),
        backend.sweep,
    ]
    for call in writing if writing_only else writing + reading:
        with pytest.raises(StorageUnavailableError) as caught:
            await call()
        assert caught.value.backend_id == "s3"
        assert caught.value.__cause__ is not None
        assert "\n" not in str(caught.value)
        assert not [secret for secret in secrets if secret in str(caught.value)]


async def test_a_server_that_is_gone_is_said_so() -> None:
    store = S3Store(
        bucket="b",
        endpoint=f"http://127.0.0.1:{free_port()}",
        region="us-east-1",
        access_key_id="id",
        secret_access_key="the-secret-key",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    await _assert_unavailable(ObjectStoreBackend(store, "s3"), "the-secret-key")


@pytest.mark.parametrize(
    "wrong", [{"secret_access_key": "a-wrong-secret"}, {"bucket": "No_such_bucket"}]
)
async def test_a_server_that_refuses_is_said_so(s3_server: S3Server, wrong: dict[str, str]) -> None:
    options = s3_server.store_options | wrong
    store = S3Store(
        **options,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    await _assert_unavailable(
        ObjectStoreBackend(store, "s3"),
        options["secret_access_key"],
        writing_only="bucket" in wrong,  # S3 calls an object there just missing
    )


async def test_a_spool_that_is_full_or_missing_leaves_nothing(
    store: MemoryStore, small_disk: Path
) -> None:
    backend = ObjectStoreBackend(store, "memory", spool_folder=small_disk)
    with pytest.raises(StorageFullError, match="No space left"):
        await backend.put(stream_of(content(17 * MIB)))
    missing = ObjectStoreBackend(store, "memory", spool_folder=small_disk / "missing")
    with pytest.raises(StorageUnavailableError, match="No such file"):
        await missing.put(stream_of(content(9 * MIB)))

    assert await _keys(store) == {}
    assert not any(small_disk.iterdir())  # noqa: ASYNC240  a folder in memory
    assert (await missing.put(stream_of(b"abc"))).size == 3


async def test_a_long_stream_passes_through_little_memory(tmp_path: Path) -> None:
    program = (
        "import asyncio, re, sys\n"
        "from obstore.store import LocalStore\n"
        "from starfish_artifact_registry.storage.object_store import ObjectStoreBackend\n"
        "async def stream():\n"
        "    for number in range(112):\n"
        "        yield number.to_bytes(8, 'big') * 2**17\n"
        "async def main():\n"
        "    backend = ObjectStoreBackend(LocalStore(sys.argv[1]), 'folder')\n"
        "    stored = await backend.put(stream())\n"
        "    length = 0\n"
        "    async for chunk in backend.read(stored.address): length += len(chunk)\n"
        "    assert length == stored.size == 112 * 2**20\n"
        "asyncio.run(main())\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())\n"
        "print(int(peak[1]) // 1024)\n"
    )
    command = [sys.executable, "-c", program, tmp_path]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.strip().isdecimal(), done.stderr
    assert int(done.stdout) < 100


def test_without_the_extra_the_import_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['obstore'] = None\n"
        "import starfish_artifact_registry.storage\n"
        "import starfish_artifact_registry.storage.object_store\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert (
        'needs the extra s3: pip install --find-links dist "starfish-artifact-registry[s3]"'
        in done.stderr
    )
