import json
import shutil
import subprocess

import pytest

pytest.importorskip("cryptography", reason="needs the extra signing")

from starfish_protocol.append_author import (
    doc_author_canonical_input,
    sign_doc_author,
    verify_doc_author,
)

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PROGRAM = r"""
const {createPrivateKey, createPublicKey, sign, verify} = require("crypto");
const {text, pub, priv, signature} = JSON.parse(require("fs").readFileSync(0, "utf8"));
const url = (hex) => Buffer.from(hex, "hex").toString("base64url");
const jwk = {kty: "OKP", crv: "Ed25519", x: url(pub)};
const publicKey = createPublicKey({format: "jwk", key: jwk});
const privateKey = createPrivateKey({format: "jwk", key: {...jwk, d: url(priv)}});
const bytes = Buffer.from(text, "utf8");
console.log(JSON.stringify({
  verified: verify(null, bytes, publicKey, Buffer.from(signature, "base64")),
  signature: sign(null, bytes, privateKey).toString("base64"),
}));
"""


def test_javascript_verifies_our_signature_and_we_verify_its():
    key, data = "notes/ada", {"title": "é 😀", "n": [1.0, 1e21]}
    signature = sign_doc_author(key, data, PUBLIC, PRIVATE)["authorSignature"]
    question = {
        "text": doc_author_canonical_input(key, data),
        "pub": PUBLIC,
        "priv": PRIVATE,
        "signature": signature,
    }

    answer = json.loads(
        subprocess.run(
            [NODE, "-e", PROGRAM],
            input=json.dumps(question).encode(),
            capture_output=True,
            check=True,
        ).stdout
    )

    assert answer["verified"] is True
    assert verify_doc_author(key, data, PUBLIC, answer["signature"])
