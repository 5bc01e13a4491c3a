"""Callers who may write and not read: no refusal tells them of the document."""

from __future__ import annotations

from typing import Any

import pytest

from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import AuthorizeResult, PullHookResult, ServerPlugin

APPEND = {"type": "by_timestamp", "requireAuthorSignature": False}
CASES = [
    pytest.param({"readRoles": ["staff"]}, {}, id="roles"),
    pytest.param({"readRoles": ["public"], "pushOnly": True}, {}, id="push-only"),
    pytest.param(
        {},
        {
            "plugins": [
                ServerPlugin(
                    "no pulls",
                    authorize=lambda context: AuthorizeResult(
                        "reject" if context.action == "pull" else "proceed"
                    ),
                )
            ]
        },
        id="authorize",
    ),
    pytest.param(
        {},
        {"plugins": [ServerPlugin("no pulls", before_pull=lambda _: PullHookResult("reject"))]},
        id="before-pull",
    ),
]


@pytest.mark.parametrize(("fields", "options"), CASES)
async def test_a_conflict_tells_neither_content_nor_existence(
    serve: Any, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    served = serve(fields, **options)
    assert (await served.push("notes/ada", {"vote": "yes"})).status_code == 200

    there = await served.push("notes/ada", {}, "0" * 64)
    absent = await served.push("notes/ben", {}, "0" * 64)

    assert there.status_code == absent.status_code == 409
    assert there.json() == absent.json() == {"error": "hash_mismatch"}


@pytest.mark.parametrize(("fields", "options"), CASES)
async def test_a_late_element_does_not_tell_the_time_of_the_latest(
    serve: Any, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    served = serve({**fields, "appendOnly": APPEND}, **options)
    assert (await served.post("/push/notes/ada", {"data": {}})).status_code == 200

    late = await served.post("/push/notes/ada", {"data": {}, "ts": 5})

    assert (late.status_code, late.json()) == (409, {"error": "non_monotonic_timestamp"})


async def test_readers_are_told(serve: Any) -> None:
    served = serve({"readRoles": ["staff"]})
    await served.push("notes/ada", {"vote": "yes"})

    told = await served.push("notes/ada", {}, "0" * 64, roles="staff")

    assert told.json()["currentHash"] == compute_hash({"vote": "yes"})
