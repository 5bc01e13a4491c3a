"""The command line: what it says, to whom, and with which exit status."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

from typer.testing import CliRunner, Result

from starfish_artifact_registry.cli._main import build_app

NOWHERE = "00000000-0000-0000-0000-000000000000"
Run = Callable[..., Result]
RunJson = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> None:
    """A command is alone in its process; nobody waits for its loop."""


@pytest.fixture(scope="module")
def runner() -> Callable[..., Result]:
    app, runner = build_app(), CliRunner()
    return lambda *arguments, **options: runner.invoke(app, [str(a) for a in arguments], **options)


@pytest.fixture
def run(runner: Run, tmp_path: Path) -> Run:
    """Run a command over a registry of its own."""
    environment = {
        "ARTIFACT_REGISTRY": str(tmp_path / "registry"),
        "ARTIFACT_REGISTRY_ACTOR": "ada",
    }

    def run(*arguments: object, status: int = 0, **options: Any) -> Result:
        result = runner(*arguments, env=environment, **options)
        assert result.exit_code == status, (result.output, result.exception)
        # A real process would show any other exception as a traceback.
        assert isinstance(result.exception, SystemExit | None)
        return result

    run("init")
    return run


@pytest.fixture
def run_json(run: Run) -> RunJson:
    """The same with ``--json``; the one object that it printed."""

    def run_json(*arguments: object, status: int = 0) -> Any:
        return json.loads(run(*arguments, "--json", status=status).stdout)

    return run_json


@pytest.fixture
def package(run: Run) -> str:
    return run("create", "night shift", "--producer", "cam", "--subject", "gate").stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files, a folder in a folder, a link out of it, and a pipe."""
    folder = tmp_path / "recordings"
    (folder / "gate").mkdir(parents=True)
    (folder / "gate/one.txt").write_text("one")
    (folder / "gate/empty").write_bytes(b"")
    (folder / "two.html").write_bytes(b"<p>" * 500_000)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_folder_is_taken_without_its_links(
    run: Run, run_json: RunJson, package: str, folder: Path
) -> None:
    ingested = run("ingest", package, folder, "--parallel", 3)
    listed = [
        json.loads(line)["result"] for line in run("ls", package, "--json").stdout.splitlines()
    ]

    assert ingested.stdout == "3 files, 1.4 MiB\n"
    for name, reason in (
        ("link", "a symbolic link"),
        ("folder", "a symbolic link"),
        ("pipe", "neither"),
    ):
        assert f"skipped {folder}/{name}: {reason}" in ingested.stderr
    assert [(each["relative_path"], each["size"], each["media_type"]) for each in listed] == [
        ("gate/empty", 0, "application/octet-stream"),
        ("gate/one.txt", 3, "text/plain"),
        ("two.html", 1_500_000, "text/html"),
    ]
    assert {each["ingested_by"] for each in listed} == {"ada"}


def test_what_is_refused_is_named_and_the_rest_is_taken(
    run: Run, run_json: RunJson, package: str, folder: Path
) -> None:
    run("ingest", package, folder / "two.html")
    (folder / "two.html").write_text("other bytes")
    (folder / "cafe\u0301").write_text("not NFC")

    answer = run_json("ingest", package, folder, folder / "gone", status=1)

    assert (answer["ok"], answer["command"]) == (False, "ingest")
    assert [each["relative_path"] for each in answer["result"]["files"]] == [
        "gate/empty",
        "gate/one.txt",
    ]
    assert {Path(each["path"]).name: each["error"] for each in answer["result"]["refused"]} == {
        "two.html": "duplicate_relative_path",
        "cafe\u0301": "invalid_relative_path",
        "gone": "source_unreadable",
    }


def test_a_prefix_puts_files_below_a_folder(run: Run, package: str, folder: Path) -> None:
    run("ingest", package, folder / "two.html", "--prefix", "day 1", "--media-type", "text/plain")

    assert run("ls", package).stdout.rstrip().endswith("day 1/two.html")


def test_a_file_comes_out_whole_or_not_at_all(
    run: Run, package: str, folder: Path, tmp_path: Path
) -> None:
    run("ingest", package, folder / "two.html")
    file = run("ls", package).stdout.split()[0]
    run("get", file, "-o", tmp_path / "copy")
    piped = run("get", file)
    stored = next(
        each for each in (tmp_path / "registry/content/blake3").rglob("*") if each.is_file()
    )
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"X")

    damaged = run("get", file, "-o", tmp_path / "damaged", status=1)

    assert (
        (tmp_path / "copy").read_bytes() == piped.stdout_bytes == (folder / "two.html").read_bytes()
    )
    assert "has changed" in damaged.stderr
    assert not (tmp_path / "damaged").exists()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_verify_names_what_has_changed(
    run: Run, run_json: RunJson, package: str, folder: Path, tmp_path: Path
) -> None:
    run("ingest", package, folder)
    clean = run("verify")
    stored = (tmp_path / "registry/content/blake3").rglob("*")
    (largest,) = [each for each in stored if each.is_file()]
    with closing(sqlite3.connect(tmp_path / "registry/registry.sqlite")) as database, database:
        assert database.execute("DELETE FROM packed_content WHERE data = x''").rowcount == 1
    largest.chmod(0o600)
    largest.write_bytes(b"X" + largest.read_bytes()[1:])

    damaged = run("verify", status=1)
    one = run_json("verify", package, status=1)

    assert clean.stdout == "ok: 4 events, 1 packages, 3 files, 1.4 MiB\n"
    assert damaged.stdout.splitlines() == [
        f"CHANGED  {package}  two.html",
        f"MISSING  {package}  gate/empty",
    ]
    assert one["result"]["damaged"][0]["changed"] == ["two.html"]


