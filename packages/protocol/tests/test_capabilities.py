import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol import (
    RequestSignature,
    decode_link_fragment,
    ed25519_suite,
    encode_link_fragment,
    from_base64url,
    path_glob_match,
    sign_cap_cert,
    sign_request,
    to_base64url,
    verify_cap_cert,
    verify_cap_cert_signature,
    verify_request_signature,
)
from starfish_protocol.revocation import (
    MAX_REVOKED_ENTRIES,
    build_revocation_list,
    revocation_list_fault,
)

PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = ed25519_suite.public_key(PRIVATE)

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)


@cache
def certificates() -> list[dict]:
    table = json.loads((Path(__file__).parent / "vectors/cap-certs.json").read_text())
    return [case["cert"] for case in table["certs"]]


members = st.sampled_from(["v", "kind", "iss", "issUserId", "sub", "subKem", "subUserId", "scope", "aud",
                           "nbf", "exp", "nonce", "sig"])  # fmt: skip


@given(
    which=st.integers(0, 7),
    changes=st.dictionaries(members, json_values, min_size=1, max_size=3),
    scope=st.none()
    | st.dictionaries(st.sampled_from(["ops", "collections", "paths"]), json_values),
)
def test_no_certificate_makes_the_verifier_raise_and_no_change_passes(which, changes, scope):
    cert = certificates()[which]
    changed = {**cert, **changes}
    if scope is not None:
        changed["scope"] = {**cert["scope"], **scope}

    verdict = verify_cap_cert(changed, now=1_900_040_000)

    assert verdict == {"ok": True} if changed == cert else verdict["ok"] is False


@pytest.mark.parametrize(
    "cert", [None, 5, "cap", [], [{}], {}, {"iss": 5}, {"iss": PUBLIC, "sig": []}]
)
def test_anything_else_than_a_certificate_is_malformed(cert):
    assert verify_cap_cert(cert, now=0) == {"ok": False, "reason": "malformed-shape"}
    assert verify_cap_cert_signature(cert) is False


@pytest.mark.parametrize(
    "change",
    [
        {"nbf": 1e400},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"scope": {"ops": [], "collections": [], "paths": ["x"] * 65}},
        {"scope": {"ops": [], "collections": [], "paths": ["x" * 513]}},
        {"scope": {"ops": [], "collections": ["x"] * 65}},
        {"extra": [[[[[[[[]]]]]]]]},
    ],
    ids=range(7),
)
def test_a_certificate_has_bounds(change):
    assert verify_cap_cert({**certificates()[0], **change}, now=1_900_040_000)["ok"] is False


@given(extra=st.dictionaries(texts.filter(lambda key: key != "sig"), json_values))
def test_unknown_members_are_part_of_the_signature(extra):
    cert = sign_cap_cert({**extra, "iss": PUBLIC, "sig": "dropped"}, PRIVATE)

    assert verify_cap_cert_signature(cert) is True
    assert verify_cap_cert_signature({**cert, "one more": 1}) is False


@given(
    method=texts, path=texts, body=st.binary(), host=st.none() | texts, ts=st.integers(0, 2**53 - 2),
    nonce=st.binary(min_size=16, max_size=16), other=st.binary(),
)  # fmt: skip
def test_a_signed_request_verifies_as_it_was_and_no_other_way(
    *, method, path, body, host, ts, nonce, other
):
    signed = sign_request(method, path, body, PRIVATE, host=host, ts=ts, nonce=nonce)

    assert verify_request_signature(method, path, body, signed, PUBLIC, host=host)
    assert verify_request_signature(method, path, other, signed, PUBLIC, host=host) is (
        other == body
    )
    assert not verify_request_signature(method, path + "x", body, signed, PUBLIC, host=host)
    moved = RequestSignature(signed.sig, ts + 1, signed.nonce)
    assert not verify_request_signature(method, path, body, moved, PUBLIC, host=host)


@given(sig=json_values, ts=json_values, nonce=json_values, key=json_values)
def test_nothing_makes_the_verifier_of_a_request_raise(sig, ts, nonce, key):
    assert not verify_request_signature("GET", "/", b"", RequestSignature(sig, ts, nonce), key)
    assert not verify_request_signature("GET", "/", b"", None, PUBLIC)


@given(value=json_values)
def test_anything_else_than_a_list_is_a_malformed_list(value):
    assert revocation_list_fault(value) == "malformed-shape"


def test_a_list_has_a_bound():
    entry = {"sub": "", "nonce": "", "exp": 1}
    most = build_revocation_list(PUBLIC, PRIVATE, 1, [entry] * MAX_REVOKED_ENTRIES)
    more = build_revocation_list(PUBLIC, PRIVATE, 1, [entry] * (MAX_REVOKED_ENTRIES + 1))

    assert revocation_list_fault(most) is None
    assert revocation_list_fault(more) == "malformed-shape"


globs = st.text(st.sampled_from("ab/*"), max_size=8)


@given(glob=globs, target=st.text(st.sampled_from("ab/"), max_size=8))
def test_a_glob_matches_by_its_definition(glob, target):
    def matches(pattern, text):
        if not pattern:
            return not text
        if pattern.startswith("**"):
            return any(matches(pattern[2:], text[i:]) for i in range(len(text) + 1))
        if pattern[0] == "*":
            run = len(text.partition("/")[0])
            return any(matches(pattern[1:], text[i:]) for i in range(run + 1))
        return text[:1] == pattern[0] and matches(pattern[1:], text[1:])

    assert path_glob_match(glob, target) is matches(glob, target)


def test_no_glob_is_slow():
    assert path_glob_match("*a" * 250, "a" * 512 + "b") is False
    assert path_glob_match("**a" * 170, "a" * 512 + "b") is False


@given(text=texts)
def test_base64url_survives_the_round_trip(text):
    assert from_base64url(to_base64url(text)) == text


@given(text=st.text())
def test_what_is_not_base64url_is_a_value_error(text):
    try:
        from_base64url(text)
    except ValueError:
        return
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=")


@given(
    token=json_values.filter(
        lambda value: "NaN" not in repr(json.dumps(value)) and "Infinity" not in json.dumps(value)
    )
)
def test_a_link_carries_its_token(token):
    link = encode_link_fragment("https://app.example", "/join", token)

    assert decode_link_fragment(link, lambda value: (value,)) == (token,)


@pytest.mark.parametrize("fragment", [None, 5, "", "#", "#=", "#!!"])
def test_a_link_without_a_token_is_a_value_error(fragment):
    with pytest.raises(ValueError, match=r"^invalid link fragment$"):
        decode_link_fragment(fragment, lambda value: value)


def test_a_shared_secret_is_the_same_on_both_sides():
    ours, theirs = ed25519_suite.generate_kem_keypair(), ed25519_suite.generate_kem_keypair()

    assert ed25519_suite.derive_shared_secret(ours[0], theirs[1]) == (
        ed25519_suite.derive_shared_secret(theirs[0], ours[1])
    )
    with pytest.raises(ValueError, match="zero"):
        ed25519_suite.assert_usable_shared_secret(bytes(32))
