"""Errors of the wire.

* MPackError
  - MPackFormatError            bytes that are not a pack, a record that breaks a rule (also a ValueError)
  - MPackIntegrityError         a hash that does not fit: expected, actual
  - MPackLimitError             limit, value, allowed: larger than the reader accepts (also a ValueError)
  - ObjectNotFoundError         object_id
  - RefConflictError            branch, expected, actual: somebody else moved it
  - NonFastForwardError         branch, head, current
  - IncompleteHistoryError      missing: a parent, snapshot or blob that neither pack nor store holds
  - DamagedHistoryError         commit_id: a history that cannot be, a commit that is its own ancestor
  - InvalidMessageError         a request or answer that is none of the protocol's (also a ValueError)
  - UnsafePathError             path: must not reach a working tree
  - OpenConflictsError          paths: of a merge that is not finished
  - LocalChangesError           paths: a checkout would destroy what no commit holds
  - UnsupportedFilesError       reasons by path: a commit cannot hold these
  - GitError                    what git holds has no place in a snapshot, or is not a repository
  - StoreError                  the local store cannot be opened, is full, is damaged
  - WireError                   what a peer answered, as its client sees it
    - RemoteNotFoundError       unknown, or not ours to know
    - RemoteRefusedError        status, code: 401, 403, 409, 422
    - RemoteUnavailableError    retries are used up
    - RemoteProtocolError       an answer that is none of the protocol's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starfish_protocol.errors import StarfishError

__all__ = (
    "DamagedHistoryError",
    "GitError",
    "IncompleteHistoryError",
    "InvalidMessageError",
    "LocalChangesError",
    "MPackError",
    "MPackFormatError",
    "MPackIntegrityError",
    "MPackLimitError",
    "NonFastForwardError",
    "ObjectNotFoundError",
    "OpenConflictsError",
    "RefConflictError",
    "RemoteNotFoundError",
    "RemoteProtocolError",
    "RemoteRefusedError",
    "RemoteUnavailableError",
    "StoreError",
    "UnsafePathError",
    "UnsupportedFilesError",
    "WireError",
)


class MPackError(StarfishError):
    """Base of every error that this package raises on purpose."""


class MPackFormatError(MPackError, ValueError):
    """Bytes are not a pack of this format, or a record breaks a rule of it."""


class MPackIntegrityError(MPackError):
    """Bytes do not have the id that was promised for them."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what} is {actual}, expected {expected}")
        self.what = what
        """The kind of thing that was hashed."""
        self.expected = expected
        """The id that was promised."""
        self.actual = actual
        """The id that the bytes have."""


class MPackLimitError(MPackError, ValueError):
    """Something is larger than the reader accepts."""

    def __init__(self, limit: str, value: int, allowed: int) -> None:
        super().__init__(f"{limit} is {value}, at most {allowed} are accepted")
        self.limit = limit
        """The field of `Limits` that was exceeded."""
        self.value = value
        """The value that was found or declared."""
        self.allowed = allowed
        """The most that is accepted."""


class ObjectNotFoundError(MPackError, KeyError):
    """An object is asked for that is not there."""

    def __init__(self, object_id: str) -> None:
        super().__init__(f"{object_id} is not there")
        self.object_id = object_id
        """The id that was asked for."""

    def __str__(self) -> str:
        # KeyError shows the representation of its argument.
        return str(self.args[0])


class RefConflictError(MPackError):
    """A branch or tag is not where the caller saw it: somebody else moved it."""

    def __init__(self, branch: str, expected: str | None, actual: str | None) -> None:
        super().__init__(
            f"{branch} is at {actual or 'no commit'}, expected at {expected or 'no commit'}"
        )
        self.branch = branch
        """The name of the branch or tag."""
        self.expected = expected
        """Where the caller saw it; ``None`` for nowhere."""
        self.actual = actual
        """Where it is; ``None`` for nowhere."""


class NonFastForwardError(MPackError):
    """A branch would lose commits: its tip is not an ancestor of the new one."""

    def __init__(self, branch: str, head: str, current: str) -> None:
        super().__init__(
            f"{branch} is at {current}, which is not an ancestor of {head}: "
            "fetch and build on it, or force"
        )
        self.branch = branch
        """The name of the branch."""
        self.head = head
        """Where it was to move."""
        self.current = current
        """Where it is."""


class IncompleteHistoryError(MPackError):
    """Neither the pack nor the store has something that a record needs."""

    def __init__(self, kind: str, missing: str, needed_by: str) -> None:
        super().__init__(
            f"the {kind} {missing}, which {needed_by} needs, is neither in the pack nor in the store"
        )
        self.kind = kind
        """``commit``, ``snapshot`` or ``blob``."""
        self.missing = missing
        """The id that is missing."""
        self.needed_by = needed_by
        """The id of the record that names it."""


class DamagedHistoryError(MPackError):
    """Stored commits form what cannot be a history."""

    def __init__(self, commit_id: str, reason: str) -> None:
        super().__init__(f"the history at {commit_id} is damaged: {reason}")
        self.commit_id = commit_id
        """A commit near the damage."""


class InvalidMessageError(MPackError, ValueError):
    """A request or an answer is none of the protocol's; the message names the place in it."""


class UnsafePathError(MPackError):
    """A path must not reach a working tree."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r} cannot be written: {reason}")
        self.path = path
        """The path of the snapshot."""
        self.reason = reason
        """What would go wrong."""


class OpenConflictsError(MPackError):
    """A merge is on its way, and files that hold the other sides of its conflicts are still there."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(paths[:5])}{' …' if len(paths) > 5 else ''} of the merge must be looked at and removed "
            "before a commit"
        )
        self.paths = tuple(paths)
        """The files."""


class LocalChangesError(MPackError):
    """A working tree has changes that no commit holds and that would be destroyed."""

    def __init__(self, paths: Sequence[str]) -> None:
        named = ", ".join(paths[:5]) + (" …" if len(paths) > 5 else "")
        super().__init__(
            f"{len(paths)} changed or new file{'s' * (len(paths) != 1)} would be overwritten "
            f"({named}): commit, move them away, or force"
        )
        self.paths = tuple(paths)
        """The files, sorted."""


class UnsupportedFilesError(MPackError):
    """A working tree has files that a snapshot cannot hold."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        named = ", ".join(f"{path} ({reason})" for path, reason in sorted(reasons.items())[:5])
        super().__init__(
            f"{len(reasons)} file{'s' * (len(reasons) != 1)} cannot be committed: "
            f"{named}{' …' if len(reasons) > 5 else ''}; remove them or name them in .mpackignore"
        )
        self.reasons = dict(reasons)
        """Why, by path."""


class GitError(MPackError):
    """A git repository cannot be read or written, or holds what has no place in a snapshot."""


class StoreError(MPackError):
    """The local store cannot be opened, is full or is damaged."""


class WireError(MPackError):
    """What a peer answered, or that it did not."""


class RemoteNotFoundError(WireError):
    """The peer has no such repo or commit, or does not tell."""


class RemoteRefusedError(WireError):
    """The peer refused: not allowed, a lost race, a bad pack."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(
            f"the server refused with {status} {code}" + (f": {message}" if message else "")
        )
        self.status = status
        """The HTTP status: 401, 403, 409, 413 or 422."""
        self.code = code
        """The ``error`` of the answer."""


class RemoteUnavailableError(WireError):
    """The peer did not give an answer in all the attempts that were made."""


class RemoteProtocolError(WireError):
    """The peer gave an answer that is none of the protocol's, or bytes that are not what it promised."""
