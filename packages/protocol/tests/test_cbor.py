import collections
import contextlib
import datetime as dt
import decimal
import enum
import math
import struct
import threading
import tracemalloc
import uuid

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_protocol.cbor import MAX_BYTES, MAX_DEPTH, decode, encode
from starfish_protocol.errors import CborDecodeError

LEGAL = "None, bool, int, float, str, bytes, list, tuple and dict, and no subclass of these"
texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.floats(width=32)
    | st.floats(width=16)
    | texts
    | st.text("ab", min_size=20, max_size=30)
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(texts, inner, max_size=30)
    ),
    max_leaves=20,
)


class Level(enum.IntEnum):
    HIGH = 1


class Mode(enum.StrEnum):
    OPEN = "open"


def with_lists(value):
    if isinstance(value, list | tuple):
        return [with_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: with_lists(item) for key, item in value.items()}
    return value


def nested(depth, value=None):
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


# RFC 8949 appendix A: every row whose value exists here.
RFC_8949_EXAMPLES = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (0.0, "f90000"),
    (-0.0, "f98000"),
    (1.0, "f93c00"),
    (1.1, "fb3ff199999999999a"),
    (1.5, "f93e00"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    (3.4028234663852886e38, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"),
    (5.960464477539063e-8, "f90001"),
    (0.00006103515625, "f90400"),
    (-4.0, "f9c400"),
    (-4.1, "fbc010666666666666"),
    (math.inf, "f97c00"),
    (math.nan, "f97e00"),
    (-math.inf, "f9fc00"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    (
        {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"},
        "a56161614161626142616361436164614461656145",
    ),
]


@pytest.mark.parametrize(
    ("value", "encoded"), RFC_8949_EXAMPLES, ids=[row[1][:40] for row in RFC_8949_EXAMPLES]
)
def test_the_examples_of_rfc_8949(value, encoded):
    assert encode(value).hex() == encoded
    assert encode(decode(bytes.fromhex(encoded))).hex() == encoded


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65535, 65536])
def test_a_length_has_the_shortest_form(length):
    head = {
        0: "0",
        23: "7",
        24: "818",
        255: "8ff",
        256: "90100",
        65535: "9ffff",
        65536: "a00010000",
    }

    assert encode(b"x" * length) == _head("4", "5", head[length]) + b"x" * length
    assert encode("x" * length) == _head("6", "7", head[length]) + b"x" * length
    assert encode([None] * length) == _head("8", "9", head[length]) + b"\xf6" * length


def _head(low, high, rest):
    if rest == "0":
        return bytes.fromhex(low + "0")
    if rest == "7":
        return bytes.fromhex(high + "7")
    return bytes.fromhex(high + rest)


def test_keys_are_sorted_by_their_encoded_bytes():
    keys = ["", "b", "aa", "ab", "é", "ü", "\uffff", "😀", "a" * 23, "z" * 23, "a" * 24, "a" * 300]

    encoded = encode(dict.fromkeys(reversed(keys)))

    assert list(decode(encoded)) == sorted(keys, key=lambda key: (len(key.encode()), key.encode()))


@given(value=values)
def test_a_value_survives_the_round_trip(value):
    assert encode(decode(encode(value))) == encode(value)
    assert repr(decode(encode(value))) == repr(_sorted(with_lists(value)))


def _sorted(value):
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _sorted(value[key]) for key in keys}
    return math.nan if value != value else value  # noqa: PLR0124 - the sign of a NaN is dropped


@given(value=values)
def test_another_canonical_encoder_writes_the_same_bytes(value):
    assert encode(value) == cbor2.dumps(value, canonical=True)


