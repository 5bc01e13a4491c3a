"""Errors of the projection package.

* ProjectionError
  - TargetNotAListError       key, rule
  - UnknownSourceError        source, known
  - SetupError                reference
"""

from __future__ import annotations

from collections.abc import Sequence

from starfish_protocol.errors import StarfishError

__all__ = ("ProjectionError", "SetupError", "TargetNotAListError", "UnknownSourceError")


class ProjectionError(StarfishError):
    """Base of every error that this package raises on purpose."""


class TargetNotAListError(ProjectionError):
    """A target holds something else than a list document, which is left as it is."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(
            f"target {key[:200]!r} holds no list document and is left as it is: {rule}"
        )
        self.key = key
        """The storage key that was to be written."""
        self.rule = rule
        """What a list document has that this one lacks."""


class UnknownSourceError(ProjectionError, ValueError):
    """A projection names a source collection that the configuration does not have."""

    def __init__(self, source: str, known: Sequence[str]) -> None:
        super().__init__(
            f"source {source!r} is no JSON collection of the configuration; "
            f"legal are {', '.join(map(repr, known)) or 'none'}"
        )
        self.source = source
        """The name that was not found."""
        self.known = tuple(known)
        """The names that would have been legal."""


class SetupError(ProjectionError, ValueError):
    """What the command line named is no `starfish_projection.ProjectionSetup`."""

    def __init__(self, reference: str, problem: str) -> None:
        super().__init__(
            f"{reference!r} {problem}; "
            "legal is module:attribute of a ProjectionSetup, or of a function that returns one"
        )
        self.reference = reference
        """What was named."""
