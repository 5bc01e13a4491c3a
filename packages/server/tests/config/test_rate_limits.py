"""What an action inherits."""

from typing import Any

import pytest

from starfish_server.config._rate_limits import Limit, RateLimitAction, limits_of_action
from starfish_server.config.schema import CollectionRateLimitConfig

CASES: list[tuple[dict[str, Any], RateLimitAction, tuple[Limit, ...]]] = [
    ({"windowMs": 9, "maxRequests": 3}, "pull", (Limit("identity", 9, 3),)),
    ({"windowMs": 9, "maxRequests": 3, "bucket": "ip"}, "list", (Limit("ip", 9, 3),)),
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
