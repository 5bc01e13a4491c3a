"""The log as a transparency log: heads of its tree, signed notes, witnesses (C2SP)."""

from starfish_artifact_registry.model._signed_note import (
    NoteKey,
    NoteSignature,
    SignedNote,
    cosign_note,
    note_key_of,
    sign_note,
)
from starfish_artifact_registry.model._tree_head import TreeHead

__all__ = (
    "NoteKey",
    "NoteSignature",
    "SignedNote",
    "TreeHead",
    "cosign_note",
    "note_key_of",
    "sign_note",
)
