"""The `mpack` command as scripts use it: its output, its exit status, its files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
pytest.importorskip("uvicorn", reason="needs the extra cli")

from starfish_mpack_wire import LocalStore, MPackError  # noqa: E402 - only with the extra
from starfish_mpack_wire.cli._main import app  # noqa: E402

MPACK = [sys.executable, "-c", "from starfish_mpack_wire.cli import main; main()"]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder and gives its standard output; errors are raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPACK_AUTHOR", "Ada <ada@example.org>")
    monkeypatch.delenv("MPACK_TOKEN", raising=False)

    def call(command: str, *, at: str | Path = ".", status: int = 0) -> str:
        monkeypatch.chdir(tmp_path / at)
        result = typer_testing.CliRunner().invoke(app, shlex.split(command))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return str(result.stdout)

    return call


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_history_is_made_and_listed_newest_first(run: Run, tmp_path: Path) -> None:
    run("init work")
    assert json.loads(run("log --json", at="work")) == []
    ids = []
    for number in range(3):
        write(tmp_path / "work", a=str(number))
        ids.append(run(f"commit -m 'number {number}'", at="work").strip())

    records = json.loads(run("log --json", at="work"))

    assert [record["commit_id"] for record in records] == ids[::-1]
    assert records[0]["message"] == "number 2"
    assert records[0]["author"] == "Ada <ada@example.org>"
    assert records[0]["branch"] == "main"
    assert "number 2" in run("log -n 1", at="work")
    assert json.loads(run("status --json", at="work"))["clean"] is True
    assert run("verify", at="work") == ""
    with pytest.raises(MPackError, match="nothing changed"):
        run("commit -m again", at="work")


@pytest.mark.network
def test_push_and_clone_over_http(
    run: Run, tmp_path: Path, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live_server.new_repo()
    run("init work")
    write(tmp_path / "work", a="1")
    head = run("commit -m first", at="work").strip()
    run(f"remote add origin {url}", at="work")
    with pytest.raises(MPackError):
        run("push origin main", at="work")
    monkeypatch.setenv("MPACK_TOKEN", token)
    run("push origin main", at="work")
    monkeypatch.delenv("MPACK_TOKEN")

    run(f"clone {url} copy")

    assert (tmp_path / "copy/a").read_text() == "1"
    assert json.loads(run("log --json", at="copy"))[0]["commit_id"] == head
    assert json.loads(run("remote list --json", at="copy")) == {"origin": url}
    assert json.loads(run("status --json", at="copy"))["clean"] is True
    write(tmp_path / "work", a="2", b="new")
    run("commit -m second", at="work")
    monkeypatch.setenv("MPACK_TOKEN", token)
    assert json.loads(run("push --json", at="work"))["commits_written"] == 1
    assert json.loads(run("pull --json", at="copy"))["moved"] is True
    assert (tmp_path / "copy/b").read_text() == "new"
    write(tmp_path / "copy", a="mine")
    run("commit -m mine", at="copy")
    write(tmp_path / "work", a="theirs")
    run("commit -m theirs", at="work")
    run("push", at="work")
    with pytest.raises(MPackError, match="not an ancestor"):
        run("pull", at="copy")
    with pytest.raises(MPackError, match="not an ancestor"):
        run("push", at="copy")
    run("push --force", at="copy")
    with pytest.raises(MPackError, match="not empty"):
        run(f"clone {url} copy")


@pytest.mark.network
def test_a_clone_that_fails_leaves_no_folder(run: Run, tmp_path: Path, live_server: Any) -> None:
    with pytest.raises(MPackError):
        run(f"clone {live_server.url}/nobody/nothing copy")

    assert not (tmp_path / "copy").exists()


@pytest.mark.network
def test_a_clone_that_was_killed_is_gone_on_with(
    run: Run, tmp_path: Path, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live_server.new_repo()
    run("init work")
    for number in range(20):
        write(tmp_path / "work", **{f"f{number}": str(number)})
    run("commit -m first", at="work")
    monkeypatch.setenv("MPACK_TOKEN", token)
    run(f"remote add origin {url}", at="work")
    run("push", at="work")
    with LocalStore(tmp_path / "copy/.mpack") as store:
        store.change_settings(lambda settings: {"cloning": url})
    write(tmp_path / "copy", f3="3")  # written before the kill

    run(f"clone {url} copy")

    assert (tmp_path / "copy/f19").read_text() == "19"
    assert json.loads(run("status --json", at="copy"))["clean"] is True


def test_branches_checkout_tags_and_bundles(run: Run, tmp_path: Path) -> None:
    run("init work")
    write(tmp_path / "work", a="1")
    first = run("commit -m first", at="work").strip()
    run("checkout -b side", at="work")
    write(tmp_path / "work", a="2")
    second = run("commit -m second", at="work").strip()
    run("tag v1 main", at="work")

    run("checkout main", at="work")
    assert (tmp_path / "work/a").read_text() == "1"
    listed = json.loads(run("branch --json", at="work"))
    assert listed == {"current": "main", "branches": {"main": first, "side": second}}
    assert json.loads(run("tag --json", at="work")) == {"v1": first}
    run("bundle create ../all.mpack", at="work")
    run("init other")
    assert json.loads(run("bundle verify --json ../all.mpack", at="other"))["tags"] == {"v1": first}
    run("bundle unbundle ../all.mpack", at="other")
    run("checkout side", at="other")
    assert (tmp_path / "other/a").read_text() == "2"
    assert json.loads(run("repack --json", at="work"))["packs_after"] == 1
    assert json.loads(run("gc --json", at="work"))["packs_after"] == 1
    run("branch -d side", at="work")
    assert json.loads(run("branch --json", at="work"))["branches"] == {"main": first}


def test_import_git_fills_an_empty_folder_and_export_git_gives_it_back(
    run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("dulwich", reason="needs the extra git")
    from dulwich.repo import Repo

    run("init made")
    write(tmp_path / "made", a="1")
    head = run("commit -m first", at="made").strip()
    out = json.loads(run("export-git --json ../git", at="made"))
    run("init back")

    result = json.loads(run("import-git --json ../git", at="back"))

    assert (out["commits"], result["commits"]) == (1, 1)
    assert (tmp_path / "back/a").read_text() == "1"
    assert json.loads(run("status --json", at="back"))["clean"] is True
    assert result["branches"]["main"] != head, "a commit of git is another one"
    with Repo(str(tmp_path / "git")) as repo:
        assert repo.refs[b"refs/heads/main"].decode() == out["branches"]["main"]  # type: ignore[index]


def test_the_token_is_printed_last(run: Run) -> None:
    run("repo create ada/notes --data srv")

    output = run("token create --owner ada --data srv")

    assert output.splitlines()[-1].startswith("mpt_")


def test_rule_12_a_message_of_a_peer_cannot_move_the_cursor(run: Run, tmp_path: Path) -> None:
    run("init work")
    write(tmp_path / "work", a="1")
    from starfish_mpack_wire.working_tree import WorkingTree

    with WorkingTree(tmp_path / "work") as tree:
        (tree.root / "na\x1bme").write_text("x")
        tree.commit("hi\x1b[2J\x07\nthere\u202e", author="Eve\x1b]0;x\x07\r\nDate: never")

    shown = run("log", at="work")
    write(tmp_path / "work", **{"na\x1bme": "y"})
    shown += run("status", at="work")

    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    assert "there" in shown


def test_a_name_of_nothing_and_settings_of_another_kind_are_told(run: Run, tmp_path: Path) -> None:
    run("init work")
    (tmp_path / "work/.mpack/config.json").write_text('{"remotes": 7}')

    with pytest.raises(MPackError, match="'nope' is not a branch, not a tag"):
        run("log nope", at="work")
    with pytest.raises(MPackError, match="no remote 'origin'"):
        run("push", at="work")
    run("remote add origin http://127.0.0.1:9/ada/notes", at="work")
    assert json.loads(run("remote list --json", at="work")) == {
        "origin": "http://127.0.0.1:9/ada/notes"
    }


def test_a_server_that_cannot_serve_says_why_before_it_begins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/mpack.sqlite").write_text("no database, but as long as the header of one")

    with pytest.raises(MPackError, match="cannot be used"):
        run("serve --data file --port 0")
    with pytest.raises(MPackError, match="database"):
        run("serve --data damaged --port 0")
    with pytest.raises(MPackError, match="not the address that clients use"):
        run("serve --data srv --port 0 --public-url nonsense")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*MPACK, "serve", "--data", "srv", "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "cannot listen" in done.stderr


def test_a_damaged_store_is_reported_with_status_1(run: Run, tmp_path: Path) -> None:
    run("init work")
    write(tmp_path / "work", a="text " * 100)
    run("commit -m first", at="work")
    (pack,) = (tmp_path / "work/.mpack/packs").iterdir()
    data = bytearray(pack.read_bytes())
    data[30] ^= 255
    pack.write_bytes(data)

    assert json.loads(run("verify --json", at="work", status=1))["problems"]


def mpack(*arguments: str, at: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MPACK, *arguments],
        cwd=at,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_error_is_one_line_and_a_status(tmp_path: Path) -> None:
    done = mpack("log", at=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("mpack: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.network
@pytest.mark.slow
def test_serve_answers_health_and_stops_when_it_is_told(tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    with subprocess.Popen(
        [*MPACK, "serve", "--data", str(tmp_path / "srv"), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            # The caller is told where; connections before the loop runs wait in the queue.
            url = process.stderr.readline().split()[-1]
            assert httpx.get(f"{url}/health", timeout=40).status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def test_tags_are_moved_and_removed(run: Run, tmp_path: Path) -> None:
    run("init work")
    write(tmp_path / "work", a="1")
    first = run("commit -m first", at="work").strip()
    run("tag v1", at="work")
    write(tmp_path / "work", a="2")
    second = run("commit -m second", at="work").strip()

    with pytest.raises(MPackError, match="--force moves it"):
        run("tag v1", at="work")
    assert json.loads(run("tag --json", at="work")) == {"v1": first}
    run("tag v1 --force", at="work")
    assert json.loads(run("tag --json", at="work")) == {"v1": second}
    run("tag v1 --delete", at="work")
    assert json.loads(run("tag --json", at="work")) == {}


def test_tokens_are_dated_listed_and_revoked(run: Run) -> None:
    run("repo create ada/notes --data srv")
    run("token create --owner ada --data srv --expires-days 3")
    run("token create --owner ben --data srv")

    listed = json.loads(run("token list --data srv --json"))
    assert sorted(each["owner"] for each in listed) == ["ada", "ben"]
    ada = next(each for each in listed if each["owner"] == "ada")
    assert ada["expires_ms"] - ada["created_ms"] in range(
        3 * 86_400_000 - 60_000, 3 * 86_400_000 + 60_000
    )
    assert "expires never" in run("token list --data srv --owner ben")
    run(f"token revoke {ada['name']} --data srv")
    assert [each["owner"] for each in json.loads(run("token list --data srv --json"))] == ["ben"]
    with pytest.raises(MPackError, match="there is no token"):
        run(f"token revoke {ada['name']} --data srv")
