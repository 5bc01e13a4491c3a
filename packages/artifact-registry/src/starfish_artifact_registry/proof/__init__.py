"""Proofs of packages: one file that is checked without the registry, its database or a network."""

from starfish_artifact_registry.model._merkle import verify_consistency
from starfish_artifact_registry.proof._command import main
from starfish_artifact_registry.proof._verify import (
    MAX_PROOF_BYTES,
    PROOF_FORMAT,
    PackageProof,
    ProvedEvent,
    encode_proof,
    verify_proof,
)

__all__ = (
    "MAX_PROOF_BYTES",
    "PROOF_FORMAT",
    "PackageProof",
    "ProvedEvent",
    "encode_proof",
    "main",
    "verify_consistency",
    "verify_proof",
)
