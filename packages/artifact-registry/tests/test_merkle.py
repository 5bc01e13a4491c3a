"""The Merkle tree: vectors of RFC 6962, proofs of any shape, and tiles that agree with the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.events import FixityChecked, NewEvent
from starfish_artifact_registry.log._log import append_events, chain_events, head_of_log
from starfish_artifact_registry.log._tiles import TreeReader
from starfish_artifact_registry.model._merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_from_inclusion,
    root_of,
    verify_consistency,
)
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import Registry

MakePackage = Callable[..., Awaitable[UUID]]

# The leaves and roots that certificate transparency publishes for RFC 6962.
LEAVES = [
    bytes.fromhex(digits)
    for digits in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots(size: int) -> None:
    assert root_of([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size - 1]


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


@given(st.data())
def test_some_leaves_and_their_proof_give_the_root_and_nothing_else_does(
    data: st.DataObject,
) -> None:
    size = data.draw(st.integers(1, 70))
    wanted = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    leaves = leaves_of(size)
    proof = inclusion_proof(wanted, size, lambda start, end: root_of(leaves[start:end]))
    own = {index: leaves[index] for index in wanted}

    assert root_from_inclusion(own, size, proof) == root_of(leaves)
    assert root_from_inclusion(own | {wanted[0]: bytes(32)}, size, proof) != root_of(leaves)
    with pytest.raises(ValueError, match="too many"):
        root_from_inclusion(own, size, [*proof, bytes(32)])
    if proof:
        with pytest.raises(ValueError, match="too few"):
            root_from_inclusion(own, size, proof[1:])


@given(st.data())
def test_any_two_lengths_of_a_growing_log_are_consistent(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 70))
    old = data.draw(st.integers(1, new))
    leaves = leaves_of(new)
    proof = consistency_proof(old, new, lambda start, end: root_of(leaves[start:end]))
    roots = root_of(leaves[:old]), root_of(leaves)

    assert verify_consistency(old, new, *roots, proof)
    assert not verify_consistency(old, new, bytes(32), roots[1], proof)
    assert not verify_consistency(old, new, roots[0], bytes(32), proof)
    if proof:
        assert not verify_consistency(old, new, *roots, proof[1:])
        assert not verify_consistency(old, new, *roots, [bytes(32), *proof[1:]])


async def grow(engine: AsyncEngine, package_id: UUID, count: int) -> None:
    """Append events of somebody else in one transaction."""
    checked = FixityChecked(files_checked=0, bytes_checked=0, missing=(), changed=())
    async with engine.begin() as connection:
        head = await head_of_log(connection)
        new = [NewEvent(package_id, checked, "ada") for _ in range(count)]
        chained = chain_events(head, new, now=datetime(2026, 1, 1, tzinfo=UTC), new_id=uuid4)
        await append_events(connection, chained)


async def test_tiles_are_those_of_the_events_and_proofs_stay_small(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, {"a.txt": b"alpha"})
    other = await make_package(registry, {}, finalize=False)
    early = await registry.export_proof(package_id)
    for count in (250, 1, 600, 7):
        await grow(engine, other, count)
    late = await registry.export_proof(package_id)

    proof = verify_proof(late)
    async with engine.connect() as connection:
        size = (await head_of_log(connection)).sequence
        whole = TreeReader(connection, size)
        root = await whole.root()
        await connection.execute(text("DELETE FROM log_tiles"))
        assert await TreeReader(connection, size).root() == root  # tiles are a shortcut only
    assert (proof.head_sequence, proof.root_hash) == (size, root)
    assert len(late) - len(early) < 20 * 32
    old = verify_proof(early)
    hashes = await registry.prove_consistency(old.head_sequence, size)
    assert verify_consistency(old.head_sequence, size, old.root_hash, root, hashes)


async def test_a_changed_tile_is_told(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    other = await make_package(registry, {}, finalize=False)
    await grow(engine, other, 300)
    async with engine.begin() as connection:
        flip = "zeroblob(8192)" if engine.dialect.name == "sqlite" else r"'\x00'::bytea"
        await connection.execute(text(f"UPDATE log_tiles SET hashes = {flip} WHERE level = 0"))

    texts = [each.text for each in (await registry.audit()).differences]

    assert any(text.startswith("log_tiles: tile 0 of level 0") for text in texts)
