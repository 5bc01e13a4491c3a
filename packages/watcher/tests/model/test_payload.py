from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher._limits import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH
from starfish_watcher._model.payload import decode_payload, encode_payload

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
payloads = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(payloads)
def test_a_payload_comes_back_as_it_was(payload: Any) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@given(st.dictionaries(st.text(), payloads, min_size=2))
def test_equal_maps_have_equal_bytes_whatever_their_order(payload: dict[str, Any]) -> None:
    turned = dict(reversed(payload.items()))

    assert encode_payload(turned) == encode_payload(payload)


def test_a_tuple_is_written_as_a_list() -> None:
    assert decode_payload(encode_payload({"a": (1, (2,))})) == {"a": [1, [2]]}


class Color(enum.IntEnum):
    RED = 1


class Struct(msgspec.Struct):
    a: int = 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"a": [0, {"b": {1}}]}, r"payload\.a\[1\]\.b is a set"),
        ({"a": {1: 2}}, r"payload\.a has the key 1, a int"),
        ([dt.datetime.now(tz=dt.UTC)], r"payload\[0\] is a datetime"),
        (uuid.uuid4(), "payload is a UUID"),
        (Decimal(1), "payload is a Decimal"),
        ({"color": Color.RED}, r"payload\.color is a Color"),
        (Struct(), "payload is a Struct"),
        (bytearray(b"a"), "payload is a bytearray"),
    ],
)
def test_what_has_no_form_of_its_own_is_named_with_its_path(payload: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encode_payload(payload)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_ends_with_an_error_long_before_the_stack() -> None:
    assert decode_payload(encode_payload(nested(MAX_PAYLOAD_DEPTH))) == nested(MAX_PAYLOAD_DEPTH)
    for depth in (MAX_PAYLOAD_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 128"):
            encode_payload(nested(depth))
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ValueError, match="nested deeper"):
        encode_payload(itself)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_an_integer_of_more_than_64_bits_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="outside of"):
        encode_payload({"a": value})


@pytest.mark.parametrize("payload", ["\ud800", {"\ud800": 1}])
def test_a_text_that_is_not_unicode_is_refused(payload: Any) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        encode_payload(payload)


def test_a_payload_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_PAYLOAD_BYTES}"):
        encode_payload(b"x" * MAX_PAYLOAD_BYTES)
