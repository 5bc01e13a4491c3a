"""The kind, hash and collection of a stored value, told from its key and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from starfish_server.config._path_template import PathTemplate, namespaced_key
from starfish_server.config._validate import located_collections
from starfish_server.config.schema import SyncConfig
from starfish_server.documents._append_text import Head
from starfish_server.documents._document_text import Snapshot
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.values import Stored

__all__ = ("CollectionOf", "StoredKind", "is_own_record", "kind_of", "version_of")

StoredKind = Literal["document", "append-only document", "bytes"]
_APPEND = b'{"v":1,"type":"append"'


def is_own_record(key: str) -> bool:
    """Whether a key is the server's own: no document has one with ``~``."""
    return key.startswith("~")


def kind_of(body: bytes, content_type: str) -> StoredKind:
    """Tell the kind of a value from its bytes and content type."""
    if content_type.partition(";")[0].strip() != "application/json":
        return "bytes"
    return "append-only document" if body.startswith(_APPEND) else "document"


def version_of(key: str, found: Stored) -> tuple[str, int]:
    """Hash and time of a stored value.

    Raises:
        DamagedDocumentError: it says that it is a document and is not one.
    """
    metadata = found.metadata
    kind = kind_of(found.body, metadata.content_type)
    if kind == "bytes":
        return metadata.hash or hashlib.sha256(found.body).hexdigest(), metadata.written_at
    parsed = (Head if kind == "append-only document" else Snapshot).parse(key, found.body)
    return parsed.hash, parsed.ts


@dataclass(frozen=True, slots=True)
class _Family:
    namespace: str | None
    name: str
    template: PathTemplate
    is_append_only: bool


class CollectionOf:
    """Tells which collection of a configuration a key belongs to."""

    def __init__(self, config: SyncConfig) -> None:
        self._families: Sequence[_Family] = [
            _Family(
                located.namespace,
                located.config.name,
                PathTemplate.parse(
                    located.config.storage_path
                    if located.config.bundle is None
                    else f"{located.config.storage_path}/{located.config.name}"
                ),
                located.config.append_only is not None,
            )
            for located in located_collections(config)
        ]

    def record(self, key: str, hash_: str, timestamp: int) -> ChangeRecord | None:
        """The line of the change log for a document, ``None`` when no collection has it."""
        found = self._find(key)
        if found is None:
            return None
        family, params = found
        return ChangeRecord(family.name, params, hash_, timestamp, namespace=family.namespace)

    def is_append_only(self, key: str) -> bool:
        """Whether the documents of the key's collection only grow."""
        found = self._find(key)
        return found is not None and found[0].is_append_only

    def _find(self, key: str) -> tuple[_Family, dict[str, str]] | None:
        for family in self._families:
            prefix = namespaced_key(family.namespace, "")
            params = family.template.match(key[len(prefix) :]) if key.startswith(prefix) else None
            if params is not None:
                return family, params
        return None
