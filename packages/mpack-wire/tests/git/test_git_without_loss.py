"""The law: import, then export, gives every ref the id it had, whatever a git of some age has written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("dulwich", reason="needs the extra git")
if shutil.which("git") is None:
    pytest.skip("git is not installed", allow_module_level=True)

from starfish_mpack_wire import (
    GitError,
    LocalStore,
    apply_mpack,
    commit_id,
)
from starfish_mpack_wire._store.packing import plan_for, write_pack
from starfish_mpack_wire.git import export_git, import_git
from starfish_mpack_wire.working_tree import WorkingTree

SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": "1500000000 +0530" for who in ("AUTHOR", "COMMITTER")},
}
STREAM = b"""commit refs/heads/main
committer Ada <ada@example.org> 1500000000 +0000
data 3
one
M 100644 inline dir/a.txt
data 2
a

M 100755 inline run.sh
data 3
#!

M 120000 inline link
data 9
dir/a.txt
M 160000 1234567890123456789012345678901234567890 sub

"""


class Git:
    """A bare repository with one commit on main."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
        self("fast-import", "--quiet", data=STREAM)

    def __call__(self, *arguments: str, data: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            input=data,
            env=os.environ | SETTINGS,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode("utf-8", "replace").strip()

    def tree(self, *entries: tuple[bytes, bytes, str]) -> str:
        raw = b"".join(
            b"%s %s\0%s" % (mode, name, bytes.fromhex(self("rev-parse", of)))
            for mode, name, of in entries
        )
        return self("hash-object", "-t", "tree", "--literally", "-w", "--stdin", data=raw)

    def commit(self, tree: str) -> None:
        made = self("commit-tree", tree, "-p", "main", "-m", "m")
        later = self("commit-tree", "main^{tree}", "-p", made, "-m", "later")
        self("update-ref", "refs/heads/main", later)

    def object(self, kind: str, data: bytes) -> str:
        return self("hash-object", "-t", kind, "--literally", "-w", "--stdin", data=data)

    def tag(self, name: str, of: str, extra: bytes = b"") -> None:
        sha = self("rev-parse", of).encode()
        kind = self("cat-file", "-t", of).encode()
        text = b"object %s\ntype %s\ntag %s\ntagger Ada <a@b> 1500000001 +0000\n\nnotes\n%s" % (
            sha,
            kind,
            name.encode(),
            extra,
        )
        self("update-ref", f"refs/tags/{name}", self.object("tag", text))


def refs_of(path: Path) -> str:
    return subprocess.run(
        ["git", "-C", path, "for-each-ref"], capture_output=True, check=True, text=True
    ).stdout


def objects_of(path: Path) -> set[str]:
    listed = subprocess.run(
        ["git", "-C", path, "rev-list", "--all", "--objects"], capture_output=True, check=True
    ).stdout
    return {line.split(b" ")[0].decode() for line in listed.splitlines()}


def an_octopus(git: Git) -> None:
    tips = [git("commit-tree", "main^{tree}", "-p", "main", "-m", str(n)) for n in range(5)]
    parents = [each for tip in tips for each in ("-p", tip)]
    git("update-ref", "refs/heads/octopus", git("commit-tree", "main^{tree}", *parents, "-m", "8"))


def names_of_any_bytes(git: Git) -> None:
    names = [b"caf\xe9", b"back\\slash", b"\xed\xa0\x80", "\uf741 private".encode(), b"~^:"]
    git.commit(git.tree(*((b"100644", name, "main:run.sh") for name in sorted(names))))


def a_parent_twice(git: Git) -> None:
    tree, head = git("rev-parse", "main^{tree}"), git("rev-parse", "main")
    text = f"tree {tree}\nparent {head}\nparent {head}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nm"
    git("update-ref", "refs/heads/twice", git.object("commit", text.encode()))


ODDITIES: dict[str, Callable[[Git], object]] = {
    "padded mode of a folder": lambda git: git.commit(git.tree((b"040000", b"dir", "main:dir"))),
    "group bit": lambda git: git.commit(git.tree((b"100664", b"z", "main:run.sh"))),
    "another order": lambda git: git.commit(
        git.tree((b"100644", b"z", "main:run.sh"), (b"40000", b"dir", "main:dir"))
    ),
    "annotated tag": lambda git: git.tag("v1", "main"),
    "signed tag": lambda git: git.tag("v1", "main", b"-----BEGIN PGP SIGNATURE-----\nAA\n"),
    "tag of a tag": lambda git: (git.tag("v1", "main"), git.tag("v2", "v1")),
    "tag of a tree": lambda git: git("tag", "tree", "main^{tree}"),
    "annotated tag of a blob": lambda git: git.tag("blob", "main:run.sh"),
    "notes": lambda git: git("notes", "add", "-m", "seen", "main"),
    "another ref": lambda git: git(
        "update-ref", "refs/pull/1/head", git("commit-tree", "main^{tree}", "-m", "elsewhere")
    ),
    "a name that is not allowed here": lambda git: git(
        "update-ref", "refs/heads/" + "x" * 201, "main"
    ),
    "octopus": an_octopus,
    "names of any bytes": names_of_any_bytes,
    "a parent twice": a_parent_twice,
}


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "g")


