"""Signed checkpoints of the log's end."""

from starfish_artifact_registry.model._checkpoint import (
    CHECKPOINT_FORMAT,
    Checkpoint,
    sign_checkpoint,
)

__all__ = ("CHECKPOINT_FORMAT", "Checkpoint", "sign_checkpoint")
