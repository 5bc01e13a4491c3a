"""An item ``{"path", "body", "baseHash", "base"}``: what it must be, and what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from starfish_outbox._push.merge import Document, with_steps
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox.errors import Refused
from starfish_protocol.constants import PUSH_PATH_PREFIX
from starfish_protocol.hash import compute_hash

SEGMENT = re.compile(r"[A-Za-z0-9._:@-]+")
"""The characters that a server takes between two slashes."""
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Edit:
    """A document and what it was made from."""

    path: str
    body: Document
    base_hash: str | None
    """``None``: the document is new."""
    base: Document | None
    """The document that was edited; ``None`` when it is not known."""


def parse_edit(item: object) -> Edit:
    """The edit of an item.

    Raises:
        Refused: it is not one; the message names the member.
    """
    if not isinstance(item, dict):
        raise Refused(f"the item is {type(item).__name__}, must be an object")
    fields = cast("dict[str, object]", item)
    path, body, base_hash = fields.get("path"), fields.get("body"), fields.get("baseHash")
    base = fields.get("base")
    if not isinstance(body, dict):
        raise Refused(f"body is {type(body).__name__}, must be an object")
    if base is not None and not isinstance(base, dict):
        raise Refused(f"base is {type(base).__name__}, must be an object")
    if base_hash is not None and not isinstance(base_hash, str):
        raise Refused(f"baseHash is {type(base_hash).__name__}, must be text or null")
    if base_hash is not None and not HASH.fullmatch(base_hash):
        raise Refused(f"baseHash is {base_hash[:80]!r}, must be 64 lowercase hex digits or null")
    return Edit(
        path_of(path),
        cast("Document", body),
        base_hash,
        cast("Document | None", base),
    )


def check_edit(item: object) -> None:
    """Refuse an item that a server would never take, a lone surrogate in it included.

    Raises:
        Refused: the message names the member.
    """
    edit = parse_edit(item)
    for path, text in _texts("body", edit.body):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused(f"{path[:200]} holds a lone surrogate") from None
    hash_of(edit.body)


def path_of(path: object) -> str:
    """The key of a document, with or without ``/push/`` before it.

    Raises:
        Refused: it is not the key of a document.
    """
    if not isinstance(path, str):
        raise Refused(f"path is {type(path).__name__}, must be text")
    key = path.removeprefix(PUSH_PATH_PREFIX).removeprefix("/")
    if any(s in {".", ".."} or not SEGMENT.fullmatch(s) for s in key.split("/")):
        raise Refused(f"path {path[:200]!r} is refused: letters, digits, . _ : @ - and /")
    return key


def lane_of(entry: OutboxEntry) -> tuple[str, str]:
    """One lane a document; an item that is not an edit has a lane of its own."""
    try:
        return ("path", path_of(cast("dict[str, object]", entry.item)["path"]))
    except (Refused, TypeError, KeyError):
        return ("id", entry.id)


def combine(entries: Sequence[OutboxEntry]) -> OutboxEntry | None:
    """One entry with the newest body and the oldest base; ``None`` when one is not an edit."""
    try:
        edits = [parse_edit(entry.item) for entry in entries]
    except Refused:
        return None
    oldest, newest = edits[0], edits[-1]
    item: dict[str, Any] = {
        **entries[-1].item,
        "path": newest.path,
        "body": newest.body,
        "baseHash": oldest.base_hash,
    }
    item.pop("base", None)
    if oldest.base is not None:
        item["base"] = with_steps(oldest.base, [edit.body for edit in edits])
    last = entries[-1]
    return OutboxEntry(
        last.id, item, entries[0].status, entries[0].attempts, last.enqueued_at, last.failure
    )


def hash_of(body: Document) -> str:
    """The hash that a server gives for a document.

    Raises:
        Refused: the document has no canonical form.
    """
    try:
        return compute_hash(body)
    except (TypeError, ValueError) as error:
        raise Refused(f"body has no hash: {error}") from error


def _texts(path: str, value: object) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    waiting: list[tuple[str, object]] = [(path, value)]
    while waiting:
        place, here = waiting.pop()
        if isinstance(here, str):
            found.append((place, here))
        elif isinstance(here, dict):
            for name, member in cast("dict[str, object]", here).items():
                found.append((f"a name in {place}", name))
                waiting.append((f"{place}[{name!r}]", member))
        elif isinstance(here, list | tuple):
            items = cast("list[object]", here)
            waiting += [(f"{place}[{i}]", member) for i, member in enumerate(items)]
    return found
