"""Commands that work on a store as a whole: what they do, what they refuse, and what a kill leaves."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.hash import compute_hash
from starfish_protocol.testing import ManualClock
from starfish_server import FilesystemObjectStore, SqliteObjectStore, StoreContext, push
from starfish_server.cli import main
from starfish_server.protocol.append_only import AppendLog, PullBounds
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.errors import PositionLostError
from starfish_server.storage.values import Value

LARGE = bytes(range(256)) * 12_000
COLLECTIONS = [
    {"name": "notes", "storagePath": "notes/{id}", "deletable": True},
    {"name": "log", "storagePath": "log/{id}", "appendOnly": {"type": "by_timestamp"}},
    {"name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]},
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "starfish.json"
    members = [{"name": "notes", "storagePath": "notes/{id}"}]
    text = {"collections": COLLECTIONS, "namespaces": {"team": {"collections": members}}}
    path.write_text(json.dumps(text))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def inside(data: Path, work: Callable[[SqliteObjectStore], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        store = SqliteObjectStore(data / "documents.sqlite")
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def context(name: str, id_: str, namespace: str | None = None) -> StoreContext:
    return StoreContext(name, {"id": id_}, "ada", (), "push", namespace)


async def fill(store: SqliteObjectStore) -> None:
    for n in range(5):
        await push(
            store, f"notes/{n}", {"n": n, "text": "é\u0000"}, None, context=context("notes", str(n))
        )
    await push(store, "team/notes/1", {"n": 1}, None, context=context("notes", "1", "team"))
    log = AppendLog(store, ManualClock(1_700_000_000_000))
    for n in range(200):  # several chunks
        await log.append("log/hall", {"n": n}, context=context("log", "hall"))
    for name, body in (("cat", b"\xff\x00"), ("large", LARGE)):
        digest = hashlib.sha256(body).hexdigest()
        await store.write(
            f"photos/{name}",
            Value(body, "image/png", hash=digest, written_at=5),
            change=ChangeRecord("photos", {"id": name}, digest, 5),
        )
    await store.write("~server/secret", Value(b"a" * 64, "text/plain"))


async def content(store: Any) -> dict[str, tuple[bytes, str, str | None, int]]:
    found = {}
    for entry in await store.scan(""):
        if entry.key.startswith("~server/"):
            continue
        value = await store.get(entry.key)
        kind, hash_ = value.metadata.content_type, value.metadata.hash
        found[entry.key] = (value.body, kind, hash_, value.metadata.written_at)
    return found


def run(*arguments: str | Path) -> int:
    return main([str(each) for each in arguments])


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_backup_is_one_moment_and_restoring_it_begins_another_log(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside(data, fill)
    before = inside(data, content)
    position = inside(data, lambda store: store.changes.end())
    backup = tmp_path / "backup.sqlite"

    assert run("backup", backup, "--data", data, "--json") == 0
    assert said(capsys)["result"] == {"file": str(backup), "bytes": backup.stat().st_size}
    assert backup.stat().st_mode & 0o077 == 0
    inside(data, lambda store: push(store, "notes/later", {}, None))
    assert run("restore", backup, "--data", data) == 4
    assert "notes/later" in inside(data, content)
    assert run("restore", backup, "--data", data, "--replace") == 0

    assert inside(data, content) == before
    with pytest.raises(PositionLostError, match="another epoch"):
        inside(data, lambda store: store.changes.read(position, 1))
    page = inside(data, lambda store: store.changes.read(None, 1000))
    assert len(page.changes) == 208
    assert run("restore", backup, "--data", tmp_path / "new") == 0
    assert inside(tmp_path / "new", content) == before
    assert run("verify", "--data", tmp_path / "new") == 0


def test_a_backup_is_taken_while_others_write(data: Path, tmp_path: Path) -> None:
    async def work(store: SqliteObjectStore) -> int:
        await fill(store)
        done = 0

        async def write() -> None:
            nonlocal done
            while True:
                await push(store, f"notes/w{done}", {"n": done}, None)
                done += 1

        writing = asyncio.create_task(write())
        while done < 20:  # noqa: ASYNC110  a counter has no event
            await asyncio.sleep(0.01)
        command = [
            sys.executable,
            "-m",
            "starfish_server",
            "backup",
            tmp_path / "b",
            "--data",
            data,
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        assert await process.wait() == 0
        writing.cancel()
        return done

    done = inside(data, work)
    assert run("restore", tmp_path / "b", "--data", tmp_path / "new") == 0
    written = [key for key in inside(tmp_path / "new", content) if key.startswith("notes/w")]
    assert 20 <= len(written) <= done
    assert run("verify", "--data", tmp_path / "new") == 0


def test_a_store_that_is_in_use_is_not_replaced(data: Path, tmp_path: Path) -> None:
    inside(data, fill)
    assert run("backup", tmp_path / "b", "--data", data) == 0

    async def work(store: SqliteObjectStore) -> int:
        await store.ping()
        status = await asyncio.to_thread(
            run, "restore", tmp_path / "b", "--data", data, "--replace"
        )
        await push(store, "notes/after", {}, None)
        return status

    assert inside(data, work) == 4
    assert "notes/after" in inside(data, content)


@pytest.mark.parametrize("kind", ["sqlite", "filesystem"])
def test_an_export_makes_the_same_store_again(
    config: Path, data: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inside(data, fill)
    before = inside(data, content)
    export = tmp_path / "all.jsonl"
    assert run("export", export, "--data", data, "--json") == 0
    assert said(capsys)["result"]["values"] == len(before)
    new = tmp_path / "new"
    options = ["--data", new, "--store", kind, "--config", config]
    assert run("import", export, *options, "--json") == 0
    assert said(capsys)["result"]["values"] == len(before)

    if kind == "filesystem":
        again = tmp_path / "again.jsonl"
        assert run("export", again, "--data", new, "--store", kind) == 0
        new = tmp_path / "third"
        assert run("import", again, "--data", new, "--config", config) == 0
        texts = {key: value[0] for key, value in before.items()}
        assert {key: value[0] for key, value in inside(new, content).items()} == texts
        return
    assert inside(new, content) == before
    page = inside(new, lambda store: store.changes.read(None, 1000))
    assert {(each.namespace, each.collection, each.key) for each in page.changes} >= {
        (None, "notes", "notes/0"),
        ("team", "notes", "team/notes/1"),
        (None, "log", "log/hall"),
        (None, "photos", "photos/large"),
    }
    assert run("verify", "--data", new) == 0
    assert run("import", export, *options) == 4
    assert [each.name for each in new.iterdir() if each.name.startswith(".import")] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.rpartition(b"\n{")[0] + b"\n",
        lambda text: text.replace(b'"n": 3', b'"n": 4').replace(b'\\"n\\":3', b'\\"n\\":4'),
        lambda text: text.replace(b"starfish-server-export", b"another-format"),
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda _text: b"",
        lambda _text: b"\x00\xff\n",
    ],
    ids=["cut", "no end", "changed", "another format", "newer", "empty", "no JSON"],
)
def test_a_damaged_export_is_refused_whole(
    config: Path,
    data: Path,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    inside(data, fill)
    export = tmp_path / "all.jsonl"
    assert run("export", export, "--data", data) == 0
    export.write_bytes(damage(export.read_bytes()))
    capsys.readouterr()

    assert run("import", export, "--data", tmp_path / "new", "--config", config, "--json") == 1
    answer = said(capsys)
    assert (answer["ok"], answer["command"], answer["error"]["error"]) == (
        False,
        "import",
        "damaged",
    )
    assert not (tmp_path / "new" / "documents.sqlite").exists()


def public_folder(folder: Path) -> None:
    """As the filesystem store of the public package leaves it."""

    def write(key: str, value: object) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    data = {"kept": "for years"}
    write("notes/a", {"v": 1, "data": data, "ts": 1_700_000_000_000, "hash": compute_hash(data)})
    write("photos/cat", b"\xff\x00")
    write("photos/cat.__meta__", {"contentType": "image/png"})
    write("notes/half.tmp", b"{")
    elements = [{"ts": n + 1, "data": {"n": n}} for n in range(5)]
    hash_ = compute_hash({"n": 5, "last": {"n": 4}})
    write("log/whole", {"v": 1, "data": {"items": elements}, "ts": 5, "hash": hash_})
    head = {"v": 1, "seg": True, "data": {}, "n": 5, "sealedN": 2, "ts": 5, "hash": hash_}
    write("log/parts", {**head, "chunkSize": 2, "tailKey": "log/parts__seg/0000000000000005"})
    for first in (0, 2, 4):
        write(f"log/parts__seg/{first + 1:016}", elements[first : first + 2])


def test_a_folder_of_the_public_store_is_taken_in(config: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "public"
    public_folder(folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert run("import", folder, "--data", data, "--config", config) == 0
    found = inside(data, content)
    assert {key for key in found if not key.startswith("~")} == {
        "notes/a", "photos/cat", "log/whole", "log/parts",
    }  # fmt: skip
    assert json.loads(found["notes/a"][0])["data"] == {"kept": "for years"}
    assert found["photos/cat"][:2] == (b"\xff\x00", "image/png")
    for name in ("whole", "parts"):
        page = inside(
            data,
            lambda store, name=name: AppendLog(store, ManualClock()).read(
                f"log/{name}", PullBounds()
            ),
        )
        assert [each["ts"] for each in page.elements] == [1, 2, 3, 4, 5]
        assert page.hash == compute_hash({"n": 5, "last": {"n": 4}})
    page = inside(data, lambda store: store.changes.read(None, 100))
    assert {each.key for each in page.changes} == {
        "notes/a",
        "photos/cat",
        "log/whole",
        "log/parts",
    }
    assert run("verify", "--data", data) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("notes/b", "no JSON", "notes/b: it is not JSON"),
        ("notes/b", '{"v":2}', "notes/b: it is not a document of the protocol"),
        ("notes/b", '{"v":1,"seg":true,"data":{}}', "append-only document"),
        ("log/b", '{"v":1,"data":{"items":[{"ts":"x"}]}}', "log/b: element 0 has no ts"),
        ("log/b", '{"v":1,"data":{}}', "log/b: it is not an append-only document"),
        ("notes/..b\x01", "{}", "cannot be a key"),
    ],
    ids=["text", "version", "segments", "element", "no list", "key"],
)
def test_a_file_that_is_not_a_document_is_named(  # noqa: PLR0917  each is a fixture or a case
    config: Path,
    data: Path,
    tmp_path: Path,
    name: str,
    text: str,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    public_folder(tmp_path / "public")
    (tmp_path / "public" / name).write_text(text)

    assert run("import", tmp_path / "public", "--data", data, "--config", config) == 1
    assert problem in capsys.readouterr().err
    assert not (data / "documents.sqlite").exists()


def test_an_own_folder_is_not_taken_for_a_public_one(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def make() -> None:
        store = FilesystemObjectStore(tmp_path / "own")
        await store.put("notes/1", "{}")
        await store.close()

    asyncio.run(make())
    assert run("import", tmp_path / "own", "--data", data, "--config", config) == 1
    assert "export it instead" in capsys.readouterr().err


def test_compacting_removes_what_expired_and_what_newer_changes_stand_for(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(store: SqliteObjectStore) -> None:
        await fill(store)
        for n in range(2):
            change = ChangeRecord("notes", {"id": f"g{n}"}, "", 1 if n else 9_999_999_999_999)
            await store.write(f"notes/g{n}", Value(b"{}"), change=change)
            await store.remove(f"notes/g{n}", change=change)
        base = None
        for n in range(50):
            done = await push(
                store, "notes/often", {"n": n}, base, context=context("notes", "often")
            )
            base = done.hash  # type: ignore[union-attr]
        for n in range(3):
            await store.write(f"notes/x{n}", Value(b"{}", expires_at=1))

    inside(data, work)
    assert run("compact", "--data", data, "--vacuum", "--json") == 0
    assert said(capsys)["result"] == {"expired": 3, "changes": 49 + 199 + 3}
    page = inside(data, lambda store: store.changes.read(None, 1000))
    assert [each.key for each in page.changes].count("notes/often") == 1
    assert [each.key for each in page.changes if each.is_deleted] == ["notes/g0"]
    assert run("compact", "--data", data, "--json", "--tombstones", "10x") == 2
    assert said(capsys)["error"]["error"] == "usage"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE document SET value = CAST(replace(value, '\"n\":3', '\"n\":4') AS BLOB) WHERE key = 'notes/3'", "'notes/3'"),
        ("UPDATE document SET value = X'00' WHERE key = 'photos/cat'", "'photos/cat': the bytes"),
        ("UPDATE part SET bytes = zeroblob(length(bytes)) WHERE number = 3", "'photos/large': the bytes"),
        ("DELETE FROM document WHERE key = 'notes/1'", "'notes/1': the change log has it"),
        ("UPDATE document SET hash = 'x' WHERE key = 'notes/2'", "'notes/2': the document has hash x"),
        ("DELETE FROM document WHERE key LIKE '~append/log/hall/%'", "a chunk is missing"),
        ("UPDATE document SET value = X'7b' WHERE key = 'log/hall'", "'log/hall'"),
    ],
    ids=["text", "bytes", "large bytes", "lost", "hash", "chunk", "head"],
)  # fmt: skip
def test_verifying_names_what_is_damaged(
    data: Path, statement: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inside(data, fill)
    assert run("verify", "--data", data, "--json") == 0
    assert said(capsys)["result"] == {"documents": 9}
    with closing(sqlite3.connect(data / "documents.sqlite")) as connection, connection:
        assert connection.execute(statement).rowcount >= 1

    assert run("verify", "--data", data, "--json") == 1
    answer = said(capsys)
    assert answer["error"]["error"] == "damaged"
    assert problem in answer["error"]["message"]


def test_what_is_not_there_and_what_is_in_the_way(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("kept")
    for command in (
        ["backup", tmp_path / "b", "--data", data],
        ["export", tmp_path / "b", "--data", data],
        ["verify", "--data", data],
        ["compact", "--data", data],
        ["restore", tmp_path / "b", "--data", data],
        ["import", tmp_path / "b", "--data", data, "--config", config],
    ):
        assert run(*command, "--json") == 3
        assert said(capsys)["error"]["error"] == "not_found"
    assert not data.exists() or not any(data.glob("*.sqlite"))
    inside(data, fill)
    for command in (["backup", taken, "--data", data], ["export", taken, "--data", data]):
        assert run(*command) == 4
    assert taken.read_text() == "kept"
    assert run("backup", tmp_path / "no" / "b", "--data", data) == 3
    assert run("restore", taken, "--data", tmp_path / "other") == 1
    assert run("restore", taken, "--data", data, "--replace") == 1
    assert run("verify", "--data", data) == 0
    assert run("verify", "--data", data, "--store", "tape") == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["backup", "export", "restore", "import"])
def test_a_kill_leaves_the_old_state_or_the_new_one(
    config: Path, data: Path, tmp_path: Path, command: str
) -> None:
    inside(data, fill)
    before = inside(data, content)
    for name, target in (("backup", "b"), ("export", "e")):
        assert run(name, tmp_path / target, "--data", data) == 0
    inside(data, lambda store: push(store, "notes/newer", {}, None))
    newer = inside(data, content)
    drawn = random.Random(3)
    outcomes = set()
    for number in range(12):
        target = tmp_path / f"target{number}"
        arguments: list[str | Path] = {
            "backup": ["backup", target, "--data", data],
            "export": ["export", target, "--data", data],
            "restore": ["restore", tmp_path / "b", "--data", data, "--replace"],
            "import": ["import", tmp_path / "e", "--data", target, "--config", config],
        }[command]
        process = subprocess.Popen(
            [sys.executable, "-m", "starfish_server", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(drawn.uniform(0.1, 0.9))
        os.kill(process.pid, signal.SIGKILL)
        outcomes.add(process.wait())
        if command == "restore":
            assert inside(data, content) in (before, newer)
            assert run("restore", tmp_path / "b", "--data", data, "--replace") == 0
        elif command == "import":
            if (target / "documents.sqlite").exists():
                assert inside(target, content) == before
            else:
                assert run("import", tmp_path / "e", "--data", target, "--config", config) == 0
        elif target.exists():
            new = tmp_path / f"from{number}"
            source = [target, "--data", new]
            rest = ["--config", config] if command == "export" else []
            assert run("restore" if command == "backup" else "import", *source, *rest) == 0
            assert inside(new, content) == newer
    assert -signal.SIGKILL in outcomes
