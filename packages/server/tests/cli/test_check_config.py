"""``check-config``: exit status and every line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from starfish_server.cli import main

GOOD = {"name": "a", "storagePath": "a/{identity}", "readRoles": ["self"], "writeRoles": ["self"]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "starfish.json"


def test_a_good_configuration_is_confirmed(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(json.dumps({"collections": [GOOD]}))

    assert main(["check-config", str(config)]) == 0
    assert capsys.readouterr().out == f"{config}: ok, 1 collection(s), 0 warning(s)\n"


def test_warnings_are_listed_and_do_not_fail(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(json.dumps({"collections": [{**GOOD, "writeRoles": ["public"]}]}))

    assert main(["check-config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "warning: collections[0].writeRoles: 'public' lets anybody write" in out


def test_every_problem_is_listed_by_the_installed_command(config: Path) -> None:
    config.write_text(
        json.dumps(
            {
                "collections": [
                    {"name": "a", "storagePath": "a/{x"},
                    {"name": "a", "storagePath": "b/{x}", "pullOnly": True, "pushOnly": True},
                    {"name": "c", "storagePath": "b/1", "tll": 1},
                ]
            }
        )
    )
    result = subprocess.run(
        [sys.executable, "-m", "starfish_server", "check-config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1, result.stderr
    assert [line.partition(": ")[2].partition(": ")[0] for line in result.stdout.splitlines()] == [
        "collections[2].tll",
        "collections[0].storagePath",
        "collections[1].pushOnly",
        "collections[1].name",
        "4 problem(s)",
    ]
    assert result.stderr == ""


def test_json_is_one_object(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('{"collections": 1}')

    assert main(["check-config", "--json", str(config)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "ok": False,
        "problems": ["collections: Input should be a valid list, not 1"],
        "warnings": [],
    }


def test_a_missing_file_is_a_problem_and_a_missing_argument_is_wrong_usage(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-config", str(config)]) == 1
    assert "No such file" in capsys.readouterr().out
    assert main(["check-config"]) == 2
    assert main([]) == 2
    assert main(["frobnicate"]) == 2
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
