"""Files that are whole, locks that hold, leftovers that go."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from starfish_disk import (
    create_file,
    hold_lock,
    make_folder,
    new_file,
    remove_file,
    replace_file,
    sweep_leftovers,
    sync_file,
    sync_folder,
)
from starfish_disk.errors import (
    BusyError,
    DiskError,
    ExistsError,
    FullError,
    MissingError,
    UnsafePathError,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_replaced_file_has_the_new_bytes_and_only_its_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)

    replace_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]


def test_a_file_that_must_be_new_does_not_take_a_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_file(path, b"first")

    with pytest.raises(ExistsError):
        create_file(path, b"second")

    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_of_many_that_create_one_file_one_succeeds(tmp_path: Path) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        try:
            create_file(tmp_path / "file", str(number).encode())
        except ExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tmp_path / "file").read_bytes() == str(won[0]).encode()
    assert len(won) == 1


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_is_not_published_leaves_nothing(tmp_path: Path, *, replace: bool) -> None:
    def interrupted() -> None:
        with new_file(tmp_path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with new_file(tmp_path) as file:
        file.write(b"whole")
        file.publish("file", replace=replace)

    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/x", "a\0b"])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with new_file(tmp_path) as file, pytest.raises(UnsafePathError):
        file.publish(name)

    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [replace_file, create_file])
def test_a_folder_that_is_missing_is_a_typed_error(tmp_path: Path, write: object) -> None:
    assert callable(write)
    with pytest.raises(MissingError) as caught:
        write(tmp_path / "none" / "file", b"")

    assert "none" in str(caught.value)
    with pytest.raises(MissingError):
        sync_file(tmp_path / "none")
    with pytest.raises(MissingError):
        sync_folder(tmp_path / "none")


def test_removing_is_durable_and_may_be_done_twice(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"")

    remove_file(tmp_path / "file")
    remove_file(tmp_path / "file")

    assert names(tmp_path) == []


def test_folders_are_made_with_those_above(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c", mode=0o700)
    make_folder(tmp_path / "a" / "b" / "c", mode=0o700)

    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o700
    replace_file(tmp_path / "file", b"")
    with pytest.raises(DiskError):
        make_folder(tmp_path / "file" / "d")


LIMITED = """
import resource, sys
from starfish_disk import replace_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    replace_file(sys.argv[1], b"x" * 100_000)
except Exception as error:
    print(type(error).__name__)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == FullError.__name__
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from starfish_disk import new_file
with new_file(sys.argv[1]) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_leftover_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert len(names(tmp_path)) == 1

    with new_file(tmp_path) as file:
        assert sweep_leftovers(tmp_path) == 1
        file.publish("file")

    assert names(tmp_path) == ["file"]
    assert sweep_leftovers(tmp_path) == 0


def test_files_are_made_while_others_sweep(tmp_path: Path) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            sweep_leftovers(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(200):
            replace_file(tmp_path / f"{number}", b"x")
    finally:
        stop.set()
        sweeper.join()

    assert len(names(tmp_path)) == 200


def test_a_lock_keeps_others_out_and_says_how_long_it_waited(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock", timeout_s=0):
        started = time.monotonic()
        with (
            pytest.raises(BusyError, match=r"0\.05 s"),
            hold_lock(tmp_path / "lock", timeout_s=0.05),
        ):
            pass
        assert 0.04 < time.monotonic() - started < 5

    with hold_lock(tmp_path / "lock", timeout_s=0):
        pass


def test_shared_locks_go_together(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path / "lock", timeout_s=0, shared=True),
        hold_lock(tmp_path / "lock", timeout_s=0, shared=True),
        pytest.raises(BusyError),
        hold_lock(tmp_path / "lock", timeout_s=0),
    ):
        pass


def test_a_lock_of_a_file_that_was_removed_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside: list[int] = []

    def enter() -> None:
        with hold_lock(path, timeout_s=10):
            inside.append(1)
            time.sleep(0.02)
            assert inside == [1]
            inside.pop()

    with hold_lock(path, timeout_s=0):
        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        path.unlink()
        time.sleep(0.02)
    for thread in threads:
        thread.join()

    assert inside == []


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))

    for _ in range(20):
        replace_file(tmp_path / "file", b"x")
        with pytest.raises(ExistsError):
            create_file(tmp_path / "file", b"x")
        with hold_lock(tmp_path / "lock", timeout_s=0):
            pass
        make_folder(tmp_path / "folder")

    assert len(list(Path("/dev/fd").iterdir())) == before
