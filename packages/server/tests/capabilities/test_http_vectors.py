"""The literal requests of the published clients, and the answers that are right for them.

``http-auth``, ``http-batch`` and ``http-refusals`` run in this order on one fresh server whose clock
stands still, as the files say. `right` replaces `peer` where the published server is wrong.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from starfish_protocol.hash import stable_stringify
from starfish_protocol.testing import ManualClock
from starfish_server import MemoryObjectStore
from starfish_server.app import create_app
from starfish_server.config import parse_config
from starfish_server.storage.sqlite import SqliteObjectStore

VECTORS = Path(__file__).parents[1] / "vectors"
FILES = ("http-auth", "http-batch", "http-refusals")
LOADED: dict[str, dict[str, Any]] = {
    name: json.loads((VECTORS / f"{name}.json").read_text()) for name in FILES
}
AUTH = LOADED["http-auth"]
STEPS = [(name, step) for name in FILES for step in LOADED[name]["steps"]]
# A push of bytes tells its time as well, as a push of JSON does.
MEMBERS_OF_OURS = {"blob": {"timestamp"}}


def expanded(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value["text"] + value["thenRepeat"] * value["times"])


def authorization(value: Any) -> str:
    text = expanded(value)
    if not text.startswith("@"):
        return text
    cap = stable_stringify(AUTH["caps"][text[1:]])
    return "Cap " + base64.b64encode(cap.encode()).decode()


def body_of(request: dict[str, Any]) -> bytes | None:
    if "bodyRepeat" in request:
        repeat = request["bodyRepeat"]
        return str(repeat["text"] * repeat["times"]).encode()
    if "bodyBase64" in request:
        return base64.b64decode(request["bodyBase64"])
    return None if request.get("body") is None else str(request["body"]).encode()


def path_of(request: dict[str, Any]) -> str:
    path = request["path"]
    if isinstance(path, str):
        return path
    count, each = path["params"].split(" times ")
    params = json.dumps({path["batch"]: [json.loads(each)] * int(count)})
    return f"/batch/pull?collections={path['batch']}&params={quote(params)}"


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def send(client: httpx.AsyncClient, request: dict[str, Any]) -> httpx.Response:
    headers = {name: expanded(value) for name, value in request["headers"].items()}
    if "Authorization" in headers:
        headers["Authorization"] = authorization(request["headers"]["Authorization"])
    content: Any = body_of(request)
    if request.get("noContentLength"):
        content = in_pieces(content)
    # The target goes out as it is written, since that text was signed.
    url = httpx.URL(f"http://{request['host']}").copy_with(raw_path=path_of(request).encode())
    return await client.request(request["method"], url, headers=headers, content=content)


def judge(step: dict[str, Any], answer: httpx.Response) -> list[str]:
    wanted = step.get("right") or step["peer"]
    if "entryError" in wanted:
        (entries,) = answer.json()["collections"].values()
        got = (answer.status_code, entries)
        return [] if got == (200, [{"error": wanted["entryError"]}]) else [f"{got}"]
    faults = []
    if answer.status_code != wanted["status"]:
        faults.append(f"{answer.status_code} instead of {wanted['status']}: {answer.text[:200]}")
    elif "json" in wanted:
        got = answer.json()
        for name in MEMBERS_OF_OURS.get(step["name"], ()):
            got.pop(name)
        if got != wanted["json"]:
            faults.append(f"{got} instead of {wanted['json']}")
    elif "bodyBase64" in wanted and answer.content != base64.b64decode(wanted["bodyBase64"]):
        faults.append(f"{answer.content!r}")
    for name, value in wanted.get("headers", {}).items():
        if value not in answer.headers.get(name, ""):
            faults.append(f"{name}: {answer.headers.get(name)} instead of {value}")
    return faults


@pytest.fixture(params=["memory", "sqlite"])
async def client(request: Any, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    clock = ManualClock(AUTH["nowMs"])
    config = parse_config({**AUTH["config"], "capabilities": {"publicHosts": ["sync.example"]}})
    store = (
        MemoryObjectStore(clock=clock)
        if request.param == "memory"
        else SqliteObjectStore(tmp_path / "documents.sqlite", clock=clock)
    )
    app = create_app(config, store=store, clock=clock)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport) as client:
            yield client


async def test_every_step_has_the_answer_that_is_right(client: httpx.AsyncClient) -> None:
    faults: dict[str, list[str]] = {}
    revoked = False
    for file, step in STEPS:
        if step["group"] == "revoked" and not revoked:
            revoked = True
            listed = LOADED["http-refusals"]["revocationBeforeGroupRevoked"]
            accepted = await client.post("http://sync.example/revocations", json=listed)
            assert (accepted.status_code, accepted.json()) == (200, {"ok": True, "generation": 1})
        found = judge(step, await send(client, step["request"]))
        if found:
            faults[f"{file} {step['group']} {step['name']} ({step['means']})"] = found

    assert revoked
    assert len(STEPS) == 155
    assert not faults, json.dumps(faults, indent=1)
