"""The published clients sign in with capability certificates, unchanged, against ``starfish-server run``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import UV
from .test_public_javascript import run_in_peer

PEER = tuple(
    f"starfish-{name}==3.0.0a72" for name in ("sdk", "protocol", "identities", "sharing", "keyring")
)
ROLES = {
    "readRoles": ["cap:read:*", "cap:read:notes"],
    "writeRoles": ["cap:write:*", "cap:write:notes"],
}
CONFIG = {
    "collections": [
        {**ROLES, "name": "notes", "storagePath": "notes/{id}", "listable": True},
        {**ROLES, "name": "keys", "storagePath": "notes/{id}/_keyring"},
        {**ROLES, "name": "log", "storagePath": "log/{room}", "appendOnly": True},
        {**ROLES, "name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]},
        {
            "name": "settings",
            "storagePath": "users/{identity}/settings",
            "readRoles": ["self"],
            "writeRoles": ["self"],
        },
    ],
    "capabilities": {},  # no public host: certificates are good on loopback
}

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def signing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two workers on one data folder."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "starfish.json").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-m", "starfish_server", "run", "--config", "starfish.json"]
    command += ["--data", "data", "--port", "0", "--workers", "2"]
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=out, stderr=log)
    try:
        end = time.monotonic() + 60
        while not (said := re.search(r"listening on (\S+)", (folder / "out").read_text())):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield said[1]
    finally:
        server.terminate()
        server.wait(30)
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def signing_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signing-peer")
    python = folder / "venv" / "bin" / "python"
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"],
        [
            UV,
            "pip",
            "install",
            "--quiet",
            "--no-config",
            "--python",
            python,
            *PEER,
            "httpx==0.28.1",
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            pytest.skip(
                f"the public packages cannot be installed here: {done.stderr.strip()[-300:]}"
            )
    return python


def test_the_python_clients_sign_in(signing_python: Path, signing_server: str) -> None:
    script = Path(__file__).parent / "peer" / "certificates.py"
    done = subprocess.run(
        [signing_python, script, signing_server], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)

    assert seen == {
        "own_device_reads": {"theme": "dark"},
        "conflict": True,
        "merged": {"title": "hello", "by": {"laptop": 1, "phone": 2}},
        "keyring": {"epochs": {}},
        "log": [0, 1, 2],
        "batch": ["hello", None],
        "blob": True,
        "listed": ["1", "1/_keyring"],
        "events": ["notes/1"],
        "copies": [[200, 401], 1],
        "link_reads": "hello",
        "link_writes": 403,
        "link_elsewhere": 403,
        "member_reads": "from a friend",
        "member_elsewhere": 403,
        "anonymous": 403,
        "list": True,
        "revoked": [401] * 6,
        "other_device": 200,
    }


def test_the_javascript_client_signs_in(peer_folder: Path, signing_server: str) -> None:
    seen = run_in_peer(peer_folder, "certificates.mjs", signing_server)

    assert seen == {
        "own_device_reads": {"theme": "dark"},
        "merged": {"title": "hello", "by": {"laptop": 1, "phone": 2}},
        "log": [0, 1, 2],
        "blob": True,
        "batch": ["hello", None],
        "link_reads": "hello",
        "link_writes": 403,
        "list": True,
        "revoked": 401,
        "other_device": 200,
    }
