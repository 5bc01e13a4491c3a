"""The two-minute story of the README runs as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="needs the extra cli")

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(
    not shutil.which("curl") or not shutil.which("bash"), reason="needs a shell and curl"
)
def test_the_story_of_the_readme_runs(tmp_path: Path) -> None:
    found = re.search(
        r"^```console\n(mpack init.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    program = tmp_path / "bin/mpack"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom starfish_mpack_wire.cli import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment.pop("MPACK_TOKEN", None)
    with socket.socket() as holder:
        # It does not listen: the server may, and nobody else gets the port meanwhile.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        script = found[1].replace("8765", str(holder.getsockname()[1]))
        story = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script + "\nkill %1\nwait %1 || true\n"],
            cwd=tmp_path / "empty",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = story.communicate(timeout=170)
        finally:
            if story.poll() is None:
                os.killpg(story.pid, signal.SIGKILL)

    assert story.returncode == 0, errors
    assert "first letter" in output
    assert "all is well" in errors
    assert (tmp_path / "empty/elsewhere/letter.txt").read_text() == "hello\n"
