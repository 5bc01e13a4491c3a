"""Nothing outside the folder is ever read or written, and a file is read whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_disk import _system
from starfish_disk.errors import (
    ClosedError,
    DiskError,
    ExistsError,
    FileChangedError,
    MissingError,
    PlaceChangedError,
    UnavailableError,
    UnsafePathError,
)
from starfish_disk.safe_folder import Entry, SafeFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return tmp_path / "root"


@pytest.fixture
def folder(root: Path) -> Iterator[SafeFolder]:
    with SafeFolder(root) as folder:
        yield folder


def test_files_are_written_listed_read_and_removed(root: Path, folder: SafeFolder) -> None:
    folder.write("b/c/one", b"1")
    folder.write("b/two", b"2")
    folder.write("a", b"3")
    (root / "b" / "link").symlink_to("two")

    assert folder.read("b/c/one") == b"1"
    assert folder.entries("b") == [
        Entry("b/c", "folder"),
        Entry("b/link", "link"),
        Entry("b/two", "file"),
    ]
    assert [entry.path for entry in folder.walk()] == ["a", "b/c/one", "b/link", "b/two"]
    assert (root / "a").stat().st_mode & 0o777 == 0o600
    assert folder.remove("b/link")
    assert not folder.remove("b/link")
    assert not folder.remove("none/there")
    assert not folder.remove_empty_folder("b")
    assert folder.remove("b/c/one")
    assert folder.remove_empty_folder("b/c")
    assert folder.remove_empty_folder("b/c")
    assert folder.status("b/c") is None
    status = folder.status("a")
    assert status is not None
    assert status.st_size == 1


def test_a_file_that_must_be_new_does_not_take_a_name(root: Path, folder: SafeFolder) -> None:
    folder.write("a", b"1", replace=False)

    with pytest.raises(ExistsError):
        folder.write("a", b"2", replace=False)

    assert folder.read("a") == b"1"
    assert [path.name for path in root.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "path", ["../outside/secret", "/etc/passwd", "a/../../x", ".", "..", "a//b", "a/", "", "a\0"]
)
def test_a_path_that_leads_out_or_has_odd_parts_is_refused(
    root: Path, folder: SafeFolder, path: str
) -> None:
    for use in (folder.read, folder.status, folder.remove):
        with pytest.raises(UnsafePathError):
            use(path)
    with pytest.raises(UnsafePathError):
        folder.write(path, b"")

    assert list(root.iterdir()) == []
    assert (root.parent / "outside" / "secret").read_bytes() == b"secret"


def test_no_link_is_followed(root: Path, folder: SafeFolder) -> None:
    (root / "out").symlink_to(root.parent / "outside")
    (root / "file").symlink_to(root.parent / "outside" / "secret")

    for path in ("out/secret", "file"):
        with pytest.raises(UnsafePathError, match="link"):
            folder.read(path)
    with pytest.raises(UnsafePathError):
        folder.write("out/new", b"")
    with pytest.raises(UnsafePathError):
        folder.remove("out/secret")
    folder.write("file", b"replaces the link")

    assert (root.parent / "outside" / "secret").read_bytes() == b"secret"
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["secret"]
    assert folder.read("file") == b"replaces the link"


def test_a_folder_that_becomes_a_link_while_it_is_used_lets_nobody_out(
    root: Path, folder: SafeFolder
) -> None:
    (root / "real").mkdir()
    (root / "real" / "secret").write_bytes(b"inside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "real").rename(root / "away")
            try:
                (root / "real").symlink_to(root.parent / "outside")
            except FileExistsError:  # a write made the folder that was away
                shutil.rmtree(root / "real")
            else:
                (root / "real").unlink()
            (root / "away").rename(root / "real")

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes] = set()
    try:
        for _ in range(300):
            try:
                seen.add(folder.read("real/secret"))
                folder.write("real/new", b"")
            except DiskError:
                continue
    finally:
        stop.set()
        swapper.join()

    assert seen <= {b"inside"}
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["secret"]


def test_what_is_not_a_regular_file_is_refused_and_does_not_hang(
    root: Path, folder: SafeFolder
) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()

    for name in ("pipe", "folder"):
        with pytest.raises(UnsafePathError, match="regular file"):
            folder.read(name)
    with pytest.raises(UnsafePathError):
        folder.entries("pipe")
    with pytest.raises(MissingError):
        folder.read("none")
    with pytest.raises(MissingError):
        list(folder.walk("none"))
    assert folder.entries() == [Entry("folder", "folder"), Entry("pipe", "other")]


class ShortReads(_system.SystemCalls):
    def read(self, descriptor: int, size: int) -> bytes:
        return super().read(descriptor, min(size, 7))


def test_a_short_read_is_not_the_end(folder: SafeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1000)
    folder.write("a", data)
    monkeypatch.setattr(_system, "calls", ShortReads())

    assert folder.read("a") == data


@pytest.mark.parametrize("change", ["grow", "shrink", "same length"])
def test_a_file_that_changes_while_it_is_read_is_said_so(
    root: Path, folder: SafeFolder, change: str
) -> None:
    folder.write("a", bytes(100))
    os.utime(root / "a", ns=(1, 1))

    def read_and_change() -> None:
        with folder.open_file("a") as file:
            for number, _ in enumerate(file.chunks(10)):
                if number == 3:
                    length = {"grow": 200, "shrink": 35, "same length": 100}[change]
                    (root / "a").write_bytes(b"x" * length)

    with pytest.raises(FileChangedError):
        read_and_change()


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(folder: SafeFolder) -> None:
    folder.write("a", bytes(100))

    with folder.open_file("a") as file:
        chunks = file.chunks(10)
        first = next(chunks)
        folder.write("a", b"new")
        assert first + b"".join(chunks) == bytes(100)
    assert folder.read("a") == b"new"


def test_a_file_that_is_too_long_is_not_read(folder: SafeFolder) -> None:
    folder.write("a", bytes(100))

    with pytest.raises(UnavailableError, match="100 bytes"):
        folder.read("a", max_bytes=99)
    assert folder.read("a", max_bytes=100) == bytes(100)


def test_the_root_may_be_reached_through_a_link_and_must_stay(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    with SafeFolder(link) as folder:
        folder.write("a", b"1")
        folder.check_in_place()
        link.unlink()
        with pytest.raises(PlaceChangedError):
            folder.check_in_place()
    with pytest.raises(ClosedError):
        folder.read("a")
    with pytest.raises(MissingError):
        SafeFolder(root / "none")


def test_descriptors_do_not_leak(root: Path, folder: SafeFolder) -> None:
    (root / "link").symlink_to("x")
    before = len(list(Path("/dev/fd").iterdir()))

    for _ in range(20):
        folder.write("a/b/c", b"")
        folder.read("a/b/c")
        for path in ("link", "link/x", "a/none", "a"):
            with pytest.raises(DiskError):
                folder.read(path)
        list(folder.walk())

    assert len(list(Path("/dev/fd").iterdir())) == before


@given(st.text(alphabet="a./\0é", max_size=8))
def test_any_path_stays_inside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    top = tmp_path_factory.mktemp("top")
    (top / "root").mkdir()
    with SafeFolder(top / "root") as folder:
        try:
            folder.write(path, b"data")
        except UnsafePathError:
            assert list((top / "root").iterdir()) == []
        else:
            assert folder.read(path) == b"data"
            assert (top / "root" / path).read_bytes() == b"data"
    assert [found.name for found in top.iterdir()] == ["root"]
