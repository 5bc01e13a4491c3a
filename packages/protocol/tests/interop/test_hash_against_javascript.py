import json
import math
import struct
import subprocess
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_protocol.hash import compute_hash, stable_stringify

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(180)]

# Answers each line, a JSON list of documents, with a line of their texts and hashes, both made by
# the package. Documents are made by hand: an object of JavaScript puts keys like "10" first.
STRANGER = uuid.uuid4().hex  # no document holds it, so it can stand for numbers without JSON
PROGRAM = r"""
import {stableStringify, computeHash} from "@drakkar.software/starfish-protocol";
import {createInterface} from "node:readline";
const strangers = {__proto__: null, "STRANGERnan": NaN, "STRANGERinf": Infinity, "STRANGER-inf": -Infinity};
for await (const line of createInterface({input: process.stdin})) {
  const documents = JSON.parse(line, (_, value) => typeof value === "string" && value in strangers ? strangers[value] : value);
  console.log(JSON.stringify(await Promise.all(documents.map(async (document) =>
    [stableStringify(document), await computeHash(document)]))));
}
""".replace("STRANGER", STRANGER)

doubles = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0])
near_borders = st.sampled_from(
    [1e-7, 1e-6, 1e-5, 1e-4, 1e15, 1e16, 1e17, 1e20, 1e21, 1e22, 2.0**53, 2.0**63, 1.0, -1.0]
).flatmap(
    lambda x: st.sampled_from([x, -x, math.nextafter(x, 0), math.nextafter(x, math.inf), x * 3])
)
integers = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from(
    [s * 2**e + d for e in (52, 53, 54, 63, 64, 1023, 1024) for d in (-1, 0, 1) for s in (1, -1)]
)  # fmt: skip
units = st.sampled_from(
    ["\ud83d", "\ude00", "\ud800", "\udfff", "😀", "\uffff", "\ue000", "é", "a", "1"]
)
texts = st.text(max_size=8) | st.lists(units, max_size=4).map("".join) | st.sampled_from(
    ["__proto__", "constructor", "toString", "length", "10", "9", "-1", "\x00", "\x7f", "\u2028", ",1.0,"]
)  # fmt: skip
documents = st.recursive(
    st.none() | st.booleans() | st.floats() | doubles | near_borders | integers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=15,
)


def portable(value):
    """The same document with a text, that the other side knows, for each float JSON cannot carry."""
    if isinstance(value, dict):
        return {key: portable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [portable(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return f"{STRANGER}{value}"
    return value


@pytest.fixture(scope="module")
def javascript(javascript_package):
    (javascript_package / "answer.mjs").write_text(PROGRAM)
    process = subprocess.Popen(
        ["node", "answer.mjs"],
        cwd=javascript_package,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )

    def ask(batch, *, is_portable=False):
        line = json.dumps(batch if is_portable else portable(batch))
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with process:
        yield ask
        process.stdin.close()
        process.wait()


def ours(batch):
    return [[stable_stringify(document), compute_hash(document)] for document in batch]


def has_keys_that_are_one_in_javascript(document):
    try:
        stable_stringify(document)
    except ValueError:
        return True
    return False


@given(
    batch=st.lists(
        documents.filter(lambda document: not has_keys_that_are_one_in_javascript(document)),
        max_size=5,
    )
)
@example(batch=[{"😀": 1, "\uffff": 2, "10": 3, "9": 4, "__proto__": {"a": 1}}])
@example(batch=["\ud83d\ude00", "\ude00\ud83d", "\ud800", {"\udfff": -0.0}])
@example(batch=[math.nan, [math.inf, -math.inf], 10**400, -(10**400), 2**53 + 1])
def test_javascript_writes_and_hashes_the_same(javascript, batch):
    assert ours(batch) == javascript(batch)


def test_every_character_is_written_the_same(javascript):
    codes = [*range(0x300), *range(0x2000, 0x2070), *range(0xD7F0, 0xE010), *range(0xFF00, 0x10010)]
    batch = [chr(code) for code in codes] + [{chr(code): 1 for code in codes}]

    assert ours(batch) == javascript(batch)


@given(batch=st.lists(doubles | near_borders | st.floats(), min_size=50, max_size=100))
def test_every_double_is_written_the_same(javascript, batch):
    assert ours(batch) == javascript(batch)
    assert ours([batch]) == javascript([batch])


@pytest.mark.parametrize("depth", [200, 300, 512])
def test_deep_documents_are_written_the_same(javascript, depth):
    document = 1.0
    for level in range(depth):
        document = [document] if level % 2 else {"a": document}

    assert ours([document]) == javascript([document], is_portable=True)
