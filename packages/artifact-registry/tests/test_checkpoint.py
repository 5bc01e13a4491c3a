"""Checkpoints: one byte form, signatures that cover every field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_artifact_registry.checkpoint import Checkpoint, sign_checkpoint
from starfish_artifact_registry.errors import CheckpointError
from starfish_protocol import cbor

SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"  # RFC 8032, test 1
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

GOLDEN = (
    "a7 66 666f726d6174 781c 73746172666973682d72656769737472792d636865636b706f696e74"
    "67 76657273696f6e 01 68 73657175656e6365 07"
    "69 7369676e6174757265 5840 SIGNATURE"
    "6a 637265617465645f6174 1b0000019b7ca98f2e"
    "6a 7075626c69635f6b6579 5820 d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    "6c 6576656e745f646967657374 5820 1111111111111111111111111111111111111111111111111111111111111111"
).replace(" ", "")


@pytest.fixture(scope="module", autouse=True)
def needs_the_extra_signing() -> None:
    pytest.importorskip("cryptography", reason="the extra signing is not installed")


def signed(sequence: int = 7, digest: bytes = b"\x11" * 32) -> Checkpoint:
    return sign_checkpoint(sequence, digest, created_at=WHEN, private_key=SEED)


def test_the_bytes_of_a_checkpoint_are_as_documented() -> None:
    checkpoint = signed()

    assert checkpoint.encode().hex() == GOLDEN.replace("SIGNATURE", checkpoint.signature.hex())


def test_what_is_signed_is_the_domain_line_and_the_map_without_the_signature() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    checkpoint = signed()
    fields = cbor.decode(checkpoint.encode())
    del fields["signature"]

    Ed25519PublicKey.from_public_bytes(bytes.fromhex(PUBLIC)).verify(
        checkpoint.signature, b"starfish-registry-checkpoint-v1\n" + cbor.encode(fields)
    )


@given(
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.datetimes(timezones=st.just(UTC)),
)
def test_a_checkpoint_comes_back_as_it_was(sequence: int, digest: bytes, when: datetime) -> None:
    checkpoint = sign_checkpoint(sequence, digest, created_at=when, private_key=SEED)

    again = Checkpoint.decode(checkpoint.encode())

    assert again == checkpoint
    again.verify([PUBLIC])
    assert timedelta(0) <= when - again.created_at < timedelta(milliseconds=1)


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    encoded = bytearray(signed().encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(CheckpointError):
        Checkpoint.decode(bytes(encoded)).verify([PUBLIC])


@given(st.binary(max_size=300))
def test_noise_is_no_checkpoint(noise: bytes) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.decode(noise)


def test_a_signature_by_somebody_else_is_not_trusted() -> None:
    with pytest.raises(CheckpointError, match="none of the 1 trusted keys"):
        signed().verify([PUBLIC.replace("d7", "d8")])


def test_nobody_trusted_means_nothing_is_trusted() -> None:
    with pytest.raises(CheckpointError):
        signed().verify([])


@pytest.mark.parametrize("key", ["", "ab", SEED.upper(), SEED + "00"])
def test_a_malformed_key_is_the_callers_mistake_and_is_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="64 lowercase hex digits") as refused:
        sign_checkpoint(1, bytes(32), created_at=WHEN, private_key=key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize(
    ("sequence", "digest"), [(0, bytes(32)), (1, bytes(31)), (2**63, bytes(32))]
)
def test_what_is_no_head_is_not_signed(sequence: int, digest: bytes) -> None:
    with pytest.raises(CheckpointError):
        sign_checkpoint(sequence, digest, created_at=WHEN, private_key=SEED)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        sign_checkpoint(1, bytes(32), created_at=WHEN.replace(tzinfo=None), private_key=SEED)
