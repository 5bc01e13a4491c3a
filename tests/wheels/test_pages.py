"""The READMEs as a stranger meets them: the wheel, the extras that the page names, and nothing else.

The Python blocks run as one script, the console blocks word by word in an empty folder, and every
line that installs takes our packages from the wheelhouse, never another product of the same name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = sorted((ROOT / "packages").glob("*/README.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *READMES]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTALL = re.compile(r"pip install ([^`#\n]*starfish[^`#\n]*)")
SERVES = re.compile(r"\b(?:run|serve)\b[^&]*$")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def requirement(page: Path) -> str:
    """The distribution of a README with each extra that the page names."""
    name = f"starfish-{page.parent.name}"
    named = re.findall(rf"{name}\[([a-z0-9, -]+)\]", page.read_text())
    extras = sorted({extra.strip() for group in named for extra in group.split(",")})
    return f"{name}[{','.join(extras)}]" if extras else name


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "page", [page for page in READMES if PYTHON.search(page.read_text())], ids=named
)
def test_the_python_blocks_run_as_a_script(
    page: Path, environment: Callable[[str], Path], tmp_path: Path
) -> None:
    python = environment(requirement(page)) / "python"
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "story.py").write_text("\n".join(PYTHON.findall(page.read_text())))

    done = subprocess.run(
        [python, "-W", "error", "story.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def typed(block: str) -> list[str]:
    """The lines that a reader types: after ``$``, or all of them where there is none."""
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [
        line
        for line in lines or block.splitlines()
        if not re.match(r"(?:make|pip|python -m pip) ", line)
    ]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_block(script: str, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Its exit status and what it printed; a server in the last line is ended when it listens."""
    serves = bool(SERVES.search(script.splitlines()[-1]))
    printed = folder.parent / "printed"
    with printed.open(
        "w"
    ) as output:  # a file: a server left in the background may hold a pipe open
        story = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=env,
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
        until = time.monotonic() + 60
        status: int | None = None
        while status is None and time.monotonic() < until:
            status = story.poll()
            if status is None and serves and "listening on" in printed.read_text():
                status = 0
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(story.pid, signal.SIGKILL)
        story.wait()
    return (-1 if status is None else status), printed.read_text()


@pytest.mark.parametrize(
    "page", [page for page in READMES if CONSOLE.search(page.read_text())], ids=named
)
def test_the_console_blocks_run_word_by_word(
    page: Path, environment: Callable[[str], Path], tmp_path: Path
) -> None:
    commands = environment(requirement(page))
    folder = tmp_path / "empty"
    folder.mkdir()
    env = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(folder)}
    env.pop("VIRTUAL_ENV", None)
    ports: dict[str, str] = {}

    for block in CONSOLE.findall(page.read_text()):
        script = "\n".join(typed(block))
        if not script.strip():
            continue
        for port in re.findall(r"(?:--port |127\.0\.0\.1:)(\d{4,5})", script):
            script = script.replace(port, ports.setdefault(port, free_port()))
        status, printed = run_block(script, folder, env)
        shown = [
            line
            for line in block.splitlines()
            if block.startswith("$") and not line.startswith("$")
        ]
        # A block may end in a check that finds the damage it made: the page shows its finding.
        finds = bool(shown) and status == 1 and shown[-1].split()[0] in printed
        assert status == 0 or finds, f"{script}\n→ {printed}"


@pytest.mark.parametrize("page", [p for p in PAGES if INSTALL.search(p.read_text())], ids=named)
def test_every_install_line_takes_our_packages(
    page: Path, wheelhouse: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    (tmp_path / "dist").symlink_to(wheelhouse)

    for line in INSTALL.findall(page.read_text()):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--dry-run",
                "--ignore-installed",
                "--no-deps",
                "--quiet",
                "--report",
                report,
                *shlex.split(line),
            ],
            cwd=tmp_path,
            check=True,
        )
        taken = json.loads(report.read_text())["install"]
        strangers = [
            entry["metadata"]["name"]
            for entry in taken
            if entry["metadata"]["name"].startswith("starfish")
            and not entry["download_info"]["url"].startswith("file:")
        ]
        assert taken
        assert strangers == [], line
