"""Fields of a document that not every reader or writer of it may touch.

A reader gets the document without the fields hidden from them, and its hash, so that they can
push. What they push replaces what they saw: a hidden field that they do not mention stays as it
is, since they could not have meant to remove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starfish_protocol.hash import stable_stringify
from starfish_server.requests._access import holds
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.base import StoreContext

__all__ = ("check_removal", "hidden_fields", "merge_push")


def hidden_fields(collection: ServedCollection, context: StoreContext) -> frozenset[str]:
    """Names of the fields that a caller may not see, whether or not a document has them."""
    return _without_role(collection.hidden_fields, context)


def merge_push(
    collection: ServedCollection,
    current: Mapping[str, Any],
    pushed: dict[str, Any],
    context: StoreContext,
) -> dict[str, Any]:
    """The document that a push makes of the stored one.

    Raises:
        RequestRefusedError: 403 when it changes a field that the caller may not write; the answer
            names no field that the caller may not see.
    """
    hidden = hidden_fields(collection, context)
    kept = {name: current[name] for name in hidden if name in current and name not in pushed}
    merged = {**pushed, **kept}
    for name in _without_role(collection.guarded_fields, context):
        # A hidden field is refused for being mentioned: comparing it would tell what it holds.
        changed = name in pushed if name in hidden else _differs(name, current, merged)
        if changed:
            roles = ", ".join(sorted(collection.guarded_fields[name]))
            raise RequestRefusedError(403, f'Forbidden: field "{name}" requires roles: {roles}')
    return merged


def check_removal(collection: ServedCollection, context: StoreContext) -> None:
    """Refuse the removal of a document to a caller who may not change each of its fields.

    It is refused whether or not the document has such a field, so that nothing can be learnt.

    Raises:
        RequestRefusedError: 403; the answer names no field that the caller may not see.
    """
    unwritable = _without_role(collection.guarded_fields, context)
    if unwritable:
        shown = sorted(unwritable - hidden_fields(collection, context))
        fields: dict[str, Any] = {"field": shown[0]} if shown else {}
        raise RequestRefusedError(403, "Field not writable", **fields)


def _differs(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if (name in one) != (name in other):
        return True
    # As the protocol compares: 1 and 1.0 are one number, 1 and true are not.
    return name in one and stable_stringify(one[name]) != stable_stringify(other[name])


def _without_role(fields: Mapping[str, frozenset[str]], context: StoreContext) -> frozenset[str]:
    return frozenset(
        name
        for name, wanted in fields.items()
        if not holds(wanted, context.roles, context.identity, context.params)
    )
