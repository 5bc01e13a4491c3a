import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import hashlib
import json
import math
import re
import struct
import sys
import uuid
from typing import NamedTuple

import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_protocol._stringify import write_canonical
from starfish_protocol.hash import MAX_DEPTH, canonical_json, compute_hash, stable_stringify

LEGAL = "None, bool, int, float, str, list, tuple and dict, and no subclass of these"
odd_floats = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 1e-5, 1e-6, 1e-7, 1e15, 1e16, 1e20, 1e21, 5e-324, 2.0**53, -1e16]
)
odd_texts = st.sampled_from(
    ["", ",1.0,", '",1.0,"', "\\", '\\"', '\\",1.0,', "e9", "[1e16]", "\x7f", "\u2028", "__proto__"]
)
numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats() | odd_floats
texts = odd_texts | st.text() | st.text(st.sampled_from('a\\",:[]{}1.0e-\ud83d\ude00\uffff😀\n'))
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts, inner, max_size=6)
    ),
    max_leaves=20,
)


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 1


class Mode(enum.StrEnum):
    OPEN = "open"


@dataclasses.dataclass
class Point:
    x: int


class Pair(NamedTuple):
    a: int
    b: int


TextSubclass = type("TextSubclass", (str,), {})

# What the text must be is written down, so that neither way to it is the judge of the other.
GOLDEN = [
    (1.0, "1"),
    (-0.0, "0"),
    (0.0, "0"),
    (-1.0, "-1"),
    (1e-5, "0.00001"),
    (1.5e-5, "0.000015"),
    (1e-6, "0.000001"),
    (-1.25e-6, "-0.00000125"),
    (1e-7, "1e-7"),
    (1.5e-7, "1.5e-7"),
    (1e15, "1000000000000000"),
    (1e16, "10000000000000000"),
    (-1.5e16, "-15000000000000000"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (5e-324, "5e-324"),
    (0.1 + 0.2, "0.30000000000000004"),
    (1234567890123456.8, "1234567890123456.8"),
    (2**53 - 1, "9007199254740991"),
    (2**53, "9007199254740992"),
    (2**53 + 1, "9007199254740992"),
    (-(2**53) - 1, "-9007199254740992"),
    (2**64, "18446744073709552000"),
    (10**17 + 1, "100000000000000000"),
    (10**25, "1e+25"),
    (10**400, "null"),
    (-(10**400), "null"),
    (math.nan, "null"),
    (math.inf, "null"),
    (-math.inf, "null"),
    (True, "true"),
    (None, "null"),
    ('\b\f\n\r\t"\\/\x00\x1f\x7f', r'"\b\f\n\r\t\"\\/\u0000\u001f' + "\x7f" + '"'),
    ("é\u2028😀", '"é\u2028😀"'),
    ("\ud800", r'"\ud800"'),
    ("a\udfffb", r'"a\udfffb"'),
    ("\ud83d\ude00", '"😀"'),
    ("\ude00\ud83d", r'"\ude00\ud83d"'),
    ((1, (2, [])), "[1,[2,[]]]"),
    ([], "[]"),
    ({}, "{}"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), GOLDEN, ids=[ascii(v)[:40] for v, _ in GOLDEN])
def test_a_value_has_the_text_that_javascript_gives(value, text):
    assert stable_stringify(value) == text
    assert stable_stringify([value]) == f"[{text}]"
    assert stable_stringify({"k": [value, 0, value], "j": value}) == (
        f'{{"j":{text},"k":[{text},0,{text}]}}'
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"b": 1, "a": [True, None, "é\n"]},
        {"\ue000": 1, "😀": 2},
        {"x": ["\ud800", 10**30, 0.5]},
    ],
)
def test_the_hash_is_sha_256_of_the_text_in_utf_8(document):
    text = stable_stringify(document)

    assert compute_hash(document) == hashlib.sha256(text.encode()).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", compute_hash(document))


def test_hashes_that_other_implementations_of_the_protocol_compute():
    assert compute_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert compute_hash({"b": [1.0, "é"], "a": None}) == (
        hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()
    )


DOCUMENT_OF_RFC_8785 = {
    "\ufb33": 1, "😀": 2, "ö": 3, "1": 4, "\r": 5, "€": 6, "\x80": 7, "a": 8, "A": 9,
}  # fmt: skip


def test_keys_are_sorted_by_code_point():
    assert stable_stringify(DOCUMENT_OF_RFC_8785) == (
        '{"\\r":5,"1":4,"A":9,"a":8,"\x80":7,"ö":3,"€":6,"\ufb33":1,"😀":2}'
    )


