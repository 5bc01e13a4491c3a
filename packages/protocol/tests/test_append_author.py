import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra signing")

from starfish_protocol.append_author import (
    APPEND_AUTHOR_DOMAIN,
    DOC_AUTHOR_DOMAIN,
    append_author_canonical_input,
    doc_author_canonical_input,
    sign_append_author,
    sign_doc_author,
    verify_append_author,
    verify_doc_author,
)

# RFC 8032 section 7.1, test 1.
PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
# Section 7.1, test 2.
OTHER_PRIVATE = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
OTHER_PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
KEY = "notes/ada"
DATA = {"title": "Starfish", "n": [1.0, None, "é"]}
BOTH = pytest.mark.parametrize(
    ("sign", "verify"),
    [(sign_append_author, verify_append_author), (sign_doc_author, verify_doc_author)],
    ids=["append", "doc"],
)


def test_the_signed_text_is_a_domain_line_and_canonical_json():
    assert APPEND_AUTHOR_DOMAIN == "starfish-append-author-v1\n"
    assert DOC_AUTHOR_DOMAIN == "starfish-doc-author-v1\n"
    assert append_author_canonical_input(KEY, DATA) == (
        'starfish-append-author-v1\n{"d":{"n":[1,null,"é"],"title":"Starfish"},"k":"notes/ada"}'
    )
    assert doc_author_canonical_input(KEY, DATA) == (
        'starfish-doc-author-v1\n{"d":{"n":[1,null,"é"],"title":"Starfish"},"k":"notes/ada"}'
    )


def test_the_signatures_are_the_published_ones():
    assert sign_doc_author(KEY, DATA, PUBLIC, PRIVATE)["authorSignature"] == (
        "zq/GtZNShcpwf4NHN+J+YaAvIaJxzH3SKmhaoPSKcjCMQOMYK5oIfl64+EY0e8rs4vdNRwwqBfNNXtZlTuoRDA=="
    )
    assert sign_append_author(KEY, DATA, PUBLIC, PRIVATE)["authorSignature"] == (
        "wX6sc4ffqdFpvozM7nilCNlldLaRPwLC9Bf+cjx6WFqSFusJcqj2cqVNaZEGK4pUzIAEuLBjKcpkDPAdYINoAQ=="
    )


@BOTH
def test_a_signature_holds_for_its_place_data_and_author_only(sign, verify):
    author = sign(KEY, DATA, PUBLIC, PRIVATE)
    public, signature = author["authorPubkey"], author["authorSignature"]

    assert list(author) == ["authorPubkey", "authorSignature"]
    assert public == PUBLIC
    assert verify(KEY, DATA, public, signature) is True
    assert verify(KEY, {**DATA, "n": [1, None, "é"]}, public, signature) is True
    assert verify(KEY + "/", DATA, public, signature) is False
    assert verify(KEY, {**DATA, "x": 1}, public, signature) is False
    assert verify(KEY, DATA, OTHER_PUBLIC, signature) is False
    other = verify_doc_author if verify is verify_append_author else verify_append_author
    assert other(KEY, DATA, public, signature) is False


@BOTH
@pytest.mark.parametrize(
    "public",
    ["", PUBLIC[:-1], PUBLIC + "00", PUBLIC + "\n", " " + PUBLIC, "0x" + PUBLIC[2:],
     "z" * 64, "f" * 64, "0" * 64, "\ud800" * 64, None, 5, b"0" * 64, bytes.fromhex(PUBLIC), [PUBLIC]],
    ids=range(15),
)  # fmt: skip
def test_a_malformed_key_verifies_nothing(sign, verify, public):
    signature = sign(KEY, DATA, PUBLIC, PRIVATE)["authorSignature"]

    assert verify(KEY, DATA, public, signature) is False


