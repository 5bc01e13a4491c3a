"""Which limits an action of a collection has, once everything that is inherited is filled in.

A rule inherits the window, the maximum and the bucket of the collection, which inherits the defaults of
the server; a dimension inherits from its rule. Values of the collection itself limit its pushes, and so
does a limit without any value; an action that is read needs a rule of its own. ``identity`` counts callers, and anonymous ones by address; ``ip`` counts addresses;
``identity+ip`` counts both apart, and a request needs room in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starfish_server.config.schema import (
    CollectionRateLimitConfig,
    RateLimitBucket,
    RateLimitConfig,
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
    config: CollectionRateLimitConfig,
    action: RateLimitAction,
    defaults: RateLimitConfig | None = None,
) -> tuple[Limit, ...]:
    """The counters that a request must find room in; none when the action is not limited.

    Args:
        config: of the collection.
        action: of the request.
        defaults: of the server.

    Raises:
        ConfigError: a window or a maximum is missing, a rule has both a bucket and dimensions, or a
            dimension is not counted by the bucket.

    Examples:
        >>> config = CollectionRateLimitConfig(windowMs=60_000, maxRequests=10)
        >>> limits_of_action(config, "push")
        (Limit(by='identity', window_ms=60000, max_requests=10),)
    """
    rule: RateLimitRule | None = getattr(config, action)
    if rule is None:
        if action != "push" or _has_rules_only(config):
            return ()
        rule = RateLimitRule()
    problems: list[str] = []
    if rule.bucket is not None and (rule.identity is not None or rule.ip is not None):
        problems.append(f"{action} has both bucket and identity or ip; it must have one of the two")
    window = config.window_ms or (None if defaults is None else defaults.window_ms)
    most = config.max_requests or (None if defaults is None else defaults.max_requests)
    bucket = rule.bucket or config.bucket or _bucket_of_dimensions(rule)
    dimensions = {"identity": rule.identity, "ip": rule.ip}
    limits: list[Limit] = []
    for by in ("identity", "ip"):
        dimension = dimensions[by]
        if by not in bucket.split("+"):
            if dimension is not None:
                problems.append(
                    f"{action}.{by} has no effect with bucket {bucket!r}; the bucket must be 'identity+ip'"
                )
            continue
        dimension = dimension or RateLimitDimension()
        window_ms = dimension.window_ms or rule.window_ms or window
        max_requests = dimension.max_requests or rule.max_requests or most
        if window_ms is None or max_requests is None:
            missing = "windowMs" if window_ms is None else "maxRequests"
            problems.append(f"{action} counted by {by} has no {missing}, and inherits none")
        else:
            limits.append(Limit(by, window_ms, max_requests))
    if problems:
        raise ConfigError(problems)
    return tuple(limits)


def _has_rules_only(config: CollectionRateLimitConfig) -> bool:
    has_values = not (config.window_ms is None and config.max_requests is None)
    return not has_values and not (config.push is config.pull is config.list is None)


def _bucket_of_dimensions(rule: RateLimitRule) -> RateLimitBucket:
    if rule.ip is None:
        return "identity"
    return "ip" if rule.identity is None else "identity+ip"
