"""Read by the type checkers, never run: the public surface as a user's code sees it."""

from datetime import datetime
from typing import Any, Literal, assert_type

from starfish_protocol import (
    Clock,
    ContentAddress,
    DigestMismatchError,
    MultiHasher,
    PullResult,
    PushSuccess,
    ServerPlugin,
    SystemClock,
    WriteEvent,
    cbor,
    compute_hash,
    deep_merge,
    stable_stringify,
)
from starfish_protocol.append_author import AppendAuthor, sign_doc_author, verify_doc_author
from starfish_protocol.merge import drop_unsafe_keys
from starfish_protocol.plugins import PushHookContext, PushHookResult
from starfish_protocol.testing import ManualClock

assert_type(stable_stringify({"a": 1}), str)
assert_type(compute_hash({"a": 1}), str)
assert_type(deep_merge({"a": 1}, {"b": 2}), dict[str, Any])
assert_type(drop_unsafe_keys({}), Any)

assert_type(cbor.encode([1, b"x"]), bytes)
assert_type(cbor.decode(b"\x01", max_depth=2, max_bytes=10, strict=False), Any)

address = ContentAddress.of(b"data")
assert_type(address, ContentAddress)
assert_type(ContentAddress.parse("sha256:00"), ContentAddress)
assert_type(address.algorithm, Literal["blake3", "sha256"])
assert_type(address.digest, bytes)
assert_type(address < ContentAddress.of(b"", "sha256"), bool)
hasher = MultiHasher(("blake3", "sha256"))
hasher.update(b"data")
assert_type(hasher.addresses(), dict[Literal["blake3", "sha256"], ContentAddress])
try:
    address.verify(memoryview(b"data"))
except DigestMismatchError as error:
    assert_type(error.expected, ContentAddress)

clock: Clock = SystemClock()
clock = ManualClock()
assert_type(clock.now(), datetime)
assert_type(clock.now_ms(), int)

assert_type(sign_doc_author("notes/ada", {}, "", ""), AppendAuthor)
assert_type(sign_doc_author("notes/ada", {}, "", "")["authorSignature"], str)
assert_type(verify_doc_author("notes/ada", {}, "", ""), bool)

assert_type(PullResult({}, "", 0).author_pubkey, str | None)
assert_type(PushSuccess("", 0).timestamp, int)


async def after_write(event: WriteEvent) -> None:
    assert_type(event.sequence, int | None)


def intercept_push(context: PushHookContext) -> PushHookResult:
    return PushHookResult("reject", status=422, error=context.collection)


plugin = ServerPlugin("example", after_write=after_write, intercept_push=intercept_push)
ServerPlugin("example", after_write=intercept_push)  # type: ignore[arg-type]  # refused, as it must
ContentAddress.of(b"", "md5")  # type: ignore[arg-type]  # refused, as it must
