"""Errors of the projection package.

* ProjectionError
  - TargetNotAListError       key, rule
  - UnknownSourceError        source, known
  - SetupError                reference
  - SeveralProcessesError     store
"""

from __future__ import annotations

from collections.abc import Sequence

from starfish_protocol.errors import StarfishError

__all__ = (
    "ProjectionError",
    "SetupError",
    "SeveralProcessesError",
    "TargetNotAListError",
    "UnknownSourceError",
)


class ProjectionError(StarfishError):
    """Base of every error that this package raises on purpose."""


class TargetNotAListError(ProjectionError):
    """A target holds something else than a list document, which is left as it is."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(
            f"target {key[:200]!r} does not hold a list document and is left as it is: {rule}"
        )
        self.key = key
        """The storage key that was to be written."""
        self.rule = rule
        """What a list document has that this one lacks."""


class UnknownSourceError(ProjectionError, ValueError):
    """A projection names a source collection that the configuration does not have."""

    def __init__(self, source: str, known: Sequence[str]) -> None:
        super().__init__(
            f"source {source!r} is not a JSON collection of the configuration; "
            f"it must be one of {', '.join(map(repr, known)) or 'none'}"
        )
        self.source = source
        """The name that was not found."""
        self.known = tuple(known)
        """The names that are allowed."""


class SetupError(ProjectionError, ValueError):
    """The reference on the command line does not lead to a `starfish_projection.ProjectionSetup`."""

    def __init__(self, reference: str, problem: str) -> None:
        super().__init__(
            f"{reference!r} {problem}; "
            "it must be module:attribute of a ProjectionSetup, or of a function that returns one"
        )
        self.reference = reference
        """The reference that was given."""


class SeveralProcessesError(ProjectionError):
    """Another process keeps the lists on a store that has no change log."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"another process keeps these lists, and {store} has no change log that two could "
            "share; run one process, or use a store that keeps a change log"
        )
        self.store = store
        """Class of the store."""
