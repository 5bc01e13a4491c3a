"""Requests as values, and how they travel: msgpack maps, read strictly.

A key that is not known is refused: what a peer believes to ask for must not be ignored. Answers are read leniently
by clients, so that a server may say more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeVar, cast, get_args

import msgpack  # type: ignore[import-untyped]  # it has neither types nor stubs

from starfish_mpack_wire._model.object_ids import is_object_id
from starfish_mpack_wire._model.snapshot_paths import check_path
from starfish_mpack_wire.errors import InvalidMessageError, MPackFormatError
from starfish_mpack_wire.limits import Limits

__all__ = (
    "MEDIA_TYPE",
    "BlobFilter",
    "BlobsRequest",
    "FetchRequest",
    "PresignRequest",
    "RefKind",
    "RefUpdate",
    "UnpackRequest",
    "decode_message",
    "encode_message",
)

MEDIA_TYPE: Final = "application/x-msgpack"
"""What requests and answers are made of."""

_BLOB_LIMIT = re.compile(r"blob:limit=(0|[1-9][0-9]{0,17})")
_MOST_INTEGER = 2**63 - 1

_T = TypeVar("_T")

_pack = cast("Callable[..., bytes]", cast("Any", msgpack).packb)
_unpack = cast("Callable[..., object]", cast("Any", msgpack).unpackb)


def encode_message(message: Mapping[str, object]) -> bytes:
    """A map as msgpack."""
    return _pack(message, use_bin_type=True)


def decode_message(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """A map with text keys, each once, out of msgpack.

    Examples:
        >>> decode_message(encode_message({"want": []}))
        {'want': []}

    Raises:
        InvalidMessageError: the bytes are not exactly one such map.
    """
    try:
        value = _unpack(data, raw=False, strict_map_key=True, object_pairs_hook=_without_duplicates)
    except InvalidMessageError:
        raise
    except Exception as error:
        # The decoder's errors have no common base; all of them are about these bytes.
        raise InvalidMessageError(f"the body is not msgpack: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise InvalidMessageError("the body is not a map")
    return cast("dict[str, Any]", value)


def _without_duplicates(pairs: Iterable[tuple[object, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise InvalidMessageError("a key is not text")
        if key in found:
            raise InvalidMessageError(f"the key {key!r} stands twice")
        found[key] = value
    return found


@dataclass(frozen=True, slots=True)
class BlobFilter:
    """Which blobs a partial fetch brings."""

    largest: int
    """Bytes; a blob of more is left out. -1 leaves out all, also empty ones."""

    @classmethod
    def parse(cls, text: str) -> BlobFilter:
        """Read ``blob:none`` or ``blob:limit=N``.

        Examples:
            >>> BlobFilter.parse("blob:none"), BlobFilter.parse("blob:limit=100")
            (BlobFilter(largest=-1), BlobFilter(largest=100))

        Raises:
            InvalidMessageError: it is neither.
        """
        if text == "blob:none":
            return cls(-1)
        found = _BLOB_LIMIT.fullmatch(text)
        if found is None:
            raise InvalidMessageError("filter is neither 'blob:none' nor 'blob:limit=N'")
        return cls(int(found[1]))

    def __str__(self) -> str:
        return "blob:none" if self.largest < 0 else f"blob:limit={self.largest}"


class _Reader:
    """Takes keys out of a map, each with its type, and refuses the rest."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) > limits.max_message_bytes:
            raise InvalidMessageError(
                f"the body has {len(data)} bytes, at most {limits.max_message_bytes} are accepted"
            )
        self._rest = decode_message(data)

    def take(self, key: str, read: Callable[[str, object], _T], default: _T) -> _T:
        """The value of a key that need not be there; null counts as not there."""
        value = self._rest.pop(key, None)
        return default if value is None else read(key, value)

    def need(self, key: str, read: Callable[[str, object], _T]) -> _T:
        """The value of a key that must be there."""
        if self._rest.get(key) is None:
            raise InvalidMessageError(f"{key} is missing")
        return read(key, self._rest.pop(key))

    def has(self, key: str) -> bool:
        """Whether the key is there, be it as null."""
        return key in self._rest

    def finish(self) -> None:
        """Refuse what nobody took."""
        if self._rest:
            raise InvalidMessageError(f"the key {next(iter(self._rest))[:64]!r} is not known")


def _an_id(key: str, value: object) -> str:
    if not is_object_id(value):
        raise InvalidMessageError(
            f"{key} holds a value that is not 'sha256:' and 64 lowercase hex digits"
        )
    return cast("str", value)


def _a_text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidMessageError(f"{key} is not text")
    return value


def _a_boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidMessageError(f"{key} is not a boolean")
    return value


def _an_integer(lowest: int, highest: int) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise InvalidMessageError(f"{key} is not an integer from {lowest} to {highest}")
        return value

    return read


