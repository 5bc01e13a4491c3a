"""A client that fetches parts ends up with exactly what it was told it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._history.commit_graph import InMemoryCommitGraph
from starfish_mpack_wire._history.reading import CommitGraph, run
from starfish_mpack_wire._history.shallow import ShallowDelta, compute_shallow_delta
from starfish_mpack_wire.errors import ObjectNotFoundError


def shallow_delta_of(graph: CommitGraph, *args: Any, **more: Any) -> ShallowDelta:
    return run(compute_shallow_delta(*args, **more), graph)


LINE: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",), "e": ("d",)}


def test_a_depth_sends_the_newest_and_names_where_they_end() -> None:
    found = shallow_delta_of(InMemoryCommitGraph.of(LINE), ["e"], depth=2)

    assert found.delta.commit_ids == ("d", "e")
    assert found.delta.boundary == frozenset()
    assert found.shallow == ("d",)
    assert found.unshallow == ()


def test_going_on_from_a_shallow_part_sends_only_what_is_new() -> None:
    graph = InMemoryCommitGraph.of(LINE | {"f": ("e",)})

    found = shallow_delta_of(graph, ["f"], ["e"], shallow=["d"])

    assert found.delta.commit_ids == ("f",)
    assert found.delta.boundary == {"e"}
    assert found.shallow == ("d",)


def test_a_larger_depth_moves_the_edge_down() -> None:
    found = shallow_delta_of(InMemoryCommitGraph.of(LINE), ["e"], ["e"], shallow=["d"], depth=4)

    assert found.delta.commit_ids == ("b", "c")
    assert (found.shallow, found.unshallow) == (("b",), ("d",))


def test_a_depth_beyond_the_root_makes_the_history_whole() -> None:
    found = shallow_delta_of(InMemoryCommitGraph.of(LINE), ["e"], ["e"], shallow=["d"], depth=100)

    assert found.delta.commit_ids == ("a", "b", "c")
    assert (found.shallow, found.unshallow) == ((), ("d",))


def test_a_want_that_is_not_there_is_named() -> None:
    with pytest.raises(ObjectNotFoundError):
        shallow_delta_of(InMemoryCommitGraph.of(LINE), ["x"], depth=1)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"c{number:02}" for number in range(draw(st.integers(1, 16)))]
    parents: dict[str, tuple[str, ...]] = {}
    for number, name in enumerate(names):
        above = (
            st.lists(st.sampled_from(names[:number]), max_size=2, unique=True)
            if number
            else st.just([])
        )
        parents[name] = tuple(draw(above))
    return parents


def distances(parents: Mapping[str, Iterable[str]], wants: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    level, steps = set(wants), 1
    while level:
        found.update(dict.fromkeys(level, steps))
        level = {parent for child in level for parent in parents[child]} - found.keys()
        steps += 1
    return found


@given(data=st.data(), parents=histories(), generations=st.sampled_from(["right", "none"]))
def test_each_fetch_leaves_a_history_that_is_closed_but_for_the_shallow_commits(
    data: st.DataObject, parents: dict[str, tuple[str, ...]], generations: str
) -> None:
    graph = InMemoryCommitGraph.of(parents)
    if generations == "none":
        graph.by_id.update(
            (each, type(node)(each, node.parent_ids, None)) for each, node in graph.by_id.items()
        )
    held: set[str] = set()
    shallow: set[str] = set()
    for _ in range(data.draw(st.integers(1, 4))):
        wants = data.draw(st.lists(st.sampled_from(sorted(parents)), min_size=1, max_size=2))
        depth = data.draw(st.none() | st.integers(1, 6))
        whole = held - shallow
        tips = {each for each in held if not any(each in parents[child] for child in whole)}

        found = shallow_delta_of(graph, wants, tips, shallow=shallow, depth=depth)

        sent = set(found.delta.commit_ids)
        assert found.delta.boundary <= held
        if depth is not None:
            near = distances(parents, wants)
            assert {each for each, steps in near.items() if steps <= depth} <= sent | held
            assert all(near[each] <= depth for each in sent)
        assert set(found.unshallow) <= shallow
        held |= sent
        shallow = set(found.shallow)
        assert shallow <= held
        ends = {each for each in held if not held.issuperset(parents[each])}
        # Only a fetch with a depth looks whether somebody else brought the parents.
        assert ends == shallow if depth is not None else ends <= shallow
