"""A git repository goes in and comes out with the same SHA-1s; checked with git's own program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("dulwich", reason="needs the extra git")
if shutil.which("git") is None:
    pytest.skip("git is not installed", allow_module_level=True)

from dulwich.objects import Commit, Tree
from dulwich.repo import Repo

from starfish_mpack_wire import GitError, LocalStore, NonFastForwardError, ObjectNotFoundError
from starfish_mpack_wire.git import export_git, import_git
from starfish_mpack_wire.working_tree import WorkingTree

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a new repository, deaf to the settings of this machine."""
    (tmp_path / "g").mkdir()
    settings = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ben",
        "GIT_COMMITTER_EMAIL": "ben@example.org",
        "GIT_AUTHOR_DATE": "1136214245 -0730",
        "GIT_COMMITTER_DATE": "1136214999 +0545",
    }

    def call(*arguments: str, at: str = "g", text: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=tmp_path / at,
            env=os.environ | settings,
            input=text,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    call("init", "-q", "-b", "main")
    return call


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tmp_path / "store") as store:
        yield store


def commit(git: Git, root: Path, message: bytes = b"message\n", **files: str) -> str:
    for name, text in files.items():
        (root / name).write_text(text)
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-F", "-", text=message)
    return git("rev-parse", "HEAD")


def test_everything_that_git_holds_comes_out_with_the_same_id(
    git: Git, store: LocalStore, tmp_path: Path
) -> None:
    root = tmp_path / "g"
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/x").write_text("x")
    (root / "run.sh").write_text("#!/bin/sh")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("../outside")
    commit(git, root, "Grüße\n\nbody\n\n".encode(), a="1", empty="")
    git("checkout", "-qb", "feature/x")
    commit(git, root, b"no newline at the end", b="2")
    git("checkout", "-q", "main")
    (root / "a").unlink()
    (root / "a").mkdir()
    (root / "a/file").write_text("a folder now")
    commit(git, root)
    git("merge", "-q", "--no-ff", "-m", "merge", "feature/x")
    git("tag", "v1")
    git("config", "i18n.commitEncoding", "ISO-8859-1")
    commit(git, root, "Größe\n".encode("latin-1"), c="3")
    git("config", "--unset", "i18n.commitEncoding")
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git("commit", "-qm", "a submodule")
    git("checkout", "-q", "--orphan", "other")
    commit(git, root, b"another root\n")

    result = import_git(store, root)
    out = export_git(store, tmp_path / "out")

    assert result.commits == out.commits == 7
    assert result.notes == out.notes == ()
    for branch in ("main", "feature/x", "other"):
        assert (
            git("rev-parse", branch, at="out") == git("rev-parse", branch) == out.branches[branch]
        )
    assert git("rev-parse", "v1", at="out") == git("rev-parse", "v1")
    git("fsck", "--strict", at="out")
    assert not store.verify().problems
    merge = store.commit(result.tags["v1"])
    assert len(merge["parent_ids"]) == 2
    assert merge["author"] == "Ada <ada@example.org>"
    assert merge["committed_at"] == "2006-01-02T21:01:39+05:45"
    assert store.tree_of(result.branches["main"]).get("link") is not None


def test_only_what_is_new_comes_in_the_second_time(
    git: Git, store: LocalStore, tmp_path: Path
) -> None:
    root = tmp_path / "g"
    for number in range(3):
        commit(git, root, a=str(number))
    assert import_git(store, root).commits == 3
    assert import_git(store, root).commits == 0
    export_git(store, tmp_path / "out")
    head = commit(git, root, a="more")

    assert import_git(store, root).commits == 1
    out = export_git(store, tmp_path / "out")

    assert (out.commits, out.branches) == (1, {"main": head})


def test_one_history_gives_one_id_wherever_it_is_imported(git: Git, tmp_path: Path) -> None:
    commit(git, tmp_path / "g", a="1")
    heads = []
    for name in ("one", "two"):
        with LocalStore(tmp_path / name) as store:
            heads.append(import_git(store, tmp_path / "g").branches)

    assert heads[0] == heads[1]


