from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from starfish_disk.durable import make_folder as make_durable_folder
from starfish_protocol.testing import ManualClock
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._file_writes import SHARDS, shard_of
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.testing import OpenStore, PersistentStoreContract


class TestFilesystemObjectStore(PersistentStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return partial(FilesystemObjectStore, tmp_path / "documents")

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[FilesystemObjectStore]:
        store = open_store()
        yield store
        await store.close()


@pytest.fixture
async def base(tmp_path: Path) -> Path:
    """A folder that holds one document."""
    base = tmp_path / "documents"
    store = FilesystemObjectStore(base)
    await store.put("notes/ada", "1")
    await store.close()
    return base


def keys_in(base: Path) -> list[str]:
    """Every file below a folder that is not the store's own."""
    paths = [path for path in base.rglob("*") if path.is_file()]
    return sorted(str(p.relative_to(base)) for p in paths if ".starfish" not in p.parts)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files.


async def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    base = tmp_path / "new" / "folders"
    store = FilesystemObjectStore(str(base))
    assert not base.parent.exists()

    assert await store.get_string("a") is None
    assert base.exists()
    await store.close()


async def test_ordinary_keys_are_files_that_one_finds_and_opens(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path)
    await store.put("users/ada@example.com/settings.json", '{"é": 1}')
    await store.put_bytes("users/Bob/photo.png", b"\x89PNG", content_type="image/png")
    await store.put("users", "{}")
    await store.close()

    assert (tmp_path / "users.d/ada@example.com.d/settings.json").read_text() == '{"é": 1}'
    assert (tmp_path / "users.d/Bob.d/photo.png").read_bytes() == b"\x89PNG"
    assert (tmp_path / "users").read_text() == "{}"


async def test_a_file_put_there_by_hand_is_a_value_and_one_changed_by_hand_has_a_new_etag(
    base: Path,
) -> None:
    store = FilesystemObjectStore(base)
    found = await store.get_with_etag("notes/ada")
    assert found is not None
    (base / "notes.d" / "ada").write_text("by hand")
    (base / "notes.d" / "bob").write_text("new")

    assert await store.list_keys("") == ["notes/ada", "notes/bob"]
    assert await store.get_string("notes/bob") == "new"
    assert await store.put_if_match("notes/ada", "late", found[1]) is None
    assert await store.get_string("notes/ada") == "by hand"
    await store.close()


@pytest.mark.parametrize(
    "name",
    [
        "notes.d/ada~",
        "notes.d/.ada.swp",
        "notes.d/%61da",
        "notes.d/%2e",
        "notes.d/a%00b",
        "notes.d/%FF",
        "notes.d/a%2Fb",
        "notes.d/é",
        "notes.d/ada%",
        "no-suffix/ada",
        "short%/rest",
        ".d/ada",
        "notes.d/x.d",
    ],
)
async def test_a_name_that_no_key_has_is_passed_over(base: Path, name: str) -> None:
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_text("x")
    store = FilesystemObjectStore(base)

    assert await store.list_keys("") == ["notes/ada"]
    await store.close()


async def test_no_draft_is_left_and_folders_go_with_their_last_key(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path)
    await store.put_bytes("a/b/c/d", b"1", content_type="a/b")
    await store.put("a/b/e", "1")
    await store.delete("a/b/c/d")
    assert keys_in(tmp_path) == ["a.d/b.d/e"]
    assert not (tmp_path / "a.d/b.d/c.d").exists()

    await store.delete("a/b/e")
    await store.close()
    assert names_in(tmp_path) == [".starfish"]
    assert names_in(tmp_path / ".starfish/new") == []
    assert names_in(tmp_path / ".starfish/types") == []


async def test_a_draft_left_by_a_killed_process_is_no_hindrance(base: Path) -> None:
    for shard in range(SHARDS):
        (base / ".starfish" / "new" / f"{shard:02x}").write_text("half a docu")
    store = FilesystemObjectStore(base)
    await store.put("notes/ada", "2")

    assert await store.get_string("notes/ada") == "2"
    await store.close()


async def test_writers_make_folders_that_a_deleter_removes_all_the_time(tmp_path: Path) -> None:
    one, other = FilesystemObjectStore(tmp_path), FilesystemObjectStore(tmp_path)

    async def write(key: str) -> None:
        for number in range(100):
            await one.put(key, str(number))
            assert await one.get_string(key) == str(number)
            await one.delete(key)

    async def disturb() -> None:
        for _ in range(200):
            await other.put("a/b/c", "x")
            await other.delete("a/b/c")

    await asyncio.gather(write("a/b/x"), write("a/y"), write("a/b/d/z"), disturb())

    assert await one.list_keys("") == []
    await one.close()
    await other.close()


async def test_a_key_of_very_many_segments(tmp_path: Path) -> None:
    key = "/".join("y" * 300)
    store = FilesystemObjectStore(tmp_path)
    await store.put(key, "deep")

    assert await store.list_keys("") == [key]
    assert await store.list_keys(key[:301]) == [key]
    assert await store.get_string(key) == "deep"
    await store.delete(key)
    assert await store.list_keys("") == []
    await store.close()


# Revisions and content types.


@pytest.mark.parametrize("step_ms", [-3_600_000, 0, 1])
async def test_no_etag_comes_back_when_the_clock_goes_back_or_stands(
    tmp_path: Path, step_ms: int
) -> None:
    clock = ManualClock(1_700_000_000_000)
    etags: list[str | None] = []
    for _ in range(10):
        store = FilesystemObjectStore(tmp_path, clock=clock)
        etags.append(await store.put_if_match("a", "A", None))
        etags.append(await store.put_if_match("a", "B", etags[-1]))
        await store.delete("a")
        await store.close()
        clock.advance(step_ms)

    assert None not in etags
    assert len(set(etags)) == 20


async def test_a_file_dated_in_the_future_by_hand_gets_a_later_date(base: Path) -> None:
    future = 4_000_000_000_000_000_001
    os.utime(base / "notes.d" / "ada", ns=(future, future))
    store = FilesystemObjectStore(base)

    assert await store.get_with_etag("notes/ada") == ("1", str(future))
    assert await store.put_if_match("notes/ada", "2", str(future)) == str(future + 1)
    await store.close()


async def test_a_content_type_written_before_its_value_is_not_the_old_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemObjectStore(tmp_path)
    await store.put_bytes("a", b"old", content_type="a/old")
    real = os.rename

    def rename(source: str, target: str, **folders: int) -> None:
        if target == "a":
            raise OSError(errno.EIO, "power cut")
        real(source, target, **folders)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(StoreUnavailableError, match="power cut"):
            await store.put_bytes("a", b"new", content_type="a/new")
    assert await store.get_bytes("a") == (b"old", "a/old")

    await store.put_bytes("a", b"third", content_type="a/old")
    assert await store.get_bytes("a") == (b"third", "a/old")
    await store.close()


async def test_bytes_and_content_type_are_of_one_version_while_they_change(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path)
    await store.put_bytes("a", b"0", content_type="a/0")

    async def write() -> None:
        for number in range(150):
            await store.put_bytes("a", b"%d" % number, content_type=f"a/{number}")

    writing = asyncio.create_task(write())
    while not writing.done():
        found = await store.get_bytes("a")
        assert found is not None
        assert found[1] == f"a/{found[0].decode()}"
    await writing
    await store.close()


# A kill between any two steps.

STEPS = ("open", "write", "utime", "fsync", "rename", "mkdir", "pwrite", "unlink")


@pytest.mark.parametrize("content_type", ["application/json", "image/png"])
@pytest.mark.parametrize("operation", ["replace", "create", "delete"])
def test_a_kill_before_any_step_leaves_the_old_version_or_the_new(
    tmp_path: Path, operation: str, content_type: str
) -> None:
    # The child ends itself before its n-th call of the system; more and more of them come to pass.
    code = """
import asyncio, os, sys
from starfish_server.storage.filesystem import FilesystemObjectStore
base, operation, content_type, steps, *names = sys.argv[1:]
left = [int(steps)]
def dying(real):
    def call(*args, **kwargs):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return real(*args, **kwargs)
    return call
async def main():
    store = FilesystemObjectStore(base)
    await store.get_string("warm/up")
    for name in names:
        setattr(os, name, dying(getattr(os, name)))
    key = "new/key" if operation == "create" else "notes/old"
    if operation == "delete":
        await store.delete(key)
    else:
        await store.put_bytes(key, b"new", content_type=content_type)
    os._exit(0)
for n in range(int(steps), 400):
    left[0] = n
    child = os.fork()
    if child == 0:
        asyncio.run(main())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(n, status, flush=True)
    if sys.stdin.readline() != "next\\n":
        break
"""
    old = ("old", "image/png" if operation == "replace" else "application/json")
    new = ("new", content_type)
    key = "new/key" if operation == "create" else "notes/old"
    reached: set[object] = set()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), operation, content_type, "0", *STEPS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asyncio.run(prepare(tmp_path, operation, old))
        process.stdin.flush()
        for line in process.stdout:
            step, status = map(int, line.split())
            found, keys = asyncio.run(look(tmp_path, key))
            before = None if operation == "create" else old
            after = None if operation == "delete" else new
            assert found in (before, after), step
            assert (key in keys) == (found is not None)
            reached.add(found)
            if status == 0:
                assert found == after
                break
            assert status == 9
            asyncio.run(prepare(tmp_path, operation, old))
            process.stdin.write("next\n")
            process.stdin.flush()
        process.stdin.close()

    assert reached == {before, after}
    assert step > 5


