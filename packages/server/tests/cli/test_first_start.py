"""``serve`` and ``init``: a server from nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from starfish_server.cli import main
from starfish_server.config import config_warnings, load_config

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

Start = Callable[..., tuple[str, str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def serve(*options: str) -> tuple[str, str]:
        """The address, and the lines after it up to the request to try."""
        command = [sys.executable, "-m", "starfish_server", "serve", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        told = ""
        while "curl" not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        return url, told

    yield serve
    for each in running:
        each.terminate()
        assert each.wait(20) == 0
        for pipe in (each.stdout, each.stderr):
            assert pipe is not None
            pipe.close()


def test_a_server_from_nothing_answers_the_request_that_it_prints(
    start: Start, tmp_path: Path
) -> None:
    url, told = start("--port", "0")
    token = re.search(r"shown this once: (\S+)", told)
    assert token is not None
    curl = shlex.split(told[told.index("curl ") :])
    headers = dict(curl[at + 1].split(": ", 1) for at, word in enumerate(curl) if word == "-H")
    answer = httpx.post(curl[3], headers=headers, content=curl[curl.index("-d") + 1])

    assert curl[3].startswith(f"{url}/push/")
    assert answer.status_code == 200, answer.text
    assert headers["Authorization"] == f"Bearer {token[1]}"
    assert httpx.get(f"{url}/pull/notes/admin/first").status_code == 401
    folder = tmp_path / "starfish"
    assert (folder / "tokens.json").stat().st_mode & 0o077 == 0
    assert token[1] not in (folder / "tokens.json").read_text()
    assert (folder / "data" / "documents.sqlite").exists()


def test_the_second_start_keeps_everything_and_shows_no_token(start: Start, tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "here"), "--json"]) == 0
    config = tmp_path / "here" / "starfish.toml"
    config.write_text(config.read_text() + "\n# mine\n")
    _, told = start("here", "--port", "0", "--workers", "2")

    assert "sft_" not in told
    assert "$TOKEN" in told
    assert config.read_text().endswith("# mine\n")


def test_init_makes_a_configuration_that_is_good_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a" / "b"
    assert main(["init", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    config = load_config(result["config"])

    assert config_warnings(config) == []
    assert [each.name for each in config.collections] == ["notes", "shared", "public"]
    assert result["token"].startswith("sft_")
    assert main(["init", str(folder)]) == 4
    assert "exists" in capsys.readouterr().err
    assert main(["init", "--json", str(folder)]) == 4
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["error"]["error"]) == (False, "conflict")


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "x")]) == 5
    assert "file" in capsys.readouterr().err


def test_the_command_needs_its_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from starfish_server.cli import main\nsys.exit(main(sys.argv[1:]))"
    for options in ([], ["--json"]):
        result = subprocess.run(
            [sys.executable, "-c", code, "init", str(tmp_path / "x"), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert "starfish-server[cli]" in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