@BOTH
def test_a_malformed_signature_verifies_nothing(sign, verify):
    good = sign(KEY, DATA, PUBLIC, PRIVATE)["authorSignature"]
    raw = base64.b64decode(good)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused_bits_set = good[:85] + alphabet[alphabet.index(good[85]) | 1] + "=="
    assert base64.b64decode(unused_bits_set) == raw

    malformed = ["", good[:-1], good[:-2], good + "=", good + "\n", " " + good, good[:40] + "\n" + good[40:],
                 unused_bits_set, raw.hex(), base64.b64encode(raw[:63]).decode(),
                 base64.b64encode(raw + b"0").decode(), base64.b64encode(bytes(64)).decode(),
                 good.encode(), raw, None, 5, [good], "é" * 88, "\ud800" * 88]  # fmt: skip
    assert [verify(KEY, DATA, PUBLIC, signature) for signature in malformed] == [False] * 19


def test_urlsafe_base64_verifies_nothing():
    signature = next(
        signature
        for n in range(1000)
        if "/" in (signature := sign_doc_author(KEY, n, PUBLIC, PRIVATE)["authorSignature"])
        and verify_doc_author(KEY, n, PUBLIC, signature)
    )
    assert all(
        not verify_doc_author(KEY, n, PUBLIC, signature.replace("/", "_").replace("+", "-"))
        for n in range(1000)
    )


@BOTH
@pytest.mark.parametrize("data", [b"x", {1: 2}, {"a": {1}}, object(), [[]]], ids=range(5))
@pytest.mark.parametrize("key", [KEY, None, 5, b"notes/ada"], ids=range(4))
def test_data_or_keys_without_canonical_json_verify_nothing(sign, verify, data, key):
    signature = sign(KEY, DATA, PUBLIC, PRIVATE)["authorSignature"]

    assert verify(key, data, PUBLIC, signature) is False


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@BOTH
def test_data_nested_too_deep_is_a_value_error_to_sign_and_verifies_nothing(sign, verify):
    with pytest.raises(ValueError, match="nested deeper"):
        sign(KEY, nested(100_000), PUBLIC, PRIVATE)

    assert verify(KEY, nested(100_000), PUBLIC, base64.b64encode(bytes(64)).decode()) is False


@BOTH
@pytest.mark.parametrize("bad", ["", PRIVATE[:-1], PRIVATE.upper(), PRIVATE + "\n", "g" * 64])
def test_a_malformed_key_signs_nothing_and_is_not_shown(sign, verify, bad):
    with pytest.raises(ValueError, match=r"^a private key must be 64 lowercase hex digits$"):
        sign(KEY, DATA, PUBLIC, bad)
    with pytest.raises(ValueError, match=r"^a public key must be 64 lowercase hex digits$"):
        sign(KEY, DATA, bad, PRIVATE)


@BOTH
def test_keys_that_are_no_pair_sign_nothing(sign, verify):
    with pytest.raises(ValueError, match=r"^the public key does not belong to the private key$"):
        sign(KEY, DATA, OTHER_PUBLIC, PRIVATE)
    assert sign(KEY, DATA, OTHER_PUBLIC, OTHER_PRIVATE)["authorPubkey"] == OTHER_PUBLIC


@BOTH
def test_what_cannot_be_signed_is_a_type_error(sign, verify):
    with pytest.raises(TypeError, match=r"^\$\.d\.a is of type bytes"):
        sign(KEY, {"a": b""}, PUBLIC, PRIVATE)
    with pytest.raises(TypeError, match=r"^a document key is a str, not int$"):
        sign(5, DATA, PUBLIC, PRIVATE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=5,
)


@given(key=st.text(), data=json_values)
def test_what_was_signed_verifies(key, data):
    author = sign_doc_author(key, data, PUBLIC, PRIVATE)

    assert verify_doc_author(key, data, author["authorPubkey"], author["authorSignature"])


@given(
    key=json_values,
    data=json_values | st.binary() | st.just(math.nan),
    public=st.text() | st.binary() | st.none() | st.just(PUBLIC),
    signature=st.text() | st.binary() | st.none() | st.binary(min_size=64, max_size=64).map(
        lambda raw: base64.b64encode(raw).decode()
    ),
)  # fmt: skip
def test_nothing_makes_verify_raise(key, data, public, signature):
    assert verify_doc_author(key, data, public, signature) is False
    assert verify_append_author(key, data, public, signature) is False
