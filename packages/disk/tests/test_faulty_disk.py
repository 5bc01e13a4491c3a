"""What returned survives a power cut at any call, and no failure leaves half a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starfish_disk import (
    SafeFolder,
    create_file,
    hold_lock,
    make_folder,
    remove_file,
    replace_file,
    sweep_leftovers,
)
from starfish_disk.errors import BusyError, DiskError, FullError
from starfish_disk.testing import FaultyDisk, PowerCut

OLD, NEW = b"old " * 20, b"new!" * 30


def finished(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if not each.name.endswith(".tmp"))


def cut_at_each_call(
    tmp_path: Path, seed: int, use: Callable[[Path], object], check: Callable[[Path, bool], None]
) -> None:
    for call in range(100):
        root = tmp_path / f"{seed}-{call}"
        root.mkdir()
        (root / "file").write_bytes(OLD)
        disk = FaultyDisk(root, seed)
        disk.cut_at(call)
        with disk.installed():
            try:
                use(root)
                returned = True
            except PowerCut:
                returned = False
        disk.cut_power()
        check(root, returned)
        sweep_leftovers(root)
        assert finished(root) == sorted(each.name for each in root.iterdir())
        if returned:
            return
    raise AssertionError("it never returned")


@pytest.mark.parametrize("seed", range(20))
def test_a_replaced_file_is_the_old_or_the_new_and_the_new_when_it_returned(
    tmp_path: Path, seed: int
) -> None:
    def check(root: Path, returned: bool) -> None:  # noqa: FBT001
        assert (root / "file").read_bytes() in ((NEW,) if returned else (OLD, NEW))

    cut_at_each_call(tmp_path, seed, lambda root: replace_file(root / "file", NEW), check)


@pytest.mark.parametrize("seed", range(20))
def test_a_new_file_is_whole_or_absent(tmp_path: Path, seed: int) -> None:
    def check(root: Path, returned: bool) -> None:  # noqa: FBT001
        assert finished(root) in ([["file", "x"]] if returned else [["file"], ["file", "x"]])
        assert not (root / "x").exists() or (root / "x").read_bytes() == NEW

    cut_at_each_call(tmp_path, seed, lambda root: create_file(root / "x", NEW), check)


@pytest.mark.parametrize("seed", range(10))
def test_a_removed_file_stays_away(tmp_path: Path, seed: int) -> None:
    def check(root: Path, returned: bool) -> None:  # noqa: FBT001
        assert not (returned and (root / "file").exists())

    cut_at_each_call(tmp_path, seed, lambda root: remove_file(root / "file"), check)


@pytest.mark.parametrize("seed", range(10))
def test_folders_and_files_below_them_are_there_when_it_returned(tmp_path: Path, seed: int) -> None:
    def by_path(root: Path) -> None:
        make_folder(root / "a" / "b")
        replace_file(root / "a" / "b" / "x", NEW)

    def by_descriptor(root: Path) -> None:
        with SafeFolder(root) as folder:
            folder.write("a/b/x", NEW)

    def check(root: Path, returned: bool) -> None:  # noqa: FBT001
        path = root / "a" / "b" / "x"
        assert not returned or path.read_bytes() == NEW
        assert not path.exists() or path.read_bytes() == NEW

    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    cut_at_each_call(tmp_path / "1", seed, by_path, check)
    cut_at_each_call(tmp_path / "2", seed, by_descriptor, check)


def test_the_disk_finds_a_missing_sync(tmp_path: Path) -> None:
    class Careless(FaultyDisk):
        def sync(self, descriptor: int) -> None:
            """Forget to."""

    lost = 0
    for seed in range(20):
        root = tmp_path / f"{seed}"
        root.mkdir()
        (root / "file").write_bytes(OLD)
        disk = Careless(root, seed)
        with disk.installed():
            replace_file(root / "file", NEW)
        disk.cut_power()
        lost += (root / "file").read_bytes() != NEW

    assert lost > 5


ALL = {
    "no space": 0.05,
    "no descriptors": 0.05,
    "interrupted": 0.05,
    "input/output": 0.05,
    "short": 0.5,
    "clock jump": 0.2,
}


class FilesOnAFaultyDisk(RuleBasedStateMachine):
    """Files against a model: each name has one of the values that may be there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.disk = FaultyDisk(self.root, 1, rates=ALL)  # type: ignore[arg-type]
        self.model: dict[str, set[bytes | None]] = {}
        self.descriptors = len(list(Path("/dev/fd").iterdir()))

    def possible(self, name: str) -> set[bytes | None]:
        return self.model.setdefault(name, {None})

    @rule(name=st.sampled_from("ab"), value=st.binary(max_size=70))
    def replace(self, name: str, value: bytes) -> None:
        self.attempt(name, value, lambda: replace_file(self.root / name, value))

    @rule(name=st.sampled_from("ab"), value=st.binary(max_size=70))
    def create(self, name: str, value: bytes) -> None:
        self.attempt(name, value, lambda: create_file(self.root / name, value))

    @rule(name=st.sampled_from("ab"))
    def remove(self, name: str) -> None:
        self.attempt(name, None, lambda: remove_file(self.root / name))

    @rule(name=st.sampled_from("ab"))
    def read(self, name: str) -> None:
        with suppress(DiskError), self.disk.installed(), SafeFolder(self.root) as folder:
            value = None if folder.status(name) is None else folder.read(name)
            assert value in self.possible(name)

    @rule()
    def lock(self) -> None:
        with (
            suppress(DiskError),
            self.disk.installed(),
            hold_lock(self.root / "lock", timeout_s=1),
        ):
            pass

    @rule(calls=st.integers(0, 12), name=st.sampled_from("ab"), value=st.binary(max_size=70))
    def cut(self, calls: int, name: str, value: bytes) -> None:
        self.disk.cut_at(self.disk.calls + calls)
        with suppress(PowerCut):
            self.attempt(name, value, lambda: replace_file(self.root / name, value))
        self.disk.cut_power()

    def attempt(self, name: str, value: bytes | None, work: Callable[[], object]) -> None:
        # Until it returns, the old value and the new one are both possible.
        before = set(self.possible(name))
        self.model[name] = before | {value}
        try:
            with self.disk.installed():
                work()
        except DiskError:
            return
        self.model[name] = {value}

    @invariant()
    def each_file_has_a_value_that_it_may_have(self) -> None:
        for name, values in self.model.items():
            path = self.root / name
            assert (path.read_bytes() if path.exists() else None) in values
        assert len(list(Path("/dev/fd").iterdir())) == self.descriptors

    def teardown(self) -> None:
        sweep_leftovers(self.root)
        assert {path.name for path in self.root.iterdir()} <= {"a", "b", "lock"}
        self.folder.cleanup()


TestFilesOnAFaultyDisk = FilesOnAFaultyDisk.TestCase


@given(seed=st.integers(0, 1000))
def test_short_reads_and_writes_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    with FaultyDisk(root, seed, rates={"short": 0.9}).installed(), SafeFolder(root) as folder:
        replace_file(root / "file", NEW)
        assert folder.read("file") == NEW


def test_a_disk_without_space_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with FaultyDisk(tmp_path, rates={"no space": 1}).installed(), pytest.raises(FullError):
        replace_file(tmp_path / "file", NEW)

    assert (tmp_path / "file").read_bytes() == OLD


def test_a_clock_that_jumps_ends_a_wait_and_does_not_prolong_it(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path, rates={"clock jump": 0.5})
    with (
        hold_lock(tmp_path / "lock", timeout_s=0),
        disk.installed(),
        pytest.raises(BusyError),
        hold_lock(tmp_path / "lock", timeout_s=1000),
    ):
        pass

    times = [disk.time_ns() for _ in range(50)]
    assert times != sorted(times)