def test_a_signed_commit_keeps_its_signature(git: Git, store: LocalStore, tmp_path: Path) -> None:
    commit(git, tmp_path / "g", a="1")
    raw = subprocess.run(
        ["git", "cat-file", "commit", "HEAD"], cwd=tmp_path / "g", capture_output=True, check=True
    ).stdout
    header, _, message = raw.partition(b"\n\n")
    signed = (
        header
        + b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\n"
        + message
    )
    head = git("hash-object", "-t", "commit", "-w", "--stdin", text=signed)
    git("update-ref", "refs/heads/main", head)

    import_git(store, tmp_path / "g")

    assert export_git(store, tmp_path / "out").branches == {"main": head}


def test_odd_commits_come_out_as_they_were(store: LocalStore, tmp_path: Path) -> None:
    """No newline, bytes that are not a text, a time zone that no clock has, a time before all clocks."""
    (tmp_path / "odd").mkdir()
    repo = Repo.init_bare(str(tmp_path / "odd"))
    tree = Tree()
    repo.object_store.add_object(tree)
    head = None
    for person, message in (
        (b"author A <a> 1 +0000\ncommitter A <a> 1 +9999", b"\xff\xfe no text"),
        (b"author  <> -5 -0000\ncommitter  <> -5 -0000", b""),
        (b"author A <a> 99999999999999 +0000\ncommitter A <a> 99999999999999 +0000", b"late\n"),
    ):
        parent = b"parent " + head + b"\n" if head else b""
        raw = b"tree " + tree.id + b"\n" + parent + person + b"\n\n" + message
        commit = Commit.from_string(raw)
        repo.object_store.add_object(commit)
        head = commit.id
    repo.refs[b"refs/heads/main"] = head  # type: ignore[index]
    repo.close()

    import_git(store, tmp_path / "odd")

    assert export_git(store, tmp_path / "out").branches == {"main": (head or b"").decode()}


def test_commits_made_here_go_out_and_keep_modes(git: Git, tmp_path: Path) -> None:
    root = tmp_path / "g"
    (root / "run.sh").write_text("#!/bin/sh")
    (root / "run.sh").chmod(0o755)
    commit(git, root, a="1")
    (tmp_path / "w").mkdir()
    with WorkingTree.create(tmp_path / "w") as tree:
        import_git(tree.store, root)
        tree.write_head()
        (tree.root / "a").write_text("2")
        made = tree.commit("made here", author="Cleo <cleo@example.org>")
        assert made is not None

        out = export_git(tree.store, tmp_path / "out")

        assert (
            git("log", "-1", "--format=%an|%ae|%s", at="out") == "Cleo|cleo@example.org|made here"
        )
        assert git("ls-tree", "HEAD", "run.sh", at="out").startswith("100755")
        assert git("show", "HEAD:a", at="out") == "2"
        git("fsck", "--strict", at="out")
        git("pull", "-q", str(tmp_path / "out"), "main")
        assert git("rev-parse", "HEAD") == out.branches["main"]
        again = import_git(tree.store, root)
        assert again.commits == 0, "what went out is known when it comes back"
        assert tree.head() == made["commit_id"]


def test_branches_that_went_apart_are_not_overwritten(
    git: Git, store: LocalStore, tmp_path: Path
) -> None:
    root = tmp_path / "g"
    first = commit(git, root, a="1")
    commit(git, root, a="2")
    kept = import_git(store, root).branches["main"]
    export_git(store, tmp_path / "out")
    git("reset", "-q", "--hard", first)
    commit(git, root, a="another way")

    with pytest.raises(NonFastForwardError):
        import_git(store, root)
    assert store.branches() == {"main": kept}
    moved = import_git(store, root, force=True).branches["main"]
    assert store.branches() == {"main": moved}
    with pytest.raises(GitError, match="would be lost"):
        export_git(store, tmp_path / "out")
    export_git(store, tmp_path / "out", force=True)


def test_a_store_with_a_hole_is_not_exported(git: Git, store: LocalStore, tmp_path: Path) -> None:
    commit(git, tmp_path / "g", a="1")
    import_git(store, tmp_path / "g")
    for pack in (store.path / "packs").iterdir():
        pack.unlink()

    with LocalStore(store.path) as damaged, pytest.raises(ObjectNotFoundError):
        export_git(damaged, tmp_path / "out")


def test_a_folder_that_is_not_a_repository_is_refused(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not a git repository"):
        import_git(store, tmp_path)
