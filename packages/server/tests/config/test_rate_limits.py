"""What an action inherits."""

from typing import Any

import pytest

from starfish_server.config._rate_limits import Limit, RateLimitAction, limits_of_action
from starfish_server.config.schema import CollectionRateLimitConfig, RateLimitConfig

CASES: list[tuple[dict[str, Any], RateLimitAction, tuple[Limit, ...]]] = [
    ({"windowMs": 9, "maxRequests": 3}, "push", (Limit("identity", 9, 3),)),
    ({"windowMs": 9, "maxRequests": 3}, "pull", ()),
    ({"windowMs": 9, "maxRequests": 3, "bucket": "ip", "list": {}}, "list", (Limit("ip", 9, 3),)),
    ({"windowMs": 9, "maxRequests": 3, "push": {"maxRequests": 1}}, "push",
     (Limit("identity", 9, 1),)),
    ({"push": {"windowMs": 9, "maxRequests": 1}}, "pull", ()),
    ({"bucket": "identity+ip", "windowMs": 9, "maxRequests": 3, "push": {"ip": {"windowMs": 5}}},
     "push", (Limit("identity", 9, 3), Limit("ip", 5, 3))),
    ({"windowMs": 9, "push": {"identity": {"maxRequests": 1}, "ip": {"maxRequests": 7}}}, "push",
     (Limit("identity", 9, 1), Limit("ip", 9, 7))),
    ({"windowMs": 9, "push": {"ip": {"maxRequests": 7}}}, "push", (Limit("ip", 9, 7),)),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "action", "expected"), CASES, ids=str)
def test_what_a_rule_leaves_out_is_inherited(
    raw: dict[str, Any], action: RateLimitAction, expected: tuple[Limit, ...]
) -> None:
    config = CollectionRateLimitConfig.model_validate(raw)

    assert limits_of_action(config, action) == expected


@pytest.mark.parametrize(
    ("raw", "action", "expected"),
    [
        ({}, "push", (Limit("identity", 60, 5),)),
        ({}, "pull", ()),
        ({"maxRequests": 2}, "push", (Limit("identity", 60, 2),)),
        ({"pull": {}}, "pull", (Limit("identity", 60, 5),)),
        ({"pull": {}}, "push", ()),
        ({"push": {"ip": {"maxRequests": 1}}}, "push", (Limit("ip", 60, 1),)),
    ],
    ids=str,
)
def test_what_a_collection_leaves_out_is_the_servers(
    raw: dict[str, Any], action: RateLimitAction, expected: tuple[Limit, ...]
) -> None:
    config = CollectionRateLimitConfig.model_validate(raw)

    assert limits_of_action(config, action, RateLimitConfig(windowMs=60, maxRequests=5)) == expected
