"""Every cap of the registry, its default, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = (
    "MAX_MANIFEST_BYTES",
    "MAX_MEDIA_TYPE_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_SIZE",
    "MAX_TEXT_BYTES",
    "Limits",
)

MAX_TEXT_BYTES: Final = 1024
"""Name, producer, subject, actor and the like, in UTF-8; they stand in every event and index."""
MAX_METADATA_BYTES: Final = 64 * 1024
"""Metadata of a package as canonical JSON; more belongs into a file of the package."""
MAX_MEDIA_TYPE_BYTES: Final = 255
"""Type, subtype and parameters."""
MAX_SIZE: Final = (1 << 53) - 1
"""Length of one file in bytes: the largest integer that JSON carries exactly (RFC 8785)."""
MAX_MANIFEST_BYTES: Final = 512 * 1024 * 1024
"""A manifest as CBOR: what `Limits.max_files` files with the longest paths come to. PostgreSQL
holds up to 1 GiB in one value, SQLite a little less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one registry accepts.

    Examples:
        >>> Limits(max_files=10).max_files
        10
    """

    max_files: int = 100_000
    """Files of one package: its manifest is one event, built and read as a whole."""
    max_batch: int = 256
    """Commands of one group commit: bounds how long the log stays locked for other processes."""
    pack_bytes: int = 64 * 1024
    """Files up to this length are stored in the database, in the transaction of their event; 0 for
    none. A longer one costs a file and two syncs less than it costs the database."""
    replay_page: int = 2_000
    """Events that replay, verification and tailing hold in memory at once."""
