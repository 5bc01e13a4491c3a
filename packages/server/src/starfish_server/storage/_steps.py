"""The steps of `ObjectStore.apply`, checked without the store."""

from __future__ import annotations

from collections.abc import Sequence

from starfish_server.storage._checks import check_size
from starfish_server.storage.keys import check_key
from starfish_server.storage.object_store import Step, Write
from starfish_server.storage.values import StoreLimits

__all__ = ("check_steps",)


def check_steps(steps: Sequence[Step], limits: StoreLimits) -> None:
    """Check what can be checked of the steps of `ObjectStore.apply` without the store.

    Raises:
        InvalidKeyError: a key breaks the rule.
        ValueError: two steps name one key.
        ValueTooLargeError: a value is longer than the store holds.
    """
    keys: set[str] = set()
    for step in steps:
        if check_key(step.key) in keys:
            raise ValueError(f"two steps name the key {step.key!r}; each key may be named once")
        keys.add(step.key)
        if isinstance(step, Write):
            check_size(step.key, len(step.value.body), limits)
