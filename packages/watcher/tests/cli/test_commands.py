"""Each command on real files: output, JSON, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from starfish_watcher import EventStore, KeyRing, NewEvent, Runner, SqliteSink, __version__
from starfish_watcher.cli import main
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, at, credit

TYPES = """
import msgspec
from starfish_watcher import event, upcast

@event("moved", version={version})
class Moved(msgspec.Struct):
    amount: int
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with EventStore.open(tmp_path / "events.db") as store:
        store.append(at("a:1"), CREDIT, {"amount": 5}, idempotency_key="k", metadata={"by": "me"})
        store.append(at("a:2"), CREDIT, {"amount": 7})
        store.append(at("a:1"), NOTE, {"\x1b[31m": b"\x00"})
    return tmp_path / "events.db"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object, status: int = 0) -> str:
        assert main([str(each) for each in arguments]) == status
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return told.out if not status or "--json" in map(str, arguments) else told.err

    return run


def objects(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_it_shows_a_store(path: Path, command: Any) -> None:
    (facts,) = objects(command("inspect", path, "--json"))
    assert (facts["last_sequence"], facts["events"], facts["entities"]) == (3, 3, 2)
    assert "last sequence  3" in command("inspect", path)
    listed = objects(command("entities", path, "--prefix", "a", "--json"))
    assert [(each["entity"], each["generation"]) for each in listed] == [("a:1", 2), ("a:2", 1)]
    assert objects(command("entities", path, "--prefix", "b", "--json")) == []
    assert command("entities", path).split() == ["2", "a:1", "1", "a:2"]
    (event,) = objects(command("show", path, 1, "--json"))
    assert (event["entity"], event["payload"], event["metadata"]) == (
        "a:1",
        {"amount": 5},
        {"by": "me"},
    )


def test_it_prints_events_without_what_steers_a_terminal(path: Path, command: Any) -> None:
    text = command("tail", path)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3
    assert [e["sequence"] for e in objects(command("tail", path, "--last", 1, "--json"))] == [3]
    found = command("tail", path, "--after", 0, "--kind", "0xF", "--json")
    assert [each["sequence"] for each in objects(found)] == [1, 2]
    found = command("tail", path, "--after", 0, "--kind", str(NOTE), "--prefix", "a:1", "--json")
    assert [each["sequence"] for each in objects(found)] == [3]


def test_it_follows_a_store_until_it_is_interrupted(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "starfish_watcher", "tail", str(path), "-f", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = [json.loads(child.stdout.readline())["sequence"] for _ in range(3)]
    with EventStore.open(path) as store:
        credit(store, "a:9")
        assert json.loads(child.stdout.readline())["entity"] == "a:9"
    child.send_signal(signal.SIGINT)
    child.stdout.close()
    assert child.wait(20) == 130
    assert first == [1, 2, 3]


def test_an_export_is_imported_as_the_same_history(
    path: Path, tmp_path: Path, command: Any
) -> None:
    with EventStore.open(path) as store:
        store.append_batch([NewEvent(at("a:3"), CREDIT, {"amount": n}) for n in range(5)])
        store.compact(lambda event: event.sequence not in (2, 5))
        before = store.read()
    lines, copy = tmp_path / "events.jsonl", tmp_path / "copy.db"
    (told,) = objects(command("export", path, "--to", lines, "--json"))
    assert told["lines"] == len(lines.read_text().splitlines())
    assert stat.S_IMODE(lines.stat().st_mode) == 0o600
    assert objects(command("import", lines, copy, "--json"))[0]["events"] == 6
    assert objects(command("verify", copy, "--json"))[0] == {
        "verified": True,
        "entities": 3,
        "events": 6,
        "removed": 2,
    }
    with EventStore.open(copy) as store, EventStore.open(path) as original:
        assert store.read() == before
        assert store.store_id != original.store_id
        for name in ("a:1", "a:2", "a:3"):
            assert int(store.generation(name)) == int(original.generation(name))
            assert store.project(Balance, name) == original.project(Balance, name)
        again = store.append(
            at("a:1"), CREDIT, {"amount": 5}, idempotency_key="k", metadata={"by": "me"}
        )
        assert again.sequence == 1
        assert credit(store, "a:2", 1, expected=0) == 2
    assert command("export", path) == lines.read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"amount"', '"amounts"', None),
        ('"timestamp_us": 1', '"timestamp_us": 2', "does not have its hash"),
        ('"version": 1', '"version": 9', "version 9 is not known"),
        ("starfish-watcher-export", "other", "does not begin with the format"),
        ('"generation": 2', '"generation": 3', "do not fit its head"),
        ('"events": 3', '"events": 4', "ends after 3 events"),
        ('{"event"', '{"evil"', "KeyError"),
        ('{"event"', '["event"', "JSONDecodeError"),
    ],
    ids=["shown", "time", "version", "format", "head", "count", "label", "json"],
)
def test_a_changed_export_is_refused_and_leaves_nothing(
    path: Path, command: Any, old: str, new: str, message: str | None
) -> None:
    tmp_path = path.parent
    lines = tmp_path / "events.jsonl"
    command("export", path, "--to", lines)
    text = lines.read_text()
    assert old in text
    lines.write_text(text.replace(old, new))
    if message is None:  # the payload that is shown is not the one that is restored
        command("import", lines, tmp_path / "copy.db")
        return
    assert message in command("import", lines, tmp_path / "copy.db", status=1)
    assert {each.name for each in tmp_path.iterdir()} == {"events.db", "events.jsonl"}