def test_a_proof_is_written_and_checked(
    run: Run, run_json: RunJson, package: str, folder: Path, tmp_path: Path
) -> None:
    run("ingest", package, folder)
    digest = run("finalize", package).stdout.strip()
    proof = tmp_path / "package.proof"
    run("export-proof", package, "-o", proof)

    answer = run_json("verify-proof", proof, "--files", folder)
    (folder / "two.html").write_text("other")
    differs = run_json("verify-proof", proof, "--files", folder, status=1)
    proof.write_bytes(proof.read_bytes()[:-1] + b"X")
    broken = run_json("verify-proof", proof, status=1)

    assert (answer["result"]["manifest_digest"], answer["result"]["files_checked"]) == (digest, 3)
    assert (differs["error"]["error"], differs["error"]["changed"]) == (
        "proof_files_differ",
        ["two.html"],
    )
    assert broken["error"]["error"] == "invalid_proof"


def test_a_signed_checkpoint_speaks_for_the_log(
    run: Run, run_json: RunJson, package: str, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography", reason="needs the extra signing")
    run("finalize", package)
    (tmp_path / "key").write_text("07" * 32 + "\n")
    signed = run_json("checkpoint", "--key-file", tmp_path / "key", "-o", tmp_path / "head")
    key = signed["result"]["public_key"]
    run("export-proof", package, "--checkpoint", tmp_path / "head", "-o", tmp_path / "p")

    trusted = run_json("verify-proof", tmp_path / "p", "--key", key)
    stranger = run_json("verify-proof", tmp_path / "p", "--key", "00" * 32, status=1)

    assert trusted["result"]["signed_by"] == key
    assert stranger["error"]["error"] == "invalid_proof"
    assert run("verify", "--checkpoint", tmp_path / "head", "--key", key).exit_code == 0


def test_holds_and_dates(run: Run, run_json: RunJson, package: str) -> None:
    run("finalize", package)
    hold = run("retention", "hold", package, "--reason", "trial").stdout.strip()
    held = run_json("retention", "delete", package, "--reason", "old", status=4)
    run("retention", "release", package, hold, "--reason", "over")
    early = run_json("retention", "expire", package, status=4)
    due = run_json("retention", "expire")

    assert held["error"]["error"] == "package_held"
    assert early["error"]["error"] == "retention_period"
    assert due["result"] == {"expired": []}
    assert run_json("gc", "--dry-run")["result"]["contents_removed"] == 0


@pytest.mark.parametrize("form", ["bagit", "oci"])
def test_a_package_moves_to_another_registry(
    *, run: Run, runner: Run, package: str, folder: Path, tmp_path: Path, form: str
) -> None:
    run("ingest", package, folder)
    digest = run("finalize", package).stdout
    run("export", package, tmp_path / "out", "--format", form)
    elsewhere = ["--registry", tmp_path / "elsewhere"]
    runner("init", *elsewhere)

    imported = runner("import", tmp_path / "out", *elsewhere)

    assert imported.stdout.strip() == package
    assert digest.strip() in runner("show", package, *elsewhere).stdout
    again = runner("import", tmp_path / "out", *elsewhere)
    assert again.exit_code == 4


def test_the_log_is_told_and_replayed(run: Run, run_json: RunJson, package: str) -> None:
    run("finalize", package)

    lines = [json.loads(line)["result"] for line in run("tail", "--json").stdout.splitlines()]

    assert [line["event_type"] for line in lines] == ["v1.package.created", "v1.package.finalized"]
    assert run("tail", "--since", 2).stdout == ""
    assert run_json("replay")["result"] == {"events": 2}
    assert (
        run_json("migrate")["result"]["revision_before"]
        == run_json("migrate")["result"]["revision"]
    )


def test_names_of_others_cannot_reach_the_terminal(run: Run) -> None:
    name = "bad\u202e\x9b2J"
    package = run(
        "create", name, "--producer", "p", "--subject", "s", "--class", "working"
    ).stdout.strip()

    for command in (("ls",), ("show", package), ("tail",)):
        assert "bad\\u202e\\x9b2J" in run(*command).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["show", NOWHERE], 3, "package_not_found"),
        (["get", NOWHERE, "-o", "out"], 3, "file_not_found"),
        (["ls", NOWHERE], 3, "package_not_found"),
        (["ls", "--status", "lost"], 1, "invalid_query"),
        (["ls", "--registry", "/nonexistent"], 3, "registry_not_found"),
        (["create", "", "--producer", "p", "--subject", "s"], 1, "invalid_value"),
        (["create", "a\0b", "--producer", "p", "--subject", "s"], 1, "invalid_value"),
        (["create", "n", "--producer", "p", "--subject", "s", "--class", "x"], 1, "unknown_retention_class"),
        (["manifest", NOWHERE], 3, "package_not_found"),
        (["verify-proof", "/nonexistent"], 3, "not_found"),
        (["verify-proof", "/"], 5, "unavailable"),
        (["verify", "--checkpoint", "/nonexistent"], 3, "not_found"),
        (["import", "/nonexistent"], 1, "import_refused"),
        (["ingest", NOWHERE, "/etc/hostname"], 3, "package_not_found"),
    ],
)  # fmt: skip
def test_a_failure_has_a_code_and_a_status(
    run_json: RunJson, arguments: list[str], status: int, code: str
) -> None:
    answer = run_json(*arguments, status=status)

    assert (answer["ok"], answer["error"]["error"]) == (False, code)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["show", "x"],
        ["ls", "--limit", "0"],
        ["create", "n", "--producer", "p", "--subject", "s", "--meta", "x"],
        ["ls", "--database", "sqlite:///x", "--storage", "y"],  # and ARTIFACT_REGISTRY
        ["serve", "--host", "0.0.0.0"],
        ["serve", "--port", "70000"],
        ["verify", "--key", "0" * 64],  # of which checkpoint?
        ["verify", "--checkpoint", "x", "--key", "zz"],
        ["verify-proof", "x", "--key", "A" * 64],
        ["get", NOWHERE, "--json"],
    ],
)
def test_wrong_usage_is_told_apart(run: Run, arguments: list[str]) -> None:
    run(*arguments, status=2)


