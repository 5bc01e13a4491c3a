"""Which limits an action of a collection has, once everything that is inherited is filled in.

A rule inherits the window, the maximum and the bucket of the collection; a dimension those of its
rule. ``identity`` counts callers, and anonymous ones by address; ``ip`` counts addresses;
``identity+ip`` counts both apart, and a request needs room in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starfish_server.config.schema import (
    CollectionRateLimitConfig,
    RateLimitBucket,
    RateLimitDimension,
    RateLimitRule,
)
from starfish_server.errors import ConfigError

__all__ = ("ACTIONS", "Limit", "RateLimitAction", "limits_of_action")

RateLimitAction = Literal["push", "pull", "list"]
"""What a request does to a collection."""
ACTIONS: tuple[RateLimitAction, ...] = ("push", "pull", "list")
"""Every action that can be limited."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One counter of an action."""

    by: Literal["identity", "ip"]
    """Whom it counts."""
    window_ms: int
    max_requests: int


def limits_of_action(
    config: CollectionRateLimitConfig, action: RateLimitAction
) -> tuple[Limit, ...]:
    """The counters that a request must find room in; none when the action is not limited.

    Raises:
        ConfigError: a window or a maximum is missing, or a dimension is not counted by the bucket.

    Examples:
        >>> config = CollectionRateLimitConfig(windowMs=60_000, maxRequests=10)
        >>> limits_of_action(config, "push")
        (Limit(by='identity', window_ms=60000, max_requests=10),)
    """
    rule: RateLimitRule | None = getattr(config, action)
    if rule is None:
        if config.window_ms is None and config.max_requests is None:
            return ()
        rule = RateLimitRule()
    bucket = rule.bucket or config.bucket or _bucket_of_dimensions(rule)
    dimensions = {"identity": rule.identity, "ip": rule.ip}
    limits: list[Limit] = []
    problems: list[str] = []
    for by in ("identity", "ip"):
        dimension = dimensions[by]
        if by not in bucket.split("+"):
            if dimension is not None:
                problems.append(
                    f"{action}.{by} has no effect with bucket {bucket!r}; the bucket must be 'identity+ip'"
                )
            continue
        dimension = dimension or RateLimitDimension()
        window_ms = dimension.window_ms or rule.window_ms or config.window_ms
        max_requests = dimension.max_requests or rule.max_requests or config.max_requests
        if window_ms is None or max_requests is None:
            missing = "windowMs" if window_ms is None else "maxRequests"
            problems.append(f"{action} counted by {by} has no {missing}, and inherits none")
        else:
            limits.append(Limit(by, window_ms, max_requests))
    if problems:
        raise ConfigError(problems)
    return tuple(limits)


def _bucket_of_dimensions(rule: RateLimitRule) -> RateLimitBucket:
    if rule.ip is None:
        return "identity"
    return "ip" if rule.identity is None else "identity+ip"
