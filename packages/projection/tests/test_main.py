"""The command line: what it prints, what it returns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import starfish_projection

_SETUP = """
from starfish_projection import Projection, ProjectionSet, ProjectionSetup
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.sqlite import SqliteObjectStore

def setup():
    return ProjectionSetup(
        store=SqliteObjectStore("documents.sqlite"),
        config=SyncConfig(collections=[{"name": "notes", "storagePath": "notes/{note}"}]),
        projections=[
            Projection("notes", "list", lambda e: ProjectionSet(e.params["note"], {"n": e.body["n"]}))
        ],
    )

async def later():
    return setup()

not_a_setup = 7

async def fill():
    from starfish_server.protocol.push import push
    store = setup().store
    for number in range(3):
        await push(store, f"notes/n{number}", {"n": number}, None)
    await store.close()

async def spoil():
    store = setup().store
    await store.put("list", "mine")
    await store.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "myapp.py").write_text(_SETUP)
    (tmp_path / "broken.py").write_text("import not_installed_anywhere")
    _python(tmp_path, "import asyncio, myapp; asyncio.run(myapp.fill())")
    return tmp_path


def _python(folder: Path, code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def _rebuild(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starfish_projection", "rebuild", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("attribute", ["setup", "later"])
def test_it_rebuilds_and_says_what_it_did(folder: Path, attribute: str) -> None:
    answer = _rebuild(folder, f"myapp:{attribute}")

    assert answer.returncode == 0
    assert answer.stdout == ("3 documents, 1 lists, 1 rewritten\n3 entries set, 0 removed\n")
    assert answer.stderr == ""


def test_its_report_is_json_on_request_and_the_second_run_writes_nothing(folder: Path) -> None:
    _rebuild(folder, "myapp:setup")

    answer = _rebuild(folder, "myapp:setup", "--json")

    assert answer.returncode == 0
    assert json.loads(answer.stdout) == {
        "complete": True,
        "documents": 3,
        "unreadable": 0,
        "lists": 1,
        "rewritten": 0,
        "entriesSet": 0,
        "entriesRemoved": 0,
        "dropped": {},
        "incomplete": [],
    }


def test_lists_that_could_not_be_rebuilt_make_it_return_one(folder: Path) -> None:
    _python(folder, "import asyncio, myapp; asyncio.run(myapp.spoil())")

    answer = _rebuild(folder, "myapp:setup")

    assert answer.returncode == 1
    assert "dropped: 1 target_not_a_list" in answer.stdout
    assert "not known to be right: list" in answer.stdout


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("myapp", "has no module and attribute"),
        ("nowhere:setup", "names the module 'nowhere'"),
        ("myapp:nothing", "gives NoneType"),
        ("myapp:not_a_setup", "gives int"),
    ],
)
def test_a_reference_that_leads_nowhere_is_one_clear_line(
    folder: Path, reference: str, says: str
) -> None:
    answer = _rebuild(folder, reference)

    assert answer.returncode == 2
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_what_the_application_itself_does_wrong_is_shown_whole(folder: Path) -> None:
    answer = _rebuild(folder, "broken:setup")

    assert "not_installed_anywhere" in answer.stderr
    assert "Traceback" in answer.stderr


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starfish_projection", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _park_one(folder: Path) -> None:
    """One document has no ``n``, so that its projection raises."""
    (folder / "parks.py").write_text(
        """
import asyncio
from myapp import setup
from starfish_projection import create_projection_server_plugin
from starfish_server.protocol.push import push
from starfish_server.storage.base import StoreContext

async def main():
    made = setup()
    plugin = create_projection_server_plugin(store=made.store, projections=made.projections)
    context = StoreContext("notes", {"note": "odd"}, None, (), "push")
    await push(made.store, "notes/odd", {"m": 1}, None, context=context)
    await plugin.startup()
    await plugin.wait_for()
    await plugin.shutdown()
    await made.store.close()

asyncio.run(main())
"""
    )
    _python(folder, "import parks")


def test_parked_writes_are_shown_and_tried_again(folder: Path) -> None:
    assert _command(folder, "parked", "myapp:setup").stdout == "nothing is parked\n"
    _park_one(folder)

    shown = _command(folder, "parked", "myapp:setup")
    as_json = json.loads(_command(folder, "parked", "myapp:setup", "--json").stdout)
    in_vain = _command(folder, "retry-parked", "myapp:setup")
    mended = (folder / "myapp.py").read_text().replace('e.body["n"]', 'e.body.get("n")')
    (folder / "myapp.py").write_text(mended)
    retried = _command(folder, "retry-parked", "myapp:setup", "--json")

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "notes/odd: project_raised for list list: project raised KeyError\n"
    assert [each["key"] for each in as_json["parked"]] == ["notes/odd"]
    assert (in_vain.returncode, in_vain.stdout) == (
        1,
        "0 of 1 parked writes are in their lists now\n",
    )
    assert (retried.returncode, json.loads(retried.stdout)) == (0, {"folded": 1, "parked": 0})
    assert _command(folder, "parked", "myapp:setup").stdout == "nothing is parked\n"


@pytest.mark.parametrize("command", ["rebuild", "parked", "retry-parked"])
def test_errors_are_json_for_those_who_asked_for_it(folder: Path, command: str) -> None:
    answer = _command(folder, command, "nowhere:setup", "--json")

    assert answer.returncode == 2
    assert json.loads(answer.stdout)["error"] == "SetupError"


def test_it_tells_its_version_and_its_commands(folder: Path) -> None:
    assert _command(folder, "--version").stdout.strip() == starfish_projection.__version__
    assert "retry-parked" in _command(folder, "-h").stdout
    assert _command(folder).returncode == 2
