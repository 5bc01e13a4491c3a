"""The file of a key ring keeps what every file of ours keeps, and a destroyed key is nowhere in it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    SqliteFileContract,
)
from starfish_watcher import KeyRing, PayloadErasedError, StoreClosed, WatcherError
from starfish_watcher._model.payload import plain_payload, sealed_payload
from starfish_watcher.testing.samples import in_process


class Names:
    """A key ring as the contracts of files know a store: it keeps names of entities."""

    def __init__(self, path: Path) -> None:
        self.ring = KeyRing(path)
        self.path = path

    def write(self, name: str) -> None:
        self.ring.seal(name, b"\x01")

    def names(self) -> Iterable[str]:
        return self.ring.entities()

    def close(self) -> None:
        self.ring.close()


class OnKeyRing:
    error = WatcherError

    @pytest.fixture
    def open_store(self) -> type[Names]:
        return Names


class TestSqliteFile(OnKeyRing, SqliteFileContract): ...


class TestFork(OnKeyRing, ForkContract): ...


class TestFullDisk(OnKeyRing, FullDiskContract): ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


def test_a_destroyed_key_is_not_in_the_files(path: Path) -> None:
    with KeyRing(path) as ring:
        for number in range(50):
            ring.seal(f"e{number}", b"\x01")
        with closing(sqlite3.connect(path)) as connection:
            (key,) = connection.execute("SELECT key FROM keys WHERE entity = 'e7'").fetchone()

        assert ring.destroy("e7")
        assert not ring.destroy("e7")

        left = [file for file in path.parent.iterdir() if key in file.read_bytes()]
        assert left == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_process_notices_that_a_key_was_destroyed(path: Path) -> None:
    with KeyRing(path) as ring:
        sealed = sealed_payload(ring.seal("a", b"\x01"))
        assert plain_payload(sealed) == b"\x01"
        other = in_process(f"KeyRing({str(path)!r})", "store.destroy('a'); store.close()")
        assert other.communicate(timeout=20)[1] == ""

        with pytest.raises(PayloadErasedError, match="its key was destroyed"):
            plain_payload(sealed)


def test_two_handles_seal_alike(path: Path) -> None:
    with KeyRing(path) as ring, KeyRing(path) as other:
        assert ring.seal("a", b"\x01") == other.seal("a", b"\x01")
        assert ring.seal("a", b"\x01") != ring.seal("b", b"\x01")
        sealed = sealed_payload(ring.seal("a", b"\x01"))
        other.close()
        assert plain_payload(sealed) == b"\x01"
    with pytest.raises(PayloadErasedError, match="not open in this process"):
        plain_payload(sealed)
    with pytest.raises(StoreClosed):
        ring.seal("a", b"\x01")


def test_a_payload_that_was_changed_does_not_open(path: Path) -> None:
    with KeyRing(path) as ring:
        sealed = bytearray(ring.seal("a", b"\x01"))
        sealed[-1] ^= 1
        with pytest.raises(PayloadErasedError, match="does not fit the key"):
            plain_payload(sealed_payload(bytes(sealed)))