def test_the_keys_of_rfc_8785_are_sorted_by_utf_16_code_units():
    assert canonical_json(DOCUMENT_OF_RFC_8785).decode() == (
        '{"\\r":5,"1":4,"A":9,"a":8,"\x80":7,"ö":3,"€":6,"😀":2,"\ufb33":1}'
    )


@given(document=documents)
def test_rfc_8785_has_a_text_or_a_refusal_for_every_document(document):
    try:
        text = canonical_json(document)
    except ValueError:
        return
    assert json.loads(text) == json.loads(stable_stringify(document))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (math.nan, "$.a[0] is nan; a number must be finite"),
        (-math.inf, "$.a[0] is -inf; a number must be finite"),
        (2**53 + 1, "$.a[0] is an integer that a double does not hold"),
        (10**400, "$.a[0] is an integer that a double does not hold"),
        ("x\ud800", "$.a[0] holds a lone surrogate; a text must be Unicode"),
    ],
    ids=range(5),
)
def test_rfc_8785_rounds_nothing(value, why):
    with pytest.raises(ValueError) as refusal:
        canonical_json({"a": [value]})

    assert str(refusal.value) == why


@pytest.mark.parametrize(
    "text",
    [
        ",1.0,",
        "[1e16]",
        '",1.0,"',
        '\\",1.0,',
        "\\\\,1.0,",
        ":9999999999999999999,",
        '\\\\",-0.0,"',
        ":1.0,",
        'a":1.0,',
        '\\":1.0,',
        '":1.0,',
    ],
)
def test_a_number_inside_a_string_is_left_alone(text):
    document = {text: [text, 1.0, text, 1e16], "~": text, "~~": 2.0}

    quoted = json.dumps(text)
    assert stable_stringify(document) == (
        f'{{{quoted}:[{quoted},1,{quoted},10000000000000000],"~":{quoted},"~~":2}}'
    )


@given(document=documents)
@example(document=[{"😀": 1, "\uffff": 2}])
@example(document=[{'a"😀': '😀":', 'a"\uffff': "\uffff\\"}])
@example(document=["\ud83d\ude00", "\ud83d", "\ude00"])
def test_the_fast_way_and_the_slow_way_give_the_same_text(document):
    def outcome(write):
        try:
            return write(document)
        except ValueError as error:
            return str(error)

    assert outcome(stable_stringify) == outcome(write_canonical)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_reads_back_as_the_same_float(value):
    assert float(stable_stringify([value])[1:-1]) == value


plain_texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    document=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | plain_texts,
        lambda inner: st.lists(inner) | st.dictionaries(plain_texts, inner),
        max_leaves=20,
    )
)
def test_where_rfc_8785_has_an_answer_ours_is_the_same(document):
    assert canonical_json(document) == rfc8785.dumps(document)


# RFC 8785 appendix B: the bits of a double, its text; the rows without a text are not numbers.
RFC_8785_NUMBERS = """
0000000000000000 0
8000000000000000 0
0000000000000001 5e-324
8000000000000001 -5e-324
7fefffffffffffff 1.7976931348623157e+308
ffefffffffffffff -1.7976931348623157e+308
4340000000000000 9007199254740992
c340000000000000 -9007199254740992
4430000000000000 295147905179352830000
7fffffffffffffff null
7ff0000000000000 null
44b52d02c7e14af5 9.999999999999997e+22
44b52d02c7e14af6 1e+23
44b52d02c7e14af7 1.0000000000000001e+23
444b1ae4d6e2ef4e 999999999999999700000
444b1ae4d6e2ef4f 999999999999999900000
444b1ae4d6e2ef50 1e+21
3eb0c6f7a0b5ed8c 9.999999999999997e-7
3eb0c6f7a0b5ed8d 0.000001
41b3de4355555553 333333333.3333332
41b3de4355555554 333333333.33333325
41b3de4355555555 333333333.3333333
41b3de4355555556 333333333.3333334
41b3de4355555557 333333333.33333343
becbf647612f3696 -0.0000033333333333333333
43143ff3c1cb0959 1424953923781206.2
"""