def _a_list_of(
    read_one: Callable[[str, object], str], most: int
) -> Callable[[str, object], tuple[str, ...]]:
    def read(key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise InvalidMessageError(f"{key} is not a list")
        items = cast("list[object]", value)
        if len(items) > most:
            raise InvalidMessageError(
                f"{key} has {len(items)} entries, at most {most} are accepted"
            )
        # Once each; the order of a list never matters.
        return tuple(dict.fromkeys(read_one(key, item) for item in items))

    return read


def _a_prefix(key: str, value: object) -> str:
    try:
        return check_path(_a_text(key, value).removesuffix("/"))
    except MPackFormatError as error:
        raise InvalidMessageError(f"{key}: {error}") from error


class _Message:
    """Writes the fields that are not at their defaults."""

    __slots__ = ()

    def to_bytes(self) -> bytes:
        """The body of the request."""
        message: dict[str, object] = {}
        for field in fields(cast("Any", self)):
            value: object = getattr(self, field.name)
            if value != field.default:
                if isinstance(value, tuple):
                    value = list(cast("tuple[str, ...]", value))
                message[field.name] = str(value) if isinstance(value, BlobFilter) else value
        return encode_message(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest(_Message):
    """What a client asks for and what it holds; see the reference of the call."""

    want: tuple[str, ...]
    have: tuple[str, ...] = ()
    want_refs: tuple[str, ...] = ()
    depth: int | None = None
    shallow: tuple[str, ...] = ()
    filter: BlobFilter | None = None
    paths: tuple[str, ...] = ()
    base: bool = False
    want_all: bool = False
    """All branches and tags, however many there are."""

    @classmethod
    def parse(cls, data: bytes, limits: Limits) -> FetchRequest:
        """Read a body.

        Examples:
            >>> request = FetchRequest(want=("sha256:" + 64 * "0",), depth=1)
            >>> FetchRequest.parse(request.to_bytes(), Limits()) == request
            True

        Raises:
            InvalidMessageError: the body is not such a request, or over a limit.
        """
        reader = _Reader(data, limits)
        request = cls(
            want=reader.take("want", _a_list_of(_an_id, limits.max_wants), ()),
            have=reader.take("have", _a_list_of(_an_id, limits.max_haves), ()),
            want_refs=reader.take("want_refs", _a_list_of(_a_text, limits.max_wants), ()),
            depth=reader.take("depth", _an_integer(1, limits.max_depth), None),
            shallow=reader.take("shallow", _a_list_of(_an_id, limits.max_shallow), ()),
            filter=reader.take("filter", _a_filter, None),
            paths=reader.take("paths", _a_list_of(_a_prefix, limits.max_path_prefixes), ()),
            base=reader.take("base", _a_boolean, False),
            want_all=reader.take("want_all", _a_boolean, False),
        )
        reader.finish()
        if not request.want and not request.want_refs and not request.want_all:
            raise InvalidMessageError("want is empty")
        return request


def _a_filter(key: str, value: object) -> BlobFilter | None:
    return BlobFilter.parse(_a_text(key, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsRequest(_Message):
    """Single blobs that a partial clone needs now."""

    object_ids: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes, limits: Limits) -> BlobsRequest:
        """Read a body.

        Raises:
            InvalidMessageError: the body is not such a request, or over a limit.
        """
        reader = _Reader(data, limits)
        ids = reader.need("object_ids", _a_list_of(_an_id, limits.max_wanted_blobs))
        reader.finish()
        if not ids:
            raise InvalidMessageError("object_ids is empty")
        return cls(object_ids=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """A part of a pack on its way to the server."""

    part_id: str
    """The hash of its bytes, written as any id."""
    size_bytes: int


def _parts_up_to(limits: Limits) -> Callable[[str, object], tuple[UploadPart, ...]]:
    def read(key: str, value: object) -> tuple[UploadPart, ...]:
        if not isinstance(value, list):
            raise InvalidMessageError(f"{key} is not a list")
        items = cast("list[object]", value)
        if len(items) > limits.max_upload_parts:
            raise InvalidMessageError(
                f"{key} has {len(items)} entries, at most {limits.max_upload_parts} are accepted"
            )
        return tuple(_a_part(key, item) for item in items)

    return read


def _a_part(key: str, value: object) -> UploadPart:
    if not isinstance(value, dict) or value.keys() != {"part_id", "size_bytes"}:
        raise InvalidMessageError(f"an entry of {key} must have part_id and size_bytes")
    members = cast("dict[str, object]", value)
    size = _an_integer(1, _MOST_INTEGER)(f"size_bytes in {key}", members["size_bytes"])
    return UploadPart(part_id=_an_id(f"part_id in {key}", members["part_id"]), size_bytes=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignRequest(_Message):
    """A pack that a client is about to upload, as a whole or in parts."""

    mpack_id: str
    size_bytes: int
    parts: tuple[UploadPart, ...] = ()
    """All parts, in their order."""

    @classmethod
    def parse(cls, data: bytes, limits: Limits) -> PresignRequest:
        """Read a body.

        Raises:
            InvalidMessageError: the body is not such a request.
        """
        reader = _Reader(data, limits)
        request = cls(
            mpack_id=reader.need("mpack_id", _an_id),
            size_bytes=reader.need("size_bytes", _an_integer(0, _MOST_INTEGER)),
            parts=reader.take("parts", _parts_up_to(limits), ()),
        )
        reader.finish()
        total = sum(part.size_bytes for part in request.parts)
        if request.parts and total != request.size_bytes:
            raise InvalidMessageError(
                f"parts have {total} bytes together, size_bytes says {request.size_bytes}"
            )
        return request

    def to_bytes(self) -> bytes:
        """Return the body of the request."""
        message: dict[str, object] = {"mpack_id": self.mpack_id, "size_bytes": self.size_bytes}
        if self.parts:
            message["parts"] = [
                {"part_id": part.part_id, "size_bytes": part.size_bytes} for part in self.parts
            ]
        return encode_message(message)


RefKind = Literal["branch", "tag"]
"""Kinds of refs that a server has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefUpdate:
    """One ref to make, move or delete."""

    kind: RefKind
    name: str
    new: str | None
    """Where to; ``None`` deletes it."""
    old: str | None
    """Where it is now; ``None`` when there is no such ref yet."""

    def as_map(self) -> dict[str, object]:
        """Return this as a map of the message."""
        return {"kind": self.kind, "name": self.name, "new": self.new, "old": self.old}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackRequest(_Message):
    """A pack to take in and refs to move: one branch, or a list of updates."""

    mpack_id: str | None
    branch: str | None = None
    head: str | None = None
    expected_head: str | None = None
    expects: bool = False
    """Whether `expected_head` was given; then ``None`` means that there is no such branch yet."""
    force: bool = False
    dry_run: bool = False
    updates: tuple[RefUpdate, ...] = ()
    parts: tuple[str, ...] = ()
    """The parts in which the pack was uploaded, in their order; none for one that came as a whole."""

    @classmethod
    def parse(cls, data: bytes, limits: Limits) -> UnpackRequest:
        """Read a body.

        Raises:
            InvalidMessageError: the body is not such a request.
        """
        reader = _Reader(data, limits)
        expects = reader.has("expected_head")
        request = cls(
            mpack_id=reader.take("mpack_id", _an_id, None),
            branch=reader.take("branch", _a_text, None),
            head=reader.take("head", _an_id, None),
            expected_head=reader.take("expected_head", _an_id, None),
            expects=expects,
            force=reader.take("force", _a_boolean, False),
            dry_run=reader.take("dry_run", _a_boolean, False),
            updates=reader.take("refs", _updates_up_to(limits.max_ref_updates), ()),
            parts=reader.take("parts", _a_list_of(_an_id, limits.max_upload_parts), ()),
        )
        reader.finish()
        if (request.branch is None) is not bool(request.updates):
            raise InvalidMessageError("branch is missing: a request names one branch, or refs")
        if request.updates and (request.head is not None or expects):
            raise InvalidMessageError("head and expected_head belong to branch, not to refs")
        if request.mpack_id is None and request.head is None and not request.updates:
            raise InvalidMessageError(
                "head is missing: without a pack there is nothing to take it from"
            )
        return request

    def to_bytes(self) -> bytes:
        """Return the body of the request."""
        message: dict[str, object] = {"mpack_id": self.mpack_id}
        if self.branch is not None:
            message["branch"] = self.branch
        if self.head is not None:
            message["head"] = self.head
        if self.expects or self.expected_head is not None:
            message["expected_head"] = self.expected_head
        if self.parts:
            message["parts"] = list(self.parts)
        if self.updates:
            message["refs"] = [each.as_map() for each in self.updates]
        return encode_message(message | {"force": self.force, "dry_run": self.dry_run})


_UPDATE_KEYS = {"kind", "name", "new", "old"}


def _updates_up_to(most: int) -> Callable[[str, object], tuple[RefUpdate, ...]]:
    def read(key: str, value: object) -> tuple[RefUpdate, ...]:
        if not isinstance(value, list):
            raise InvalidMessageError(f"{key} is not a list")
        items = cast("list[object]", value)
        if len(items) > most:
            raise InvalidMessageError(
                f"{key} has {len(items)} entries, at most {most} are accepted"
            )
        found = tuple(_an_update(key, item) for item in items)
        if len({(each.kind, each.name) for each in found}) != len(found):
            raise InvalidMessageError(f"{key} names a ref twice")
        return found

    return read


def _an_update(key: str, value: object) -> RefUpdate:
    if not isinstance(value, dict) or value.keys() != _UPDATE_KEYS:
        raise InvalidMessageError(f"an entry of {key} must have kind, name, new and old")
    members = cast("dict[str, object]", value)
    kind, new, old = members["kind"], members["new"], members["old"]
    if kind not in get_args(RefKind):
        raise InvalidMessageError(f"kind in {key} must be branch or tag")
    if new is None and old is None:
        raise InvalidMessageError(f"an entry of {key} has neither new nor old")
    return RefUpdate(
        kind="branch" if kind == "branch" else "tag",
        name=_a_text(f"name in {key}", members["name"]),
        new=None if new is None else _an_id(f"new in {key}", new),
        old=None if old is None else _an_id(f"old in {key}", old),
    )
