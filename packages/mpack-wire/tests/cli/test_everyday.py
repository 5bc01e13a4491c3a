"""Everyday verbs: switch, merge, diff, show, restore, reset; and one manner for all commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

MPACK = Path(sys.executable).with_name("mpack")


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.run("init")

    def run(self, *arguments: str, status: int = 0, cwd: str = ".") -> str:
        env = {**os.environ, "MPACK_AUTHOR": "Ada", "COLUMNS": "200"}
        done = subprocess.run(
            [MPACK, *arguments],
            cwd=self.root / cwd,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        self.stderr = done.stderr
        return done.stdout

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / name).write_text(text)

    def commit(self, message: str = "m", **files: str) -> str:
        self.write(**files)
        return self.run("commit", "-m", message).strip()

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def two_branches(folder: Folder, base: dict, ours: dict, theirs: dict) -> tuple[str, str]:
    folder.commit("base", **base)
    folder.run("switch", "-c", "side")
    side = folder.commit("side", **theirs)
    folder.run("switch", "main")
    return folder.commit("main", **ours), side


def test_a_merge_brings_lines_and_files_of_both_sides_together(folder: Folder) -> None:
    text = "".join(f"line {number}\n" for number in range(12))
    main, side = two_branches(
        folder,
        {"a": text, "only": "1"},
        {"a": text.replace("line 1\n", "ours\n")},
        {"a": text.replace("line 11\n", "theirs\n"), "new": "2"},
    )
    done = json.loads(folder.run("merge", "side", "--json"))
    (newest, *_) = json.loads(folder.run("log", "--json"))

    assert folder.read("a") == text.replace("line 1\n", "ours\n").replace("line 11\n", "theirs\n")
    assert folder.read("new") == "2"
    assert (done["result"], done["commit_id"]) == ("merged", newest["commit_id"])
    assert newest["parent_ids"] == [main, side]
    assert json.loads(folder.run("status", "--json"))["clean"]
    assert folder.run("merge", "side").startswith("nothing")


def test_a_branch_that_only_moved_on_is_followed(folder: Folder) -> None:
    folder.commit(a="1")
    folder.run("switch", "-c", "side")
    side = folder.commit(a="2")
    folder.run("switch", "main")

    assert folder.run("merge", "side") == f"forward {side}\n"
    assert folder.read("a") == "2"


def test_conflicts_are_files_and_a_commit_waits_until_they_are_gone(folder: Folder) -> None:
    main, side = two_branches(
        folder, {"a": "base\n", "b": "1"}, {"a": "ours\n"}, {"a": "theirs\n", "b": "2"}
    )
    told = folder.run("merge", "side", status=4)

    assert "changed on both sides: a" in told
    assert (folder.read("a"), folder.read("b")) == ("ours\n", "2")
    assert (folder.read("a~theirs"), folder.read("a~base")) == ("theirs\n", "base\n")
    folder.run("commit", "-m", "early", status=1)
    folder.run("merge", "side", status=4)
    assert json.loads(folder.run("log", "--json"))[0]["commit_id"] == main
    (folder.root / "a~theirs").unlink()
    (folder.root / "a~base").unlink()
    folder.write(a="both\n")
    folder.run("commit")
    newest = json.loads(folder.run("log", "--json"))[0]
    assert newest["parent_ids"] == [main, side]
    assert newest["message"] == "Merge side"


def test_a_merge_that_is_given_up_leaves_the_last_commit(folder: Folder) -> None:
    main, _ = two_branches(folder, {"a": "1\n"}, {"a": "2\n"}, {"a": "3\n", "new": "x"})
    folder.run("merge", "side", status=4)
    folder.run("merge", "--abort")

    assert folder.read("a") == "2\n"
    assert sorted(path.name for path in folder.root.iterdir()) == [".mpack", "a"]
    assert json.loads(folder.run("status", "--json"))["clean"]
    assert json.loads(folder.run("log", "--json"))[0]["commit_id"] == main
    folder.run("merge", "--abort", status=1)


def test_a_file_that_one_side_removed_and_the_other_changed_is_a_conflict(folder: Folder) -> None:
    folder.commit(a="1", keep="k")
    folder.run("switch", "-c", "side")
    (folder.root / "a").unlink()
    folder.commit("gone")
    folder.run("switch", "main")
    folder.commit(a="2")
    found = json.loads(folder.run("merge", "side", "--json", status=4))

    assert (found["conflicts"], found["files"]) == (["a"], ["a~base"])
    assert folder.read("a") == "2"


def test_a_file_where_the_other_side_has_a_folder(folder: Folder) -> None:
    folder.commit(keep="k")
    folder.run("switch", "-c", "side")
    (folder.root / "x").mkdir()
    (folder.root / "x/y").write_text("theirs")
    folder.commit("folder")
    folder.run("switch", "main")
    folder.commit(x="ours")
    found = json.loads(folder.run("merge", "side", "--json", status=4))

    assert found["conflicts"] == ["x/y"]
    assert (folder.read("x"), folder.read("x~y~theirs")) == ("ours", "theirs")


def test_a_merge_starts_from_a_folder_without_changes(folder: Folder) -> None:
    two_branches(folder, {"a": "1"}, {"b": "2"}, {"c": "3"})
    folder.write(a="local")
    folder.run("merge", "side", status=4)

    assert folder.read("a") == "local"
    assert not (folder.root / "c").exists()


def test_diff_and_show_tell_lines(folder: Folder) -> None:
    first = folder.commit(a="one\ntwo\n", gone="x\n")
    (folder.root / "gone").unlink()
    second = folder.commit("second", a="one\n2\n", new="n")
    folder.write(a="one\n2\nthree\n")
    (folder.root / "b").write_bytes(b"\0\1")

    shown = folder.run("show", second)
    assert "    second\n" in shown
    assert "--- a/a\n+++ b/a\n" in shown
    assert "-two\n+2\n" in shown
    assert "+n\n\\ No newline at end of file" in shown
    assert "--- a/gone\n+++ /dev/null\n" in shown
    changes = json.loads(folder.run("diff", first, second, "--json"))
    assert [(each["change"], each["path"]) for each in changes] == [
        ("changed", "a"), ("removed", "gone"), ("new", "new")
    ]  # fmt: skip
    local = folder.run("diff")
    assert "+three\n" in local
    assert "binary files differ" in local
    assert folder.run("show", f"{first}:a") == "one\ntwo\n" == folder.run("show", f"{first[:20]}:a")
    assert folder.run("show", "main:new") == "n"
    folder.run("show", "main:nothing", status=3)


def test_control_characters_of_files_move_no_cursor(folder: Folder) -> None:
    folder.commit(a="\x1b[2J\n")

    assert "\x1b" not in folder.run("show")
    folder.write(a="\x1b[31m\n")
    assert "\x1b" not in folder.run("diff")


def test_restore_brings_back_files_and_folders_and_leaves_the_rest(folder: Folder) -> None:
    (folder.root / "d").mkdir()
    (folder.root / "d/x").write_text("1")
    first = folder.commit(a="1", b="1")
    folder.commit(a="2")
    folder.write(a="local", b="local")
    (folder.root / "d/x").unlink()
    (folder.root / "d/new").write_text("mine")

    assert folder.run("restore", "a", "x", cwd="d", status=3) == ""
    assert folder.run("restore", "../a", "x", cwd="d") == "a\nd/x\n"
    assert (folder.read("a"), folder.read("d/x"), folder.read("b")) == ("2", "1", "local")
    assert folder.read("d/new") == "mine"
    assert folder.run("restore", "a", "--source", first) == "a\n"
    assert folder.read("a") == "1"
    folder.run("restore", "nothing", status=3)
    folder.run("restore", "/etc/passwd", status=1)


def test_reset_moves_the_branch_and_with_hard_the_files(folder: Folder) -> None:
    first = folder.commit(a="1")
    folder.commit(a="2")
    folder.run("reset", first)
    assert folder.read("a") == "2"
    assert json.loads(folder.run("status", "--json"))["modified"] == ["a"]
    folder.run("reset", "--hard")
    assert folder.read("a") == "1"
    assert json.loads(folder.run("log", "--json"))[0]["commit_id"] == first


def test_switch_names_the_branch_that_is_not_there(folder: Folder) -> None:
    folder.commit(a="1")
    folder.run("switch", "nowhere", status=3)
    assert "-c makes it" in folder.stderr


def test_one_manner_for_all_commands(folder: Folder) -> None:
    from starfish_mpack_wire import __version__

    assert folder.run("--version") == f"mpack {__version__}\n"
    for command in ([], ["merge"], ["repo", "create"], ["serve"]):
        assert "Usage" in folder.run(*command, "-h")
    refused = json.loads(folder.run("log", "nothing-here", "--json", status=3))
    assert refused["error"] == "not_found"
    assert "nothing-here" in refused["detail"]
    folder.run("log", "--no-such-option", status=2)
    folder.run("push", "nowhere", "main", status=1)
