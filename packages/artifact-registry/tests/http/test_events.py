"""The log as server-sent events: in order, resumable, bounded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.registry import Registry
from starfish_http.events import COMMENT


async def make_package(registry: Registry, name: str) -> None:
    await registry.create_package(
        name=name, producer="p", subject="s", retention_class="raw-evidence", actor="ada"
    )


def events_of(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if line[0] != ":")
        if fields:
            data = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(data["sequence"]), data["event_type"])
            found.append(data)
    return found


@pytest.fixture
def limits() -> HttpLimits:
    return HttpLimits(heartbeat_s=0.1, event_stream_s=1.0, max_event_streams=1)


async def test_the_log_comes_in_order_and_then_what_is_new(
    client: httpx.AsyncClient, registry: Registry
) -> None:
    await make_package(registry, "one")
    asking = asyncio.ensure_future(client.get("/events"))
    await asyncio.sleep(0.1)
    await make_package(registry, "two")

    answer = await asking

    assert answer.headers["content-type"] == "text/event-stream"
    assert "no-store" in answer.headers["cache-control"]
    events = events_of(answer.text)
    assert [event["sequence"] for event in events] == [1, 2]
    assert [event["payload"]["name"] for event in events] == ["one", "two"]
    assert events[1]["prev_digest"] == events[0]["event_digest"]
    assert COMMENT.decode() in answer.text


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ("?since=2", {}, 3),
        ("", {"last-event-id": "1"}, 2),
        ("?since=1", {"last-event-id": "2"}, 3),
    ],
)
async def test_a_stream_resumes_behind_the_last_event_that_is_known(
    client: httpx.AsyncClient, registry: Registry, query: str, headers: dict[str, str], first: int
) -> None:
    for number in range(3):
        await make_package(registry, f"package {number}")

    answer = await client.get(f"/events{query}", headers=headers)

    assert [event["sequence"] for event in events_of(answer.text)] == list(range(first, 4))


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?since=-1", {}),
        ("?since=x", {}),
        (f"?since={2**53}", {}),
        ("", {"last-event-id": "x"}),
        ("", {"last-event-id": "-1"}),
        ("", {"last-event-id": "9" * 17}),
    ],
)
async def test_a_place_that_is_none_is_refused(
    client: httpx.AsyncClient, query: str, headers: dict[str, str]
) -> None:
    answer = await client.get(f"/events{query}", headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")


async def test_there_are_only_so_many_streams_at_a_time(client: httpx.AsyncClient) -> None:
    first = asyncio.ensure_future(client.get("/events"))
    for _ in range(50):  # steps of the first one, however slow the machine is
        await asyncio.sleep(0)

    second = await client.get("/events")

    assert (second.status_code, second.json()["error"]) == (503, "too_many_streams")
    assert second.headers["retry-after"] == "5"
    assert (await first).status_code == 200
    assert (await client.get("/events")).status_code == 200  # its place is free again


async def test_the_manifest_is_not_in_the_stream(client: httpx.AsyncClient, package: str) -> None:
    digest = (await client.post(f"{package}/finalize")).json()["manifest_digest"]

    events = events_of((await client.get("/events")).text)

    assert (events[-1]["payload"], events[-1]["payload_digest"]) == (None, digest)
