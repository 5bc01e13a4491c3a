"""Negotiation: which commits to send, and the messages that say so. Nothing here does I/O."""

from __future__ import annotations

from starfish_mpack_wire.negotiation.commit_graph import (
    CommitGraph,
    CommitNode,
    GraftedGraph,
    InMemoryCommitGraph,
)
from starfish_mpack_wire.negotiation.delta import Delta, compute_delta, full_delta, is_ancestor
from starfish_mpack_wire.negotiation.haves import choose_haves
from starfish_mpack_wire.negotiation.messages import (
    BlobFilter,
    BlobsRequest,
    FetchRequest,
    PresignRequest,
    UnpackRequest,
)
from starfish_mpack_wire.negotiation.shallow import ShallowDelta, compute_shallow_delta

__all__ = (
    "BlobFilter",
    "BlobsRequest",
    "CommitGraph",
    "CommitNode",
    "Delta",
    "FetchRequest",
    "GraftedGraph",
    "InMemoryCommitGraph",
    "PresignRequest",
    "ShallowDelta",
    "UnpackRequest",
    "choose_haves",
    "compute_delta",
    "compute_shallow_delta",
    "full_delta",
    "is_ancestor",
)
