"""Errors that a server answers with.

* MPackError
  - ServerError                 base of these
    - RepoNotFoundError         unknown, or not for this caller to know; one answer for both
    - ForbiddenError            may read, may not write
    - UnknownWantError          a commit, branch or blob that this repository does not have
    - PackNotUploadedError      mpack_id: its bytes never came to this repository
    - RequestTooLargeError      a pack over the cap
    - QuotaExceededError        the owner keeps as much as is allowed
    - UnpackBusyError           as much is unpacked at once as memory allows
    - BlobUnavailableError      object_id: no row in the index, or its bytes are gone
    - PackBuildingError         the build takes longer than a request should
    - StorageUnavailableError   the database or the object storage failed
    - RepoExistsError           a repository of this name is there already
"""

from __future__ import annotations

from starfish_mpack_wire.errors import MPackError

__all__ = (
    "BlobUnavailableError",
    "ForbiddenError",
    "PackBuildingError",
    "PackNotUploadedError",
    "QuotaExceededError",
    "RepoExistsError",
    "RepoNotFoundError",
    "RequestTooLargeError",
    "ServerError",
    "StorageUnavailableError",
    "UnknownWantError",
    "UnpackBusyError",
)


class ServerError(MPackError):
    """Base of what only a server raises."""


class RepoNotFoundError(ServerError):
    """There is not a such repository, or the caller may not know of it."""

    def __init__(self) -> None:
        super().__init__("there is no such repository")


class ForbiddenError(ServerError):
    """The caller may read this repository and may not change it."""

    def __init__(self) -> None:
        super().__init__("this token may not write here")


class UnknownWantError(ServerError):
    """Something is asked for that this repository does not have."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"this repository has no {kind} {name}")
        self.kind = kind
        """``commit``, ``branch`` or ``blob``."""
        self.name = name
        """The thing asked for."""


class PackNotUploadedError(ServerError):
    """A pack is to be taken in whose bytes were not uploaded to this repository."""

    def __init__(self, mpack_id: str) -> None:
        super().__init__(f"the pack {mpack_id} was not uploaded here: presign and PUT it first")
        self.mpack_id = mpack_id
        """The pack."""


class RequestTooLargeError(ServerError):
    """A pack that is announced or uploaded is over the cap."""

    def __init__(self, what: str, allowed: int) -> None:
        super().__init__(f"the {what} is too large: at most {allowed} bytes are accepted")
        self.what = what
        """``pack``."""
        self.allowed = allowed
        """Bytes."""


class QuotaExceededError(ServerError):
    """The packs of an owner would be over the cap."""

    def __init__(self, owner: str, kept: int, new: int, allowed: int) -> None:
        super().__init__(
            f"{owner} keeps {kept} bytes and may keep {allowed}: there is no room for {new} more"
        )
        self.owner = owner
        """Whose packs."""
        self.allowed = allowed
        """Bytes."""


class UnpackBusyError(ServerError):
    """As many packs are unpacked as memory allows, and the request has waited long enough."""

    def __init__(self) -> None:
        super().__init__("other packs are being unpacked: send the same request again")


class BlobUnavailableError(ServerError):
    """A blob that is needed has no row in the index, or the bytes that its row names are gone or damaged."""

    def __init__(self, object_id: str) -> None:
        super().__init__(f"the blob {object_id} is not available now")
        self.object_id = object_id
        """The blob, or the pack that should hold it."""


class PackBuildingError(ServerError):
    """A pack is being built, and the request has waited long enough."""

    def __init__(self) -> None:
        super().__init__("the pack is being built: ask again for the same")


class StorageUnavailableError(ServerError):
    """The database or the object storage failed; nothing was half done."""


class RepoExistsError(ServerError):
    """A repository of this name is there already."""

    def __init__(self, owner: str, slug: str) -> None:
        super().__init__(f"{owner}/{slug} is there already")
        self.owner = owner
        """Whose it is."""
        self.slug = slug
        """Its name."""
