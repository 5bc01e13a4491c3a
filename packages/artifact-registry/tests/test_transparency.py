"""The log as a transparency log: notes and heads as C2SP writes them, tiles, witnesses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.errors import CheckpointError
from starfish_artifact_registry.events import FixityChecked, NewEvent
from starfish_artifact_registry.log._log import append_events, chain_events, head_of_log
from starfish_artifact_registry.model._merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from starfish_artifact_registry.proof import main, verify_consistency
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.transparency import (
    NoteKey,
    SignedNote,
    TreeHead,
    cosign_note,
    note_key_of,
    sign_note,
)

pytest.importorskip("cryptography", reason="the extra signing is not installed")

MakePackage = Callable[..., Awaitable[UUID]]
SEED, WITNESS = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "11" * 32
LOG = "example.org/registry"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXT = TreeHead(LOG, 5, bytes(range(32))).text()


def signed() -> SignedNote:
    return sign_note(TEXT, name=LOG, private_key=SEED)


def test_the_bytes_of_a_note_are_as_the_specification_says() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEED))
    public = key.public_key().public_bytes_raw()
    text = f"{LOG}\n5\n{base64.b64encode(bytes(range(32))).decode()}\n"
    key_id = hashlib.sha256(f"{LOG}\n".encode() + b"\x01" + public).digest()[:4]
    line = base64.b64encode(key_id + key.sign(text.encode())).decode()

    assert signed().encode().decode() == f"{text}\n— {LOG} {line}\n"
    encoded = base64.b64encode(b"\x01" + public).decode()
    assert str(note_key_of(LOG, SEED)) == f"{LOG}+{key_id.hex()}+{encoded}"


def test_the_published_example_of_a_key_and_a_note_holds() -> None:
    # Keys and note of the documentation of Go's package for signed notes.
    seed = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:].hex()
    key = NoteKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = (
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
        "otpRZb6KE6RyyBwJnAM=\n"
    )
    note = SignedNote.decode(f"{text}\n{line}".encode())

    note.check([key])
    assert note_key_of("PeterNeumann", seed) == key
    assert sign_note(text, name="PeterNeumann", private_key=seed) == note


def test_a_witness_signs_its_time_and_the_text() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    note = cosign_note(signed(), name="witness.example", private_key=WITNESS, at=WHEN)
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(WITNESS))
    public = key.public_key().public_bytes_raw()
    seconds = int(WHEN.timestamp())
    line = note.signatures[1]

    assert line.key_id == hashlib.sha256(b"witness.example\n\x04" + public).digest()[:4]
    assert line.signature[:8] == seconds.to_bytes(8)
    message = f"cosignature/v1\ntime {seconds}\n{TEXT}".encode()
    key.public_key().verify(line.signature[8:], message)


def test_who_signed_is_told_of_the_keys_that_one_trusts() -> None:
    own, witness = note_key_of(LOG, SEED), note_key_of("w", WITNESS, is_witness=True)
    stranger = note_key_of("other", "22" * 32)
    note = cosign_note(signed(), name="w", private_key=WITNESS, at=WHEN)

    assert note.signers([own, witness, stranger]) == {own: None, witness: WHEN}
    note.check([own, witness])
    note.check([witness, stranger], quorum=1)
    with pytest.raises(CheckpointError, match="signed by 1 of the 2 keys, not by the 2"):
        note.check([own, stranger])
    with pytest.raises(CheckpointError, match="signed by 0"):
        note.check([stranger])
    with pytest.raises(CheckpointError, match="signed by 0"):
        note.check([])


def test_cosignatures_are_gathered_in_one_note() -> None:
    note = signed()
    from_witness = cosign_note(note, name="w", private_key=WITNESS, at=WHEN)
    another = cosign_note(note, name="v", private_key="33" * 32, at=WHEN)

    gathered = note.with_signatures(from_witness).with_signatures(another)

    assert [line.name for line in gathered.signatures] == [LOG, "w", "v"]
    assert SignedNote.decode(gathered.encode()) == gathered
    other = sign_note(TreeHead(LOG, 6, bytes(32)).text(), name=LOG, private_key=SEED)
    with pytest.raises(CheckpointError, match="different texts"):
        note.with_signatures(other)


@given(st.data())
def test_any_changed_byte_of_a_note_is_refused_or_proves_nothing(data: st.DataObject) -> None:
    note = cosign_note(signed(), name="w", private_key=WITNESS, at=WHEN)
    keys = [note_key_of(LOG, SEED), note_key_of("w", WITNESS, is_witness=True)]
    encoded = bytearray(note.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(CheckpointError):
        SignedNote.decode(bytes(encoded)).check(keys)


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_reason(noise: bytes) -> None:
    with pytest.raises(CheckpointError):
        SignedNote.decode(noise)


@pytest.mark.parametrize(
    "text",
    [
        "", "a\n", "a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "a\n1\nAAAA\n",
        f"a b\n1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"a\n1\n{base64.b64encode(bytes(32)).decode()}",
        f"a\n1\n{base64.b64encode(bytes(32)).decode()}\n\n",
    ],
)  # fmt: skip
def test_what_is_not_a_head_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        TreeHead.parse(text)


def test_lines_of_other_logs_are_kept() -> None:
    text = TEXT + "an extension\n"
    assert TreeHead.parse(text).extensions == ("an extension",)
    assert TreeHead.parse(text).text() == text


async def grow(engine: AsyncEngine, package_id: UUID, count: int) -> None:
    checked = FixityChecked(files_checked=0, bytes_checked=0, missing=(), changed=())
    async with engine.begin() as connection:
        head = await head_of_log(connection)
        new = [NewEvent(package_id, checked, "ada") for _ in range(count)]
        chained = chain_events(head, new, now=WHEN, new_id=uuid4)
        await append_events(connection, chained)


async def test_any_two_heads_of_a_growing_log_are_consistent(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, {}, finalize=False)
    heads = [await registry.tree_head(LOG)]
    for count in (1, 2, 251, 1, 1, 255, 256, 300, 3):
        await grow(engine, package_id, count)
        heads.append(await registry.tree_head(LOG))

    for number, new in enumerate(heads):
        for old in heads[: number + 1]:
            proof = await registry.prove_consistency(old.size, new.size)
            assert verify_consistency(old.size, new.size, old.root_hash, new.root_hash, proof)
            assert len(proof) <= 2 * 11
            forged = bytes(32)
            assert not verify_consistency(old.size, new.size, forged, new.root_hash, proof)


async def test_the_entries_are_the_leaves_of_the_tiles(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, {}, finalize=False)
    await grow(engine, package_id, 299)
    head = await registry.tree_head(LOG)

    hashes: list[bytes] = []
    for position in (0, 1):
        _, entries = await registry.read_entries(position)
        _, tile = await registry.read_tile(0, position)
        assert tile == [leaf_hash(entry) for entry in entries]
        hashes += tile

    assert (len(hashes), root_of(hashes)) == (head.size, head.root_hash)


async def test_the_verifier_checks_a_proof_against_a_note_and_its_witnesses(
    registry: Registry, make_package: MakePackage, tmp_path: Path
) -> None:
    package_id = await make_package(registry, {"a": b"alpha"})
    proof = await registry.export_proof(package_id)
    head = await registry.tree_head(LOG)
    note = sign_note(head.text(), name=LOG, private_key=SEED)
    note = cosign_note(note, name="w", private_key=WITNESS, at=WHEN)
    other = sign_note(TreeHead(LOG, head.size, bytes(32)).text(), name=LOG, private_key=SEED)
    key = str(note_key_of(LOG, SEED))
    witness = str(note_key_of("w", WITNESS, is_witness=True))
    stranger = str(note_key_of("v", "33" * 32, is_witness=True))

    def check_here(data: bytes, note: SignedNote, options: Sequence[str]) -> int:
        (tmp_path / "proof").write_bytes(data)
        (tmp_path / "note").write_bytes(note.encode())
        return main([str(tmp_path / "proof"), "--note", str(tmp_path / "note"), *options])

    async def check(data: bytes, note: SignedNote, *options: str) -> int:
        return await asyncio.to_thread(check_here, data, note, options)

    assert await check(proof, note, "--note-key", key) == 0
    assert await check(proof, note, "--note-key", key, "--witness", witness) == 0
    both = ("--witness", witness, "--witness", stranger)
    assert await check(proof, note, "--note-key", key, *both, "--quorum", "1") == 0
    assert await check(proof, note, "--note-key", key, *both) == 1
    assert await check(proof, note) == 1
    assert await check(proof, other, "--note-key", key) == 1
    assert await check(proof, note, "--note-key", "noise") == 1


@given(st.data())
def test_another_implementation_agrees(data: st.DataObject) -> None:
    pymerkle: Any = pytest.importorskip("pymerkle", reason="the second opinion is not installed")
    size = data.draw(st.integers(1, 60))
    old = data.draw(st.integers(1, size))
    entries = [str(number).encode() for number in range(size)]
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in entries:
        tree.append_entry(entry)
    leaves = [leaf_hash(entry) for entry in entries]

    def subtree(start: int, end: int) -> bytes:
        return root_of(leaves[start:end])

    assert tree.get_root() == root_of(leaves)
    assert tree.get_root(old) == root_of(leaves[:old])
    theirs = tree.prove_inclusion(old, size)
    pymerkle.verify_inclusion(leaves[old - 1], root_of(leaves), theirs)
    ours = set(inclusion_proof([old - 1], size, subtree))
    assert ours == set(theirs.path) - {leaves[old - 1]}
    consistency = tree.prove_consistency(old, size)
    pymerkle.verify_consistency(root_of(leaves[:old]), root_of(leaves), consistency)
    # Its consistency proofs have another form, so ours is checked against its roots.
    own = consistency_proof(old, size, subtree)
    assert verify_consistency(old, size, tree.get_root(old), tree.get_root(), own)