@given(value=st.floats(allow_nan=False))
def test_a_float_has_the_shortest_form_that_keeps_it(value):
    encoded = encode(value)

    assert decode(encoded) == value
    for form in ("e", "f")[: {3: 0, 5: 1, 9: 2}[len(encoded)]]:
        with contextlib.suppress(OverflowError):
            assert struct.unpack(form, struct.pack(form, value))[0] != value


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (bytearray(b"x"), "bytearray"),
        (memoryview(b"x"), "memoryview"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "datetime"),
        (dt.date(2026, 1, 1), "date"),
        ({1}, "set"),
        (frozenset(), "frozenset"),
        (decimal.Decimal(1), "Decimal"),
        (1j, "complex"),
        (uuid.UUID(int=1), "UUID"),
        (Level.HIGH, "Level"),
        (Mode.OPEN, "Mode"),
        (collections.OrderedDict(), "OrderedDict"),
        (cbor2.CBORTag(1, 2), "CBORTag"),
        (cbor2.CBORSimpleValue(1), "CBORSimpleValue"),
        (cbor2.undefined, type(cbor2.undefined).__qualname__),
        (..., "ellipsis"),
        (object(), "object"),
    ],
    ids=lambda param: param if isinstance(param, str) else "",
)
def test_another_type_is_refused_with_its_path(value, name):
    with pytest.raises(TypeError) as refusal:
        encode({"z": 1, "a": [b"", {"b c": (value,)}]})

    assert str(refusal.value) == f'$.a[1]["b c"][0] is of type {name}; CBOR holds {LEGAL}'


@pytest.mark.parametrize("key", [1, None, 1.5, b"x", (), Mode.OPEN])
def test_a_key_that_is_no_text_is_refused_with_its_path(key):
    with pytest.raises(TypeError) as refusal:
        encode({"a": [{"x": 1, key: 2}]})

    assert str(refusal.value) == (
        f"$.a[0] has a key of type {type(key).__name__}; keys are str, and no subclass of it"
    )


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, 10**5000, -(10**5000)], ids=range(4))
def test_an_integer_beyond_64_bits_is_refused_with_its_path(value):
    with pytest.raises(ValueError, match=r"^\$\.a\[1\] is an integer outside"):
        encode({"a": [0, value]})


def test_a_lone_surrogate_is_refused_with_its_path():
    with pytest.raises(ValueError, match=r"^\$\.a\[1\] holds a lone surrogate"):
        encode({"a": [0, "x\ud800"]})
    with pytest.raises(ValueError, match=r"^\$\.a\[0\] holds a lone surrogate"):
        encode({"a": [{"\udfff": 1}]})


def test_nesting_has_one_limit_for_both_directions_on_any_stack():
    outcome = []

    def run():
        value = nested(MAX_DEPTH)
        outcome.append(decode(encode(value)) == value)
        for depth in (MAX_DEPTH + 1, 100_000):
            with pytest.raises(ValueError, match=r"is nested deeper than 512$") as refusal:
                encode(nested(depth))
            outcome.append(len(str(refusal.value)) < 300)
        for hostile in (
            b"\x81" * 10**6,
            b"\xa1\x61a" * 10**6,
            b"\xc0" * 10**6,
            b"\xd8\x1c" * 10**5,
        ):
            with pytest.raises(CborDecodeError):
                decode(hostile)
            outcome.append(True)

    before = threading.stack_size(128 * 1024)  # what a thread has on musl
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)

    assert outcome == [True] * 7


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append({"a": value})

    with pytest.raises(ValueError, match=r"is nested deeper than 512$"):
        encode(value)


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        ("", "premature end"),
        ("18", "premature end"),
        ("81", "premature end"),
        ("a16161", "premature end"),
        ("0000", "1 bytes follow the value"),
        ("80 ffff", "2 bytes follow the value"),
        ("a2616101616102", "duplicate"),
        ("9fff", "indefinite"),
        ("9f01ff", "indefinite"),
        ("bfff", "indefinite"),
        ("5f4101ff", "indefinite"),
        ("7f6161ff", "indefinite"),
        ("ff", "break"),
        ("c11a00000000", "tag 1; no tag is accepted"),
        ("c249010000000000000000", "tag 2; no tag is accepted"),
        ("c5821b7fffffffffffffff01", "tag 5; no tag is accepted"),
        ("d8236161", "tag 35; no tag is accepted"),
        ("d81c81d81d00", "tag 28; no tag is accepted"),
        ("d9d9f700", "tag 55799; no tag is accepted"),
        ("dbffffffffffffffff00", "no tag is accepted"),
        ("a10102", "key"),
        ("a1f600", "key"),
        ("a14101f6", "$ has a key of type bytes"),
        ("a18000", "key"),
        ("a1a000", "key"),
        ("81f7", "$[0] is of type"),
        ("e0", "is of type"),
        ("f8ff", "is of type"),
        ("f814", "two-byte"),
        ("1c", "0x1c"),
        ("fc", "0x1c"),
        ("62c328", "utf-8"),
        ("63eda080", "utf-8"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_not_one_value_is_refused(encoded, why, strict):
    with pytest.raises(CborDecodeError) as refusal:
        decode(bytes.fromhex(encoded), strict=strict)

    assert why.lower() in str(refusal.value).lower()


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("1801", 1),
        ("190001", 1),
        ("1a00000001", 1),
        ("1b0000000000000001", 1),
        ("3800", -1),
        ("5801ff", b"\xff"),
        ("780161", "a"),
        ("9800", []),
        ("b800", {}),
        ("fa3fc00000", 1.5),
        ("fb3ff8000000000000", 1.5),
        ("a2616201616102", {"b": 1, "a": 2}),
        ("a262616101616202", {"aa": 1, "b": 2}),
    ],
)
def test_another_encoding_of_a_value_passes_only_when_asked_for(encoded, value):
    with pytest.raises(CborDecodeError, match="not the deterministic encoding of its value"):
        decode(bytes.fromhex(encoded))

    assert decode(bytes.fromhex(encoded), strict=False) == value


