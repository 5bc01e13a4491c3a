"""Files: the contract, names, leftovers, a full and a read-only disk."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox import FileCache, OutboxPersistenceError
from starfish_outbox.testing import LocalCacheContract


class TestFileCache(LocalCacheContract):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> FileCache:
        return FileCache(tmp_path / "made" / "when needed")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), unique=True))
def test_names_are_safe_differ_in_more_than_case_and_read_back(keys: list[str]) -> None:
    cache = FileCache("/somewhere")
    paths = [cache.path_of(key) for key in keys]

    assert [FileCache.key_of(path) for path in paths] == keys
    assert len({path.name.lower() for path in paths}) == len(keys)
    assert all(path.parent == Path("/somewhere") for path in paths)


def test_a_key_too_long_for_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        asyncio.run(FileCache(tmp_path).set_item("x" * 300, "[]"))

    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_utf8_survive_a_quarantine(tmp_path: Path) -> None:
    async def move() -> None:
        text = await cache.get_item("k")
        assert text is not None
        await cache.set_item("aside", text)

    cache = FileCache(tmp_path)
    cache.path_of("k").write_bytes(b"\xff\xfe broken")
    asyncio.run(move())

    assert cache.path_of("aside").read_bytes() == b"\xff\xfe broken"


async def test_a_cancelled_write_never_overtakes_a_later_one(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    for _ in range(20):
        older = asyncio.create_task(cache.set_item("k", "older" * 10_000))
        await asyncio.sleep(0)
        older.cancel()
        await cache.set_item("k", "newer")
        await asyncio.wait([older])
        await asyncio.sleep(0.002)

        assert await cache.get_item("k") == "newer"


UNFINISHED = """
import os, sys
from starfish_disk import new_file
with new_file(sys.argv[1]) as file:
    file.write(b"half")
    os._exit(0)
"""


def test_unfinished_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", UNFINISHED, tmp_path], check=True)
    assert len(list(tmp_path.iterdir())) == 1
    asyncio.run(FileCache(tmp_path).set_item("k", "[]"))

    assert [p.name for p in tmp_path.iterdir()] == ["k.json"]


async def test_a_directory_in_the_way_is_a_typed_error(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.path_of("k").mkdir()
    for call in (cache.get_item("k"), cache.set_item("k", "[]"), cache.remove_item("k")):
        with pytest.raises(OutboxPersistenceError, match=r"k\.json"):
            await call


def test_a_write_that_does_not_fit_leaves_the_old_text_and_the_queue_as_it_was(
    tmp_path: Path,
) -> None:
    """The file size limit of a child process stands for a full disk."""
    program = """
        import asyncio, json, resource, signal, sys
        from starfish_outbox import FileCache, OutboxPersistenceError, OutboxQueue

        async def main():
            queue = OutboxQueue(FileCache(sys.argv[1]))
            await queue.hydrate("k")
            await queue.enqueue("small", 1)
            before = queue.get()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                await queue.enqueue("large", "x" * 10_000)
            except OutboxPersistenceError as error:
                print("refused:", error.reason)
            assert queue.get() == before
            await queue.enqueue("after", 2)
            print([entry.id for entry in queue.get()])

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.stdout.splitlines() == ["refused: File too large", "['small', 'after']"], (
        done.stderr
    )
    assert [p.name for p in tmp_path.iterdir()] == ["k.json"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
