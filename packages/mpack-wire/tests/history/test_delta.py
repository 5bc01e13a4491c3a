"""The delta is the set difference of ancestors, however it is computed and whatever is wrong with the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_mpack_wire._history.commit_graph import CommitNode, InMemoryCommitGraph
from starfish_mpack_wire._history.delta import Delta, compute_delta, full_delta, is_ancestor
from starfish_mpack_wire._history.reading import CommitGraph, run
from starfish_mpack_wire.errors import (
    DamagedHistoryError,
    IncompleteHistoryError,
    ObjectNotFoundError,
)


def delta_of(graph: CommitGraph, want: Iterable[str], have: Iterable[str] = ()) -> Delta:
    return run(compute_delta(want, have), graph)


def ancestry_of(graph: CommitGraph, ancestor: str, of: str) -> bool:
    return run(is_ancestor(ancestor, of), graph)


Parents = dict[str, tuple[str, ...]]


@st.composite
def histories(draw: st.DrawFn, most: int = 24) -> Parents:
    """Random histories: several roots, merges of many, criss-cross; ids say nothing about age."""
    names = draw(st.permutations([f"c{number:02}" for number in range(draw(st.integers(1, most)))]))
    parents: Parents = {}
    for number, name in enumerate(names):
        earlier = st.sampled_from(names[max(0, number - 6) : number]) if number else st.nothing()
        parents[name] = tuple(draw(st.lists(earlier, max_size=3, unique=True))) if number else ()
    return parents


def ancestors(parents: Mapping[str, Iterable[str]], of: Iterable[str]) -> set[str]:
    found: set[str] = set()
    stack = [each for each in of if each in parents]
    while stack:
        commit_id = stack.pop()
        if commit_id not in found:
            found.add(commit_id)
            stack.extend(parents[commit_id])
    return found


def some_of(parents: Parents, *, at_least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(sorted(parents)), min_size=at_least, max_size=4)


class TrustedGraph(InMemoryCommitGraph):
    """Believes its generations, as a database does."""

    def generations_hold(self) -> bool:
        return True


class CountingGraph(TrustedGraph):
    """Counts what a database would be asked."""

    queries = 0
    read = 0

    def nodes(self, commit_ids: Collection[str]) -> Mapping[str, CommitNode]:
        self.queries += 1
        self.read += len(commit_ids)
        return super().nodes(commit_ids)

    def nodes_below(self, generation: int, limit: int) -> Iterable[CommitNode]:
        self.queries += 1
        found = list(super().nodes_below(generation, limit))
        self.read += len(found)
        return found

    def every_node(self) -> Mapping[str, CommitNode]:
        raise AssertionError("the whole history was read")


@given(data=st.data(), parents=histories())
def test_the_delta_is_the_difference_of_the_ancestors(
    data: st.DataObject, parents: Parents
) -> None:
    want = data.draw(some_of(parents, at_least=1))
    have = [*data.draw(some_of(parents)), "unknown"]

    delta = delta_of(InMemoryCommitGraph.of(parents), want, have)

    sent = ancestors(parents, want) - ancestors(parents, have)
    assert set(delta.commit_ids) == sent
    assert len(delta.commit_ids) == len(sent)
    assert delta.boundary == {parent for each in sent for parent in parents[each]} - sent
    position = {commit_id: number for number, commit_id in enumerate(delta.commit_ids)}
    for commit_id in sent:
        for parent in parents[commit_id]:
            assert position.get(parent, -1) < position[commit_id]


@given(data=st.data(), parents=histories())
def test_the_walk_needs_no_look_at_the_whole_history(data: st.DataObject, parents: Parents) -> None:
    want, have = data.draw(some_of(parents, at_least=1)), data.draw(some_of(parents))
    graph = CountingGraph(InMemoryCommitGraph.of(parents).by_id.values())

    delta = delta_of(graph, want, have)

    assert set(delta.commit_ids) == ancestors(parents, want) - ancestors(parents, have)


@given(data=st.data(), parents=histories())
def test_rule_07_wrong_or_missing_generations_change_nothing(
    data: st.DataObject, parents: Parents
) -> None:
    generations = data.draw(
        st.fixed_dictionaries({each: st.none() | st.integers(-3, 30) for each in parents})
    )
    graph = InMemoryCommitGraph(
        CommitNode(each, above, generations[each]) for each, above in parents.items()
    )
    want, have = data.draw(some_of(parents, at_least=1)), data.draw(some_of(parents))

    delta = delta_of(graph, want, have)

    assert set(delta.commit_ids) == ancestors(parents, want) - ancestors(parents, have)


@given(data=st.data(), parents=histories())
def test_rule_07_one_wrong_generation_changes_nothing(
    data: st.DataObject, parents: Parents
) -> None:
    graph = InMemoryCommitGraph.of(parents)
    wrong = data.draw(st.sampled_from(sorted(parents)))
    graph.by_id[wrong] = replace(graph.by_id[wrong], generation=data.draw(st.integers(0, 40)))
    want, have = data.draw(some_of(parents, at_least=1)), data.draw(some_of(parents))

    delta = delta_of(graph, want, have)

    assert set(delta.commit_ids) == ancestors(parents, want) - ancestors(parents, have)


@given(data=st.data(), parents=histories())
def test_rule_07_wrong_generations_that_are_taken_for_right_cost_at_most_a_second_copy(
    data: st.DataObject, parents: Parents
) -> None:
    graph = TrustedGraph(InMemoryCommitGraph.of(parents).by_id.values())
    for wrong in data.draw(some_of(parents, at_least=1)):
        generation = data.draw(st.none() | st.integers(0, 12))
        graph.by_id[wrong] = replace(graph.by_id[wrong], generation=generation)
    want, have = data.draw(some_of(parents, at_least=1)), data.draw(some_of(parents))

    delta = delta_of(graph, want, have)

    sent, held = set(delta.commit_ids), ancestors(parents, have)
    assert ancestors(parents, want) - held <= sent <= ancestors(parents, want)
    assert delta.boundary <= held
    position = {commit_id: number for number, commit_id in enumerate(delta.commit_ids)}
    assert len(position) == len(delta.commit_ids)
    for commit_id, place in position.items():
        assert all(position.get(parent, -1) < place for parent in parents[commit_id])


@given(data=st.data(), parents=histories())
def test_rule_07_a_missing_parent_row_is_an_error_or_does_not_matter(
    data: st.DataObject, parents: Parents
) -> None:
    graph = InMemoryCommitGraph.of(parents)
    gone = data.draw(st.sampled_from(sorted(parents)))
    del graph.by_id[gone]
    want, have = data.draw(some_of(parents, at_least=1)), data.draw(some_of(parents))

    if gone in want:
        with pytest.raises(ObjectNotFoundError, match=gone):
            delta_of(graph, want, have)
        return
    # A have that has no row is an unknown one.
    known = [each for each in have if each != gone]
    failure: IncompleteHistoryError | None = None
    sent: set[str] = set()
    try:
        sent = set((delta_of(graph, want, have)).commit_ids)
    except IncompleteHistoryError as error:
        failure = error

    if failure is None:
        assert sent == ancestors(parents, want) - ancestors(parents, known)
    else:
        assert failure.missing == gone
        assert gone in ancestors(parents, [*want, *known])


@pytest.mark.parametrize(
    ("parents", "want", "have", "sent"),
    [
        pytest.param({"a": (), "b": ("a",)}, ["a"], ["b"], set(), id="want-below-have"),
        pytest.param({"a": (), "b": ("a",)}, ["b"], ["b"], set(), id="want-is-have"),
        pytest.param(
            {"a": (), "b": ("a",), "c": ("b",), "d": ("b",)},
            ["d"],
            ["c"],
            {"d"},
            id="unlisted-ancestor-of-have",
        ),
        pytest.param(
            {
                "r": (),
                "a1": ("r",),
                "b1": ("r",),
                "a2": ("a1", "b1"),
                "b2": ("b1", "a1"),
                "a3": ("a2",),
            },
            ["a3"],
            ["b2"],
            {"a2", "a3"},
            id="criss-cross",
        ),
        pytest.param(
            {"r1": (), "r2": (), "m": ("r1", "r2"), "n": ("m",)},
            ["n"],
            ["r2"],
            {"r1", "m", "n"},
            id="several-roots",
        ),
        pytest.param({"a": (), "z": ()}, ["z"], ["a"], {"z"}, id="nothing-in-common"),
    ],
)
def test_rule_07_cases_that_went_wrong_elsewhere(
    parents: Parents, want: list[str], have: list[str], sent: set[str]
) -> None:
    graph = InMemoryCommitGraph.of(parents)

    assert set((delta_of(graph, want, have)).commit_ids) == sent
    assert set(full_delta(graph.by_id, want, have).commit_ids) == sent


@pytest.mark.parametrize("generation", [None, 7])
def test_rule_07_a_cycle_is_refused(generation: int | None) -> None:
    parents = {"a": ("c",), "b": ("a",), "c": ("b",), "tip": ("c",)}
    graph = InMemoryCommitGraph(
        CommitNode(each, above, generation) for each, above in parents.items()
    )

    with pytest.raises(DamagedHistoryError, match="its own ancestor"):
        delta_of(graph, ["tip"])
    assert InMemoryCommitGraph.of(parents).by_id["tip"].generation is None


def test_a_want_that_is_not_there_is_named() -> None:
    with pytest.raises(ObjectNotFoundError, match="nobody"):
        delta_of(InMemoryCommitGraph.of({"a": ()}), ["a", "nobody"])


def test_one_new_commit_costs_one_query_however_long_the_history() -> None:
    names = [f"c{number:06}" for number in range(20_000)]
    parents: Parents = {names[0]: ()}
    parents |= {child: (parent,) for parent, child in pairwise(names)}
    graph = CountingGraph(InMemoryCommitGraph.of(parents).by_id.values())

    delta = delta_of(graph, [names[-1]], [names[-2]])

    assert delta.commit_ids == (names[-1],)
    assert graph.queries <= 3
    assert graph.read <= 100


def test_a_long_walk_reads_in_few_queries() -> None:
    names = [f"c{number:06}" for number in range(20_000)]
    parents: Parents = {names[0]: ()}
    parents |= {child: (parent,) for parent, child in pairwise(names)}
    graph = CountingGraph(InMemoryCommitGraph.of(parents).by_id.values())

    delta = delta_of(graph, [names[-1]])

    assert delta.commit_ids == tuple(names)
    assert graph.queries <= 30


@given(data=st.data(), parents=histories())
@example(data=None, parents={"a": (), "b": ("a",)})
def test_is_ancestor_agrees_with_the_ancestors(
    data: st.DataObject | None, parents: Parents
) -> None:
    commits = sorted(parents)
    one, other = (data.draw(st.sampled_from(commits)) if data else each for each in ("a", "b"))

    found = ancestry_of(InMemoryCommitGraph.of(parents), one, other)

    assert found == (one in ancestors(parents, [other]))