def test_an_export_shows_the_newest_version(tmp_path: Path) -> None:
    def run(version: int, body: str, *arguments: str) -> str:
        (tmp_path / "types_of_ours.py").write_text(TYPES.format(version=version) + body)
        (tmp_path / "write.py").write_text(
            "from types_of_ours import Moved\nfrom starfish_watcher import *\n"
            "with EventStore.open('e.db') as s: s.append(Coordinate('a', 'eu'), Moved(5))\n"
        )
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    run(1, "", "write.py")
    upcasters = "".join(
        f"@upcast('moved', {n})\ndef _{n}(old): return {{'amount': old['amount'] * 10}}\n"
        for n in (1, 2)
    )
    exported = objects(
        run(3, upcasters, "-m", "starfish_watcher", "export", "e.db", "--types", "types_of_ours")
    )
    event = exported[-1]["event"]
    assert (event["type"], event["type_version"], event["payload"]) == ("moved", 1, {"amount": 500})
    shown = run(
        3, upcasters, "-m", "starfish_watcher", "tail", "e.db", "--types", "types_of_ours", "--json"
    )
    assert objects(shown)[0]["payload"] == {"amount": 500}


def test_a_backup_is_the_store_at_one_moment(path: Path, tmp_path: Path, command: Any) -> None:
    with EventStore.open(path) as store:
        credit(store, "a:1")
        (told,) = objects(command("backup", path, tmp_path / "backup.db", "--json"))
        credit(store, "a:1")
    assert told["bytes"] == (tmp_path / "backup.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600
    with EventStore.open(tmp_path / "backup.db") as copy, EventStore.open(path) as store:
        assert (copy.store_id, copy.last_sequence()) == (store.store_id, 4)
    assert "exists" in command("backup", path, tmp_path / "backup.db", status=5).lower()


def test_it_compacts_and_erases(path: Path, tmp_path: Path, command: Any) -> None:
    (told,) = objects(
        command("compact", path, "--before", "2999-01-01", "--prefix", "a:2", "--yes", "--json")
    )
    assert told["removed"] == 1
    assert objects(command("compact", path, "--json"))[0]["removed"] == 0
    (told,) = objects(command("erase", path, "a:1", "--yes", "--json"))
    assert told == {"erased": 2, "entity": "a:1"}
    assert b"amount" not in path.read_bytes()
    with KeyRing(tmp_path / "keys.db") as keys, EventStore.open(path, keys=keys) as store:
        credit(store, "a:4")
    command("erase", path, "a:4", "--keys", tmp_path / "keys.db", "--yes")
    with KeyRing(tmp_path / "keys.db") as keys:
        assert keys.entities() == []


def test_it_lists_runners(path: Path, tmp_path: Path, command: Any) -> None:
    with EventStore.open(path) as store, SqliteSink(tmp_path / "views.db") as sink:
        runner = Runner(store, [Balance], name="reports", sink=sink, poison="park")
        runner.run(until_end=True)
        runner.park(9, "known to be wrong")
        credit(store, "a:1")
    found = command("consumers", tmp_path / "views.db", "--store", path, "--json")
    (facts,) = objects(found)
    assert (facts["runner"], facts["sequence"], facts["lag"]) == ("reports", 3, 1)
    assert facts["parked"][0]["reason"] == "known to be wrong"
    assert "reports: at 3, 1 parked" in command("consumers", tmp_path / "views.db")


def test_refusals_have_a_status_and_a_sentence(path: Path, tmp_path: Path, command: Any) -> None:
    missing = tmp_path / "missing.db"
    for name in ("inspect", "verify", "tail", "export", "entities"):
        assert "there is no such file" in command(name, missing, status=3)
        (told,) = objects(command(name, missing, "--json", status=3))
        assert (told["error"], told["status"]) == ("not_found", 3)
    assert not missing.exists()
    assert "has no event 99" in command("show", path, 99, status=3)
    assert "kind" in command("tail", path, "--kind", "0x0001", status=1)
    assert "Missing" in command("inspect", status=2)
    (told,) = objects(command("inspect", "--json", status=2))
    assert told["error"] == "usage"
    (tmp_path / "lines").write_text("{}")
    assert "already" in command("import", tmp_path / "lines", path, status=4)
    (tmp_path / "foreign.db").write_bytes(b"not a database" * 100)
    assert "damaged" in command("verify", tmp_path / "foreign.db", status=1)


def test_a_damaged_payload_is_found(path: Path, command: Any) -> None:
    data = path.read_bytes()
    at_ = data.index(msgspec.msgpack.encode({"amount": 7}))
    path.write_bytes(data[: at_ + 8] + b"\x09" + data[at_ + 9 :])
    assert "a:2" in command("verify", path, status=1)


def test_help_version_and_a_closed_pipe(path: Path, command: Any) -> None:
    assert command("--version").strip() == f"starfish-watcher {__version__}"
    assert "erase" in command("-h")
    assert "--types" in command("export", "-h")
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "starfish_watcher", "tail", str(path)],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    os.close(read)
    assert child.communicate(timeout=20)[1] == b""
