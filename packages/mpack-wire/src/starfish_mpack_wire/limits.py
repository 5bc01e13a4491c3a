"""Every cap of the package, its default and why.

A cap bounds what a peer can make this side read, allocate or compute; none is a matter of taste.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Limits",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is accepted from a peer. All sizes are bytes.

    Examples:
        >>> Limits(max_wants=1).max_wants
        1
    """

    max_wants: int = 256
    """Commits or branches that one fetch may ask for: each is a start of a walk."""
    max_haves: int = 1024
    """Commits that one fetch may offer; a client's list grows with the logarithm of its history."""
    max_shallow: int = 4096
    """Commits that a client may hold without their parents; deeper fetches merge them."""
    max_depth: int = 1_000_000
    """Steps that a shallow fetch may ask for; more than any history has is a mistake."""
    max_path_prefixes: int = 256
    """Prefixes that a partial fetch may name: each path of each snapshot is compared with them."""
    max_wanted_blobs: int = 10_000
    """Single blobs that one request may ask for."""
    max_message_bytes: int = 2 * 1024 * 1024
    """A request or an answer other than a pack: 10,000 ids and room to spare."""
    max_path_bytes: int = 4096
    """A path of a snapshot, and a prefix that is asked for: the limit of common systems."""