@pytest.mark.parametrize("database", ["mysql://x/y", "no url", "sqlite+pysqlite_x:///y:z@"])
def test_a_database_of_another_kind_is_refused(runner: Run, database: str) -> None:
    result = runner(
        "ls", "--database", database, "--storage", "content", env={"ARTIFACT_REGISTRY": None}
    )

    assert result.exit_code in {2, 3}
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("storage", ["ftp://x", "s3://", "nothing://"])
def test_a_storage_of_another_kind_is_refused(runner: Run, tmp_path: Path, storage: str) -> None:
    database = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    environment = {"ARTIFACT_REGISTRY": None}
    runner("init", "--database", database, "--storage", "content", env=environment)

    result = runner("ls", "--database", database, "--storage", storage, env=environment)

    assert (result.exit_code, type(result.exception)) == (2, SystemExit)


@pytest.mark.parametrize("module", ["obstore.store", "asyncpg"])
def test_a_missing_extra_is_named(
    runner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what importing it finds without the extra
    database, storage = (
        ("postgresql://127.0.0.1:1/x", str(tmp_path))
        if module == "asyncpg"
        else (f"sqlite:///{tmp_path / 'registry.sqlite'}", "s3://bucket")
    )
    environment = {"ARTIFACT_REGISTRY": None}
    runner("init", "--database", database, "--storage", storage, env=environment)

    result = runner("ls", "--database", database, "--storage", storage, env=environment)

    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert f"[{'postgres' if module == 'asyncpg' else 's3'}]" in result.output


def test_a_key_file_without_a_key_is_named_and_not_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("half a secret")

    result = run("checkpoint", "--key-file", tmp_path / "key", "-o", tmp_path / "c", status=2)

    assert "64 lowercase hex digits" in " ".join(result.output.split())
    assert "secret" not in result.output


def test_a_password_is_not_repeated(runner: Run) -> None:
    pytest.importorskip("asyncpg", reason="needs the extra postgres")
    result = runner(
        "ls", "--database", "postgresql://ada:hunter2@127.0.0.1:1/x", "--storage", "content",
        env={"ARTIFACT_REGISTRY": None},
    )  # fmt: skip

    assert result.exit_code == 5
    assert "hunter2" not in result.output


def test_a_database_and_a_storage_make_a_registry(runner: Run, tmp_path: Path) -> None:
    where = ["--database", f"sqlite:///{tmp_path / 'a.sqlite'}", "--storage", tmp_path / "store"]
    environment = {"ARTIFACT_REGISTRY": None}
    runner("init", *where, env=environment)

    made = runner("create", "n", "--producer", "p", "--subject", "s", *where, env=environment)

    assert made.exit_code == 0
    assert made.stdout.strip() in runner("ls", *where, env=environment).stdout