@pytest.mark.parametrize("encoded", ["f97e01", "fa7fc00000", "fb7ff8000000000000", "f9fe00"])
def test_only_one_nan_is_deterministic(encoded):
    with pytest.raises(CborDecodeError, match="not the deterministic encoding"):
        decode(bytes.fromhex(encoded))

    assert math.isnan(decode(bytes.fromhex(encoded), strict=False))


@pytest.mark.parametrize("major", ["5", "7", "9", "b"])
@pytest.mark.parametrize("length", ["a7fffffff", "b0fffffffffffffff", "bffffffffffffffff"])
def test_a_length_that_the_bytes_do_not_keep_allocates_nothing(major, length):
    bomb = bytes.fromhex(major + length) + b"\x00" * 100
    tracemalloc.start()

    with pytest.raises(CborDecodeError):
        decode(bomb)

    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_limits_are_the_callers():
    for value in ([[[]]], [[{}]], [[[1]]], [[{"a": 1}]]):
        assert decode(encode(value), max_depth=3) == value
        with pytest.raises(CborDecodeError, match=r"depth|deeper"):
            decode(encode(value), max_depth=2)
    assert decode(b"\x01", max_depth=0) == decode(b"\x01", max_depth=-1) == 1
    assert decode(b"\x43abc", max_bytes=4) == b"abc"
    with pytest.raises(CborDecodeError, match=r"^4 bytes of CBOR; at most 3 are accepted$"):
        decode(b"\x43abc", max_bytes=3)
    with pytest.raises(CborDecodeError, match=f"at most {MAX_BYTES} are accepted"):
        decode(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_may_come_in_any_buffer(kind):
    assert decode(kind(encode({"a": b"x"}))) == {"a": b"x"}


@pytest.mark.parametrize("data", ["text", 5, None])
def test_what_is_no_buffer_is_a_type_error(data):
    with pytest.raises(TypeError):
        decode(data)


def check_decoding(data):
    try:
        value = decode(data)
    except CborDecodeError:
        pass
    else:
        assert encode(value) == data
    try:
        loose = decode(data, strict=False)
    except CborDecodeError:
        return
    assert encode(decode(encode(loose))) == encode(loose)


@given(data=st.binary(max_size=60))
@example(data=bytes.fromhex("c5823b7fffffffffffffff01"))
@example(data=bytes.fromhex("d81c82d81d00d81d00"))
def test_arbitrary_bytes_decode_or_are_refused(data):
    check_decoding(data)


@given(value=values, data=st.data())
def test_damaged_encodings_decode_or_are_refused(value, data):
    encoded = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(encoded)))
        cut = data.draw(st.integers(0, 2))
        encoded[position : position + cut] = data.draw(st.binary(max_size=3))

    check_decoding(bytes(encoded))
