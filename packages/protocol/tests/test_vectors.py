"""The golden vectors of the wire: made by running the public packages with fixed keys and clocks.

`right` wins over the public packages' own answers where both stand there; the reason is in `means`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol import (
    RequestSignature,
    append_author_canonical_input,
    assert_cap_cert_well_formed,
    build_revocation_list,
    cap_cert_canonical_signing_input,
    compute_hash,
    decode_link_fragment,
    derive_key,
    doc_author_canonical_input,
    ed25519_suite,
    encode_link_fragment,
    from_base64url,
    is_root_device_cap,
    is_within_clock_skew,
    path_glob_match,
    recipient_kem,
    request_signing_canonical_input,
    revocation_list_canonical_signing_input,
    sign_append_author,
    sign_cap_cert,
    sign_doc_author,
    sign_request,
    slugify,
    stable_stringify,
    to_base64url,
    user_id_from_pub_hex,
    verify_append_author,
    verify_cap_cert,
    verify_cap_cert_signature,
    verify_doc_author,
    verify_request_signature,
)
from starfish_protocol.cap_sharing import assert_shareable_cap
from starfish_protocol.revocation import revocation_list_fault


@cache
def vectors(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "vectors" / f"{name}.json").read_text())


def cases(name: str, table: str) -> Any:
    return pytest.mark.parametrize(
        "case", vectors(name)[table], ids=range(len(vectors(name)[table]))
    )


def answer(case: dict[str, Any], otherwise: str) -> Any:
    return case.get("right", case.get("result", case.get(otherwise)))


@cases("canonical-json", "cases")
def test_canonical_json(case: dict[str, Any]) -> None:
    value = json.loads(case["json"])
    expected = case if case["same"] else case[case["right"]]

    assert stable_stringify(value) == expected["text"]
    assert compute_hash(value) == expected["sha256"]


def test_what_the_public_python_package_writes_without_an_error_is_refused() -> None:
    assert stable_stringify((None,)) == "[null]"
    for value in ({"a": b""}, {1: 2}):
        with pytest.raises(TypeError):
            stable_stringify(value)


@cases("authors", "cases")
def test_author_signatures(case: dict[str, Any]) -> None:
    author, key, data = (
        vectors("authors")["author"],
        case["documentKey"],
        json.loads(case["dataJson"]),
    )
    pair = author["edPub"], author["edPriv"]
    ours = case if case["same"] else case["typescript"]  # JavaScript's numbers are the wire's

    assert doc_author_canonical_input(key, data) == ours["docInput"]
    assert append_author_canonical_input(key, data) == ours["appendInput"]
    assert sign_doc_author(key, data, *pair) == ours["doc"]
    assert sign_append_author(key, data, *pair) == ours["append"]
    for signed in (case, ours):
        assert verify_doc_author(key, data, author["edPub"], signed["doc"]["authorSignature"])
        assert verify_append_author(key, data, author["edPub"], signed["append"]["authorSignature"])
    doc = case["doc"]["authorSignature"]
    assert verify_append_author(key, data, author["edPub"], doc) is False
    assert verify_doc_author(key, data, author["edPub"].upper(), doc) is True


@cases("cap-certs", "certs")
def test_capability_certificates(case: dict[str, Any]) -> None:
    cert = case["cert"]
    (issuer,) = [k for k in vectors("cap-certs")["keyPairs"].values() if k["edPub"] == cert["iss"]]
    unsigned = {member: value for member, value in cert.items() if member != "sig"}

    assert cap_cert_canonical_signing_input(cert) == case["signingInput"]
    assert sign_cap_cert(unsigned, issuer["edPriv"]) == cert
    assert verify_cap_cert_signature(cert) is True
    assert is_root_device_cap(cert) is case["rootDevice"]
    if case["recipientKem"] is None:
        with pytest.raises(ValueError, match="names no recipient"):
            recipient_kem(cert)
    else:
        assert recipient_kem(cert) == case["recipientKem"]
    header = base64.b64encode(stable_stringify(cert).encode()).decode()
    assert case["authorizationHeader"] == f"Cap {header}"


@cases("cap-certs", "verify")
def test_the_verdict_on_a_certificate(case: dict[str, Any]) -> None:
    skew = {"clock_skew_sec": case["clockSkewSec"]} if "clockSkewSec" in case else {}

    assert verify_cap_cert(case["cert"], now=case["now"], **skew) == case["right"], case["means"]


@cases("cap-shapes", "cases")
def test_the_rules_of_certificates_that_share(case: dict[str, Any]) -> None:
    pairs = vectors("cap-certs")["keyPairs"]
    issuer = pairs["alice"]
    subject = issuer if case["result"] == "member-self" else pairs["bob"]
    cert = {"kind": case["kind"], "issUserId": issuer["userId"], "scope": case["scope"]}
    if case["kind"] == "member":
        cert["subUserId"] = subject["userId"]
    for member in case.get("other", {}):
        del cert[member]

    if case["result"] == "ok":
        assert_shareable_cap(cert)
    else:
        with pytest.raises(ValueError) as refusal:
            assert_shareable_cap(cert)
        assert str(refusal.value) == case["result"]


@cases("signed-requests", "requests")
def test_signed_requests(case: dict[str, Any]) -> None:
    body = base64.b64decode(case["bodyBase64"])
    request = (case["method"], case["pathAndQuery"], body)
    nonce = base64.b64decode(case["nonce"])
    expected = RequestSignature(case["sig"], case["ts"], case["nonce"])

    signed = sign_request(
        *request, case["signerPriv"], host=case["host"], ts=case["ts"], nonce=nonce
    )

    assert hashlib.sha256(body).hexdigest() == case["bodySha256"]
    text = request_signing_canonical_input(*request, case["ts"], case["nonce"], host=case["host"])
    assert text == case["canonical"]
    assert signed == expected
    assert verify_request_signature(*request, signed, case["signerPub"], host=case["host"])


@cases("signed-requests", "verify")
def test_the_verdict_on_a_signed_request(case: dict[str, Any]) -> None:
    table = vectors("signed-requests")
    (base,) = [r for r in table["requests"] if r["name"] == table["verifyOf"]]
    change = case["change"]
    body = base64.b64decode(change.get("body", {}).get("base64", base["bodyBase64"]))
    signature = RequestSignature(
        change.get("sig", base["sig"]),
        change.get("ts", base["ts"]),
        change.get("nonce", base["nonce"]),
    )

    verdict = verify_request_signature(
        change.get("method", base["method"]),
        change.get("pathAndQuery", base["pathAndQuery"]),
        body,
        signature,
        change.get("pub", base["signerPub"]),
        host=change.get("host", base["host"]),
    )

    assert verdict is case["result"]


@cases("signed-requests", "skew")
def test_clock_skew(case: dict[str, Any]) -> None:
    assert is_within_clock_skew(case["reqTs"], case["now"]) is case["result"]


@cases("scope-paths", "globs")
def test_globs(case: dict[str, Any]) -> None:
    assert path_glob_match(case["glob"], case["target"]) is case["right"]


@pytest.mark.parametrize("name", ["lists", "thenRefused"])
def test_revocation_lists(name: str) -> None:
    for case in vectors("revocations")[name]:
        given = case["list"]
        fault = revocation_list_fault(given)
        reason = case.get("right", case.get("accept")).get("reason")

        assert fault == (None if reason == "stale-generation" else reason), case["means"]
        if "signingInput" in case:
            assert revocation_list_canonical_signing_input(given) == case["signingInput"]
            (issuer,) = [
                k for k in vectors("cap-certs")["keyPairs"].values() if k["edPub"] == given["iss"]
            ]
            assert given == build_revocation_list(
                given["iss"],
                issuer["edPriv"],
                given["generation"],
                given["revoked"],
                given.get("revokedSubjects"),
            )


@cases("encodings", "base64url")
def test_base64url(case: dict[str, Any]) -> None:
    assert to_base64url(case["text"]) == case["encoded"]
    assert from_base64url(case["encoded"]) == case["text"]


@cases("encodings", "decode")
def test_base64url_is_decoded_strictly(case: dict[str, Any]) -> None:
    expected = answer(case, "python")

    if expected.get("error"):
        with pytest.raises(ValueError):
            from_base64url(case["encoded"])
    else:
        assert from_base64url(case["encoded"]) == expected["text"]


@cases("encodings", "links")
def test_links(case: dict[str, Any]) -> None:
    url = encode_link_fragment(case["origin"], case["path"], case["token"])

    assert url == case.get("url", case.get("typescript"))
    for link in filter(None, (case.get("url"), case.get("python"), case.get("typescript"))):
        for given in (link, link.partition("#")[2]):
            token = decode_link_fragment(given, lambda token: (token,))
            assert token == (case["token"],)


def test_a_public_link_is_read_as_its_bare_value() -> None:
    link = vectors("encodings")["publicLink"]

    token = decode_link_fragment(link["fragment"], lambda token: token)

    assert token == {"v": 1, "cap": link["cap"]}
    assert_cap_cert_well_formed(token["cap"])


@pytest.mark.parametrize("fragment", ["%%%", "abcde", "", "W10"])
def test_a_link_that_is_none_has_the_callers_words(fragment: str) -> None:
    with pytest.raises(ValueError, match=r"^not a link$"):
        decode_link_fragment(fragment, lambda token: token["cap"], "not a link")


@cases("encodings", "slugs")
def test_slugs(case: dict[str, Any]) -> None:
    assert slugify(case["name"]) == case.get("slug", case.get("python"))


@cases("encodings", "userIds")
def test_user_ids(case: dict[str, Any]) -> None:
    assert user_id_from_pub_hex(case["pub"]) == case["userId"]


@cases("suites", "sign")
def test_signatures(case: dict[str, Any]) -> None:
    message = base64.b64decode(case["messageBase64"])

    assert ed25519_suite.sign(message, case["priv"]).hex() == case["sigHex"]
    assert ed25519_suite.public_key(case["priv"]) == case["pub"]


@cases("suites", "verify")
def test_the_verdict_on_a_signature(case: dict[str, Any]) -> None:
    message = base64.b64decode(case["messageBase64"])

    verdict = ed25519_suite.verify(bytes.fromhex(case["sigHex"]), message, case["pub"])

    assert verdict is case["right"], case["means"]


@cases("suites", "sharedSecret")
def test_shared_secrets(case: dict[str, Any]) -> None:
    secret = ed25519_suite.derive_shared_secret(case["aPriv"], case["bPub"])

    assert secret.hex() == case["shared"]


@cases("suites", "badPeers")
def test_a_peer_without_a_usable_key_is_refused(case: dict[str, Any]) -> None:
    private, _ = ed25519_suite.generate_kem_keypair()

    with pytest.raises(ValueError):
        ed25519_suite.derive_shared_secret(private, case["pub"])


@cases("suites", "kemPublic")
def test_public_keys_of_key_agreement(case: dict[str, Any]) -> None:
    assert ed25519_suite.kem_public(case["priv"]) == case["pub"]


@cases("suites", "hkdf")
def test_derived_keys(case: dict[str, Any]) -> None:
    key = derive_key(case["secret"], case["salt"], case["info"].encode())

    assert key.hex() == case["key"]