def carried(git: Git, tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store:
        import_git(store, git.path)
        export_git(store, tmp_path / "out")
        assert not store.verify().problems
    assert refs_of(tmp_path / "out") == refs_of(git.path)
    assert objects_of(tmp_path / "out") == objects_of(git.path)


@pytest.mark.parametrize("name", ODDITIES)
def test_each_oddity_alone_comes_out_with_the_same_ids(name: str, git: Git, tmp_path: Path) -> None:
    ODDITIES[name](git)

    carried(git, tmp_path)


def test_all_oddities_together_come_out_with_the_same_ids(git: Git, tmp_path: Path) -> None:
    for make in ODDITIES.values():
        make(git)

    carried(git, tmp_path)


def test_what_comes_later_is_carried_as_well(git: Git, tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store:
        for make in ODDITIES.values():
            import_git(store, git.path)
            export_git(store, tmp_path / "out", force=True)
            make(git)
        import_git(store, git.path, force=True)
        export_git(store, tmp_path / "out", force=True)
    assert refs_of(tmp_path / "out") == refs_of(git.path)


def test_an_export_is_a_function_of_the_store(git: Git, tmp_path: Path) -> None:
    for make in ODDITIES.values():
        make(git)
    (tmp_path / "w").mkdir()
    with WorkingTree.create(tmp_path / "w") as tree:
        import_git(tree.store, git.path)
        tree.write_head()
        export_git(tree.store, tmp_path / "each.git")
        for number in range(3):
            (tmp_path / "w/own").write_text(str(number))
            assert tree.commit(f"own {number}", author="Ada <ada@example.org>") is not None
            export_git(tree.store, tmp_path / "each.git")
        export_git(tree.store, tmp_path / "once.git")
        plan = plan_for(tree.store, tree.store.branches().values())
        write_pack(tree.store, plan, tmp_path / "pack")
        with LocalStore(tmp_path / "copy") as copy:
            apply_mpack(copy, tmp_path / "pack")
            for name, at in tree.store.branches().items():
                copy.move_branch(name, at, expected=None)
            for name, at in tree.store.tags().items():
                copy.move_tag(name, at)
            export_git(copy, tmp_path / "copy.git")

    once = refs_of(tmp_path / "once.git")
    assert refs_of(tmp_path / "each.git") == once
    assert refs_of(tmp_path / "copy.git") == once


def test_without_the_raw_objects_an_export_says_so_and_moves_nothing(
    git: Git, tmp_path: Path
) -> None:
    ODDITIES["another order"](git)
    with LocalStore(tmp_path / "store") as store:
        import_git(store, git.path)
        store.move_branch("git-import", None, expected=store.branches()["git-import"])

        with pytest.raises(GitError, match=r"has the tree .* in git"):
            export_git(store, tmp_path / "out")
        assert refs_of(tmp_path / "out") == ""
        assert export_git(store, tmp_path / "out", lossy=True).notes


def test_modes_far_from_their_parent_stay(git: Git, tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store:
        import_git(store, git.path)
        model = store.commit(store.branches()["main"])
        for branch in range(70):
            record = {
                **model,
                "branch": "main",
                "message": str(branch),
                "parent_ids": [model["commit_id"]],
                "metadata": {},
            }
            record["commit_id"] = commit_id(record)
            from starfish_mpack_wire import build_mpack

            apply_mpack(store, build_mpack([record], [], []))  # type: ignore[list-item]
            store.move_branch(f"b{branch}", record["commit_id"], expected=None)
        export_git(store, tmp_path / "out")
    out = Git.__new__(Git)
    out.path = tmp_path / "out"
    trees = {out("rev-parse", f"b{branch}^{{tree}}") for branch in range(70)}
    assert trees == {git("rev-parse", "main^{tree}")}
