"""The project's own history as one pack: taken from git, served, cloned over HTTP and verified.

Called with the project's folder and an empty one, by the demo or by hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from starfish_mpack_wire import LocalStore, WireClient
from starfish_mpack_wire.client import RetryPolicy
from starfish_mpack_wire.git import import_git
from starfish_mpack_wire.server import create_repo, create_token
from starfish_mpack_wire.working_tree import WorkingTree

LEFT_OUT = (
    ".git",
    ".mpack",
    ".venv",
    ".tools",
    "dist",
    "__pycache__",
    ".*_cache",
    "*.pyc",
    ".hypothesis",
)
REPOSITORY = "demo/project"


def take_history(root: Path, folder: Path) -> WorkingTree:
    """The whole history where the project is a git checkout; otherwise its files as one commit."""
    folder.mkdir()
    tree = WorkingTree.create(folder)
    copy = _bare_copy(root, folder.parent / "git")
    if copy is not None:
        result = import_git(tree.store, copy)
        print(
            f"   {result.commits} commits of git were taken in, on {len(result.branches)} branch."
        )
        return tree
    ignored = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(root, folder, ignore=ignored, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    tree.commit("the project as it is", author="demo")
    print("   The project's files were taken in as one commit.")
    return tree


def _bare_copy(root: Path, target: Path) -> Path | None:
    """The branch that is checked out, alone; ``None`` without git, or where its history is cut off."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    for command in (
        ["init", "-q", "--bare", "-b", "main", str(target)],
        ["-C", str(root), "push", "-q", str(target), "HEAD:refs/heads/main"],
    ):
        if subprocess.run([git, *command], check=False, capture_output=True).returncode:
            return None
    return target


def serve(data: Path) -> tuple[subprocess.Popen[str], str]:
    """A server of its own process, as `mpack serve` starts one, and the address that it tells."""
    command = "from starfish_mpack_wire.cli import main; main()"
    arguments = ["serve", "--data", str(data), "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True
    )
    told = server.stderr.readline() if server.stderr is not None else ""
    url = told.rpartition(" ")[2].strip()
    if not url.startswith("http://"):
        server.kill()
        raise SystemExit(f"the server of histories did not start: {told}")
    return server, url


def tell_history(root: Path, scratch: Path) -> None:
    """Carry the project's history over a wire, and say what came out."""
    scratch.mkdir(parents=True, exist_ok=True)
    data = scratch / "server"
    create_repo(data, REPOSITORY)
    token = create_token(data, REPOSITORY.partition("/")[0])
    tree = take_history(root, scratch / "work")
    server, url = serve(data)
    try:
        retries = RetryPolicy(attempts=10)
        (branch,) = tree.store.branches()
        with tree, WireClient(f"{url}/{REPOSITORY}", token=token, retries=retries) as client:
            pushed = client.push(tree.store, branch)
        print(
            f"   Pushed: {pushed.commits_written} commits, {pushed.blobs_written} blobs, {pushed.size_bytes:,} bytes in one pack."
        )
        began = time.perf_counter()
        with (
            LocalStore(scratch / "clone") as store,
            WireClient(f"{url}/{REPOSITORY}", retries=retries) as client,
        ):
            cloned = client.clone(store, branch=branch)
            took = time.perf_counter() - began
            report = store.verify()
            if report.problems or store.branches() != {branch: pushed.head}:
                raise SystemExit(f"the clone differs from the pushed history: {report.problems}")
        print(
            f"   Cloned in {took:.2f} s: {cloned.commits_written} commits. Verified: {report.snapshots} snapshots, {report.blobs} blobs, every id computed again."
        )
    finally:
        server.terminate()
        server.communicate(timeout=20)


if __name__ == "__main__":
    tell_history(Path(sys.argv[1]), Path(sys.argv[2]))