@pytest.mark.parametrize(
    ("bits", "text"), [line.split() for line in RFC_8785_NUMBERS.split("\n") if line]
)
def test_the_number_vectors_of_rfc_8785(bits, text):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))

    assert stable_stringify(value) == text
    assert stable_stringify([value]) == f"[{text}]"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"x", "bytes"),
        (bytearray(b"x"), "bytearray"),
        (memoryview(b"x"), "memoryview"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "datetime"),
        (dt.date(2026, 1, 1), "date"),
        (dt.time(1), "time"),
        ({1}, "set"),
        (frozenset(), "frozenset"),
        (decimal.Decimal(1), "Decimal"),
        (fractions.Fraction(1), "Fraction"),
        (1j, "complex"),
        (uuid.UUID(int=1), "UUID"),
        (Color.RED, "Color"),
        (Level.HIGH, "Level"),
        (Mode.OPEN, "Mode"),
        (Point(1), "Point"),
        (Pair(1, 2), "Pair"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (collections.defaultdict(list), "defaultdict"),
        (TextSubclass("x"), "TextSubclass"),
        (orjson.Fragment(b"1"), "Fragment"),
        (object(), "object"),
        (int, "type"),
        (..., "ellipsis"),
    ],
)  # fmt: skip
def test_a_value_without_a_json_form_is_refused_with_its_path(value, name):
    document = {"a": [1, {"b c": (value,)}]}

    for function in (stable_stringify, compute_hash):
        with pytest.raises(TypeError) as refusal:
            function(document)
        assert str(refusal.value) == f'$.a[1]["b c"][0] is of type {name}; JSON holds {LEGAL}'
    with pytest.raises(TypeError, match=rf"^\$ is of type {name}; "):
        stable_stringify(value)


@pytest.mark.parametrize("key", [1, None, True, 1.5, b"x", (), Mode.OPEN, TextSubclass("y")])
def test_a_key_that_is_no_string_is_refused_with_its_path(key):
    name = type(key).__name__

    with pytest.raises(TypeError) as refusal:
        compute_hash({"a": [{"x": 1, key: 2}]})

    assert str(refusal.value) == (
        f"$.a[0] has a key of type {name}; the keys of JSON are str, and no subclass of it"
    )


def nested(depth: int, *, lists: bool) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("depth", [253, 254, 255, 256, MAX_DEPTH])
def test_nesting_up_to_the_limit_is_written(depth, lists):
    text = stable_stringify(nested(depth, lists=lists))

    assert text == (
        "[" * depth + "1" + "]" * depth if lists else '{"a":' * depth + "1" + "}" * depth
    )


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 3_000, 100_000])
def test_deeper_nesting_is_a_value_error(depth, lists):
    with pytest.raises(ValueError, match=r"is nested deeper than 512$") as refusal:
        compute_hash(nested(depth, lists=lists))

    assert len(str(refusal.value)) < 300


def test_a_document_that_contains_itself_is_a_value_error():
    document = {}
    document["a"] = [document]

    with pytest.raises(ValueError, match=r"is nested deeper than 512$"):
        stable_stringify(document)


def test_two_keys_that_are_one_in_javascript_are_refused():
    with pytest.raises(ValueError, match=r"^\$\.a has two keys that differ only"):
        stable_stringify({"a": {"\ud83d\ude00": 1, "😀": 2}})


def test_an_integer_of_any_length_is_written_without_python_refusing_it():
    assert sys.get_int_max_str_digits() < 10_000
    assert stable_stringify([10**10_000]) == "[null]"


@given(document=st.dictionaries(texts, documents, max_size=5))
def test_hashing_changes_nothing_in_the_document(document):
    before = repr(document)

    try:
        compute_hash(document)
    except ValueError:
        assert "😀" in before

    assert repr(document) == before


@given(document=st.dictionaries(plain_texts, documents, max_size=5), data=st.data())
def test_the_order_of_keys_does_not_matter(document, data):
    shuffled = dict(data.draw(st.permutations(list(document.items()))))

    try:
        expected = stable_stringify(document)
    except ValueError:
        return
    assert stable_stringify(shuffled) == expected


@pytest.mark.parametrize(
    "text",
    [",1.0,", ":1e5]", '\\",-0.0,\\"', "[18446744073709551617]", '\\\\",1.0,"', '"'],
    ids=["whole", "exponent", "escaped quotes", "integer", "backslashes", "quote"],
)
def test_a_number_within_a_text_stays(text):
    document = {text: [text, 1.0, -0.0, 1e21, {text: text, "n": [1e-7, text]}]}

    assert json.loads(stable_stringify(document)) == document
    assert f"{json.dumps(text)},1,0,1e+21," in stable_stringify(document)
