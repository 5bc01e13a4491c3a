"""Results of pulls and pushes, and the stored form of a document."""

from starfish_server.documents._types import (
    AuthorProof,
    PullResult,
    PushConflict,
    PushSuccess,
    StoredDocument,
)

__all__ = ("AuthorProof", "PullResult", "PushConflict", "PushSuccess", "StoredDocument")
