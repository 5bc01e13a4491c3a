"""The Merkle tree over the records of the log (RFC 9162, section 2.1), hashed by SHA-256.

A leaf is the record of one event, `record_bytes`, and the tree of ``n`` leaves stands for the first
``n`` events. Pure functions: hashes of finished subtrees come from a callable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

__all__ = (
    "EMPTY_ROOT",
    "HASH_SIZE",
    "consistency_proof",
    "inclusion_gaps",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root_from_inclusion",
    "root_of",
    "verify_consistency",
)

HASH_SIZE: Final = 32
"""Bytes of a hash."""
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree of no leaves."""

Subtree = Callable[[int, int], bytes]
"""Gives the root of the leaves from one index up to but without another."""


def leaf_hash(record: bytes) -> bytes:
    """Hash of a leaf.

    Examples:
        >>> leaf_hash(b"").hex()[:16]
        '6e340b9cffb37a98'
    """
    return hashlib.sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node over two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over these hashes of leaves, or of equal finished subtrees."""
    if not hashes:
        return EMPTY_ROOT
    stack: list[tuple[int, bytes]] = []
    for found in hashes:
        size, current = 1, found
        while stack and stack[-1][0] == size:
            current = node_hash(stack.pop()[1], current)
            size *= 2
        stack.append((size, current))
    root = stack.pop()[1]
    while stack:
        root = node_hash(stack.pop()[1], root)
    return root


def inclusion_proof(wanted: Sequence[int], size: int, subtree: Subtree) -> list[bytes]:
    """The hashes that, with some leaves, give the root: in the order of a walk from the left.

    Args:
        wanted: indices of the leaves that the reader has, ascending, from 0.
        size: leaves of the tree.
        subtree: gives the hashes of the others.
    """
    return [subtree(start, end) for start, end in inclusion_gaps(wanted, size)]


def root_from_inclusion(leaves: Mapping[int, bytes], size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree that holds these leaves, if the proof is one of it.

    Args:
        leaves: hash by index.
        size: leaves of the tree.
        proof: what `inclusion_proof` gave for exactly these indices.

    Raises:
        ValueError: an index is outside the tree, or the proof has too many or too few hashes.
    """
    wanted = sorted(leaves)
    if not wanted or wanted[0] < 0 or wanted[-1] >= size:
        raise ValueError(
            f"there is no leaf outside 0 to {size - 1}, and at least one must be given"
        )
    given = iter(proof)

    def root(start: int, end: int, first: int, last: int) -> bytes:
        if first == last:
            found = next(given, None)
            if found is None:
                raise ValueError("the proof has too few hashes")
            return found
        if end - start == 1:
            return leaves[start]
        middle = start + _left(end - start)
        cut = _cut(wanted, middle, first, last)
        left = root(start, middle, first, cut)
        return node_hash(left, root(middle, end, cut, last))

    found = root(0, size, 0, len(wanted))
    if next(given, None) is not None:
        raise ValueError("the proof has too many hashes")
    return found


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """The hashes that show that the tree of ``new`` leaves begins with that of ``old`` (2.1.4.1).

    Raises:
        ValueError: the sizes are not 1 or more, or in the wrong order.
    """
    if not 1 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not begin with one of {old}")
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old - start != end - start:
        middle = start + _left(end - start)
        if old <= middle:
            proof.append(subtree(middle, end))
            end = middle
        else:
            proof.append(subtree(start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(subtree(start, end))
    return proof[::-1]


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether a tree began with another (RFC 9162, section 2.1.4.2)."""
    if not 1 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = path[0]
    for found in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(found, first), node_hash(found, second)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, found)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first == old_root and second == new_root


def inclusion_gaps(wanted: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """The ranges of leaves whose roots an inclusion proof holds, from the left."""

    def walk(start: int, end: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        if first == last:
            yield start, end
        elif end - start > 1:
            middle = start + _left(end - start)
            cut = _cut(wanted, middle, first, last)
            yield from walk(start, middle, first, cut)
            yield from walk(middle, end, cut, last)

    yield from walk(0, size, 0, len(wanted))


def _left(size: int) -> int:
    """Leaves of the left side: the largest power of 2 below the size."""
    return 1 << (size - 1).bit_length() - 1


def _cut(wanted: Sequence[int], middle: int, first: int, last: int) -> int:
    while first < last:
        half = (first + last) // 2
        if wanted[half] < middle:
            first = half + 1
        else:
            last = half
    return first
