"""What a server answered, as values: every field looked at before it is used.

A server may say more than a client knows; what it must say is there, of the right type, and a name
that it sends is one that a branch may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starfish_mpack_wire._model.object_ids import is_object_id
from starfish_mpack_wire._model.ref_names import is_ref_name
from starfish_mpack_wire.errors import RemoteProtocolError

__all__ = ("FetchAnswer", "PackOffer", "PushAnswer", "RemoteRefs", "UploadOffer")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RemoteRefs:
    """Branches and tags of a repository."""

    default_branch: str
    branches: Mapping[str, str]
    """Name to commit id."""
    tags: Mapping[str, str]
    """Name to commit id."""

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> RemoteRefs:
        """Check an answer.

        Raises:
            RemoteProtocolError: a name or id in it is none.
        """
        name = _need(answer, "default_branch", _text)
        if not is_ref_name(name):
            raise RemoteProtocolError(f"default_branch: {name[:80]!r} is not a name of a branch")
        return cls(name, _need(answer, "branches", _refs), _need(answer, "tags", _refs))


@dataclass(frozen=True, slots=True)
class PackOffer:
    """A pack that can be downloaded."""

    mpack_id: str
    mpack_url: str
    size_bytes: int
    commit_count: int
    snapshot_count: int
    blob_count: int

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> PackOffer | None:
        """Check an answer; ``None`` when there is nothing to send.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        if answer.get("mpack_id") is None and answer.get("mpack_url") is None:
            return None
        return cls(
            mpack_id=_need(answer, "mpack_id", _object_id),
            mpack_url=_need(answer, "mpack_url", _text),
            size_bytes=_need(answer, "size_bytes", _count),
            commit_count=_need(answer, "commit_count", _count),
            snapshot_count=_need(answer, "snapshot_count", _count),
            blob_count=_need(answer, "blob_count", _count),
        )


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """What a fetch brings."""

    packs: tuple[PackOffer, ...]
    """To be applied in this order."""
    shallow: tuple[str, ...]
    """Commits that are held without their parents from now on."""
    unshallow: tuple[str, ...]
    """Commits that are whole from now on."""

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> FetchAnswer:
        """Check an answer.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        base = _optional(answer, "base", _map)
        offers = (PackOffer.read(base) if base else None, PackOffer.read(answer))
        return cls(
            tuple(offer for offer in offers if offer is not None),
            _optional(answer, "shallow", _object_ids) or (),
            _optional(answer, "unshallow", _object_ids) or (),
        )


@dataclass(frozen=True, slots=True)
class UploadOffer:
    """Where to put a pack."""

    urls: tuple[str | None, ...]
    """Of the pack, or of each part; ``None`` for bytes that the server has."""

    @classmethod
    def read(cls, answer: Mapping[str, Any], parts: int) -> UploadOffer:
        """Check an answer.

        Args:
            answer: of the server.
            parts: how many parts were announced; 0 for a pack as a whole.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        if parts:
            urls = _need(answer, "part_urls", _urls)
            if len(urls) != parts:
                raise RemoteProtocolError(f"part_urls has {len(urls)} entries for {parts} parts")
            return cls(urls)
        if "upload_url" not in answer:
            raise RemoteProtocolError("the answer has no upload_url")
        return cls((_optional(answer, "upload_url", _text),))


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What a push wrote on the server: objects that it did not hold before."""

    commits_written: int
    snapshots_written: int
    blobs_written: int
    head: str | None
    """Where the first branch is; ``None`` when no branch was moved."""

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> PushAnswer:
        """Check an answer.

        Raises:
            RemoteProtocolError: a field is missing or of another type.
        """
        return cls(
            commits_written=_need(answer, "commits_written", _count),
            snapshots_written=_need(answer, "snapshots_written", _count),
            blobs_written=_need(answer, "blobs_written", _count),
            head=_optional(answer, "head", _object_id),
        )


def _need(answer: Mapping[str, Any], key: str, read: Callable[[str, object], _T]) -> _T:
    if key not in answer:
        raise RemoteProtocolError(f"the answer has no {key}")
    return read(key, answer[key])


def _optional(answer: Mapping[str, Any], key: str, read: Callable[[str, object], _T]) -> _T | None:
    value = answer.get(key)
    return None if value is None else read(key, value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{key} is not text")
    return value


def _count(key: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise RemoteProtocolError(f"{key} is not a count")
    return value


def _object_id(key: str, value: object) -> str:
    if not is_object_id(value):
        raise RemoteProtocolError(f"{key} is not an id")
    return cast("str", value)


def _object_ids(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RemoteProtocolError(f"{key} is not a list")
    return tuple(_object_id(key, each) for each in cast("list[object]", value))


def _urls(key: str, value: object) -> tuple[str | None, ...]:
    if not isinstance(value, list):
        raise RemoteProtocolError(f"{key} is not a list")
    return tuple(None if each is None else _text(key, each) for each in cast("list[object]", value))


def _map(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"{key} is not a map")
    return cast("dict[str, Any]", value)


def _refs(key: str, value: object) -> dict[str, str]:
    refs: dict[str, str] = {}
    for name, commit in _map(key, value).items():
        if not is_ref_name(name):
            raise RemoteProtocolError(f"{key}: {name[:80]!r} is not a name of a branch or tag")
        refs[name] = _object_id(key, commit)
    return refs