async def prepare(base: Path, operation: str, old: tuple[str, str]) -> None:
    store = FilesystemObjectStore(base)
    await store.delete_many(["new/key", "notes/old"])
    if operation != "create":
        await store.put_bytes("notes/old", old[0].encode(), content_type=old[1])
    await store.close()


async def look(base: Path, key: str) -> tuple[tuple[str, str] | None, list[str]]:
    store = FilesystemObjectStore(base)
    found = await store.get_bytes(key)
    keys = await store.list_keys("")
    await store.close()
    return (None if found is None else (found[0].decode(), found[1])), keys


# Damaged and foreign folders.


async def test_no_symbolic_link_is_followed(base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (base / "link.d").symlink_to(outside)
    (base / "notes.d" / "link").symlink_to(outside / "secret")
    store = FilesystemObjectStore(base)

    for call in (
        store.get_string("link/secret"),
        store.get_string("notes/link"),
        store.get_bytes("notes/link"),
        store.put("link/secret", "x"),
        store.put("link/new", "x"),
        store.delete("link/secret"),
    ):
        with pytest.raises(StoreUnavailableError, match="link"):
            await call
    await store.put("notes/link", "x")  # in the place of the link
    assert await store.list_keys("") == ["notes/ada", "notes/link"]
    assert names_in(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    await store.close()


async def test_a_pipe_in_the_place_of_a_file_blocks_nobody(base: Path) -> None:
    os.mkfifo(base / "notes.d" / "pipe")
    store = FilesystemObjectStore(base)

    with pytest.raises(StoreUnavailableError, match="is not a regular file"):
        await store.get_string("notes/pipe")
    assert await store.list_keys("") == ["notes/ada"]
    await store.close()


async def test_a_newer_layout_is_refused_and_left_alone(base: Path) -> None:
    (base / ".starfish" / "layout.json").write_text('{"layout": 99, "escape_case": false}')
    store = FilesystemObjectStore(base)

    for call in (store.get_string("notes/ada"), store.put("notes/ada", "2"), store.list_keys("")):
        with pytest.raises(StoreUnavailableError, match="layout 99"):
            await call
    assert (base / "notes.d" / "ada").read_text() == "1"
    await store.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layout": "x"}', "{}"])
async def test_a_damaged_layout_is_refused(base: Path, text: str) -> None:
    (base / ".starfish" / "layout.json").write_text(text)
    store = FilesystemObjectStore(base)

    with pytest.raises(StoreUnavailableError, match=r"layout\.json"):
        await store.get_string("notes/ada")
    await store.close()


async def test_where_case_is_ignored_keys_that_differ_in_case_are_apart(base: Path) -> None:
    (base / ".starfish" / "layout.json").write_text('{"layout": 1, "escape_case": true}')
    store = FilesystemObjectStore(base)
    for key in ("Ada", "ada", "ADA/x", "ada/x"):
        await store.put(key, key)

    assert await store.list_keys("") == ["ADA/x", "Ada", "ada", "ada/x", "notes/ada"]
    names = keys_in(base)
    assert len({name.lower() for name in names}) == len(names)
    assert [await store.get_string(key) for key in ("Ada", "ada")] == ["Ada", "ada"]
    await store.close()


async def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for base in (tmp_path / "file", tmp_path / "file" / "below"):
        store = FilesystemObjectStore(base)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("a", "1")
        assert caught.value.location == str(base)
        await store.close()


async def test_a_folder_that_was_replaced_under_the_store_is_an_error(base: Path) -> None:
    store = FilesystemObjectStore(base)
    assert await store.get_string("notes/ada") == "1"
    shutil.move(base, base.with_name("moved"))
    with pytest.raises(StoreUnavailableError):
        await store.put("a", "2")

    await asyncio.to_thread(make_durable_folder, base)
    for call in (store.put("a", "2"), store.get_string("notes/ada"), store.list_keys("")):
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await call
    await store.close()
    assert names_in(base) == []


async def test_a_disk_that_refuses_leaves_the_old_value_and_no_draft(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemObjectStore(base)
    found = await store.get_with_etag("notes/ada")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreUnavailableError, match="No space left") as caught:
            await store.put("notes/ada", "2")
    assert caught.value.location == str(base)
    assert await store.get_with_etag("notes/ada") == found

    await store.put("notes/ada", "3")
    assert await store.get_string("notes/ada") == "3"
    await store.close()


async def test_a_folder_that_cannot_be_synced_fails_the_write(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemObjectStore(base)
    await store.put("notes/ada", "2")
    real = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse_folders)
        with pytest.raises(StoreUnavailableError, match="Input/output"):
            await store.put("notes/ada", "3")
    await store.close()


async def test_a_lock_held_for_too_long_is_an_error_that_says_so(base: Path) -> None:
    store = FilesystemObjectStore(base, lock_timeout_ms=30)
    lock = base / ".starfish" / "locks" / f"{shard_of('notes/ada'):02x}"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match=r"lock for 0\.03 s"):
            await store.put("notes/ada", "2")
        assert await store.get_string("notes/ada") == "1"

    await store.put("notes/ada", "2")
    await store.close()


async def test_no_descriptor_is_left_open(base: Path) -> None:
    before = len(names_in(Path("/proc/self/fd")))
    for _ in range(3):
        store = FilesystemObjectStore(base)
        await store.put_bytes("a/b", b"x", content_type="a/b")
        await store.get_bytes("a/b")
        await store.get_string("nothing/here")
        await store.list_keys("")
        await store.delete("a/b")
        await store.close()

    assert len(names_in(Path("/proc/self/fd"))) == before


# Foreign folders and modes.


@pytest.mark.parametrize("name", ["notes/a", "a.json", ".hidden"])
async def test_a_folder_with_files_of_another_layout_is_refused_and_left_alone(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "foreign" / name
    path.parent.mkdir(parents=True)
    path.write_text("kept for years")
    store = FilesystemObjectStore(tmp_path / "foreign")

    for call in (store.get_string("notes/a"), store.put("notes/a", "x"), store.list_keys("")):
        with pytest.raises(StoreUnavailableError, match="not a folder of this store"):
            await call
    await store.close()
    assert [each for each in (tmp_path / "foreign").rglob("*") if each.is_file()] == [path]


async def test_the_tree_is_for_its_owner_only(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path / "new" / "tree")
    await store.put("notes/ada/1", "x")
    await store.put_bytes("blob", b"x", content_type="a/b")
    await store.close()

    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
