"""Checks of stored bytes: their reports."""

from starfish_artifact_registry.fixity._check import (
    FixityProgress,
    FixityReport,
    FixitySummary,
)

__all__ = ("FixityProgress", "FixityReport", "FixitySummary")
