"""What this sender pushed itself; no I/O.

Rule: the entries of one document in a queue are its successive versions. A later one was made on top
of an earlier one, though the earlier one's hash on the server was not known yet.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from starfish_outbox._push.edit import Edit, hash_of
from starfish_outbox._push.merge import Document, merge_three_ways, without_deletions

REMEMBERED_DOCUMENTS = 256
"""Documents whose last push is kept in memory; the oldest goes first."""
REMEMBERED_HASHES = 64
"""Earlier hashes of one document that a waiting edit may still name."""


@dataclass(slots=True)
class OwnPush:
    """The last version of a document that we pushed."""

    source: Document
    """As the user had it."""
    server: Document
    """As the server has it: with the edits of others."""
    hash: str
    """Of the server's."""
    replaced: OrderedDict[str | None, None] = field(default_factory=OrderedDict[str | None, None])
    """Hashes that edits name which were made before this push, or on top of it."""
    bases: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])
    """Hashes of the documents that edits before this push were made from."""


class OwnPushes:
    """The last own push of each document."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, OwnPush] = OrderedDict()
        self._behind: OrderedDict[str, set[str]] = OrderedDict()
        self._older: OrderedDict[str, set[str]] = OrderedDict()

    def pushed(self, entry_id: str, edit: Edit, server: Document, digest: str) -> None:
        """Remember that an edit is on the server."""
        before = self._of.pop(edit.path, None)
        push = OwnPush(edit.body, server, digest)
        if before is not None:
            push.replaced.update(before.replaced)
            push.bases.update(before.bases)
            push.replaced[before.hash] = None
        push.replaced[edit.base_hash] = None
        push.replaced[hash_of(edit.body)] = None
        if edit.base is not None:
            push.bases[hash_of(edit.base)] = None
        for remembered in (push.replaced, push.bases):
            while len(remembered) > REMEMBERED_HASHES:
                remembered.popitem(last=False)
        self._of[edit.path] = push
        older = self._older.setdefault(edit.path, set())
        older |= self._behind.pop(edit.path, set())
        older.discard(entry_id)
        if not older:
            del self._older[edit.path]
        while len(self._of) > REMEMBERED_DOCUMENTS:
            path, _ = self._of.popitem(last=False)
            self._older.pop(path, None)

    def passed_over(self, entry_id: str, path: str) -> None:
        """Remember that an edit stays behind, while later ones of its document go on."""
        self._behind.setdefault(path, set()).add(entry_id)
        while len(self._behind) > REMEMBERED_DOCUMENTS:
            self._behind.popitem(last=False)

    def is_older(self, entry_id: str, path: str) -> bool:
        """Whether a later edit of the document was sent before this one."""
        return entry_id in self._older.get(path, ())

    def before(self, edit: Edit) -> OwnPush | None:
        """The own push that an edit was made on top of, where its hash is not the server's."""
        push = self._of.get(edit.path)
        if push is None or edit.base_hash == push.hash or edit.base_hash not in push.replaced:
            return None
        return push


def on_top_of(push: OwnPush, edit: Edit) -> tuple[Edit, Document]:
    """The same edit with the base that it was made from, and the document to push over the last one.

    An edit that names its base was made with the whole document in view: fields that it does not
    have were deleted. One that names the base of an earlier edit was made on top of that one all
    the same: the application had nothing newer. Without a base nothing is guessed away.
    """
    base = edit.base
    if base is None:
        base = without_deletions(push.source, edit.body)
    elif hash_of(base) in push.bases:
        base = push.source
    merged = merge_three_ways(base, edit.body, push.server)
    return replace(edit, base=base), merged.document
