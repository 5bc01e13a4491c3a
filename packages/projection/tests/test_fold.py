"""The laws of folding."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from starfish_projection._fold import ListOperation, fold
from starfish_projection._list_document import ListDocument, entry_fragment


def _put(entry_id: str, number: int) -> ListOperation:
    return ListOperation(entry_id, entry_fragment(entry_id, {"n": number}))


operations = st.lists(
    st.builds(_put, st.sampled_from("abcd"), st.integers(0, 3))
    | st.builds(ListOperation, st.sampled_from("abcd"), st.none()),
    max_size=30,
)
bounds = st.none() | st.integers(1, 4)


def _folded(*batches: list[ListOperation], max_items: int | None = None) -> ListDocument:
    document = ListDocument()
    for batch in batches:
        fold(document, batch, max_items=max_items)
    return document


@given(operations=operations)
@example(operations=[_put("a", 1), ListOperation("a", None), _put("a", 1)])
def test_folding_twice_leaves_the_values_of_folding_once(operations: list[ListOperation]) -> None:
    once, twice = _folded(operations), _folded(operations, operations)

    assert {i: once.fragment(i) for i in once.ids()} == {i: twice.fragment(i) for i in twice.ids()}


@given(operations=operations)
def test_repeating_the_last_operation_changes_no_byte(operations: list[ListOperation]) -> None:
    document = _folded(operations)
    before = document.render(0)

    for operation in operations[-1:]:
        result = fold(document, [operation], max_items=None)
        assert not result.changed

    assert document.render(0) == before


@given(operations=operations, cut=st.integers(0, 30), max_items=bounds)
def test_two_batches_give_what_one_batch_gives(
    operations: list[ListOperation], cut: int, max_items: int | None
) -> None:
    apart = _folded(operations[:cut], operations[cut:], max_items=max_items)

    assert apart.render(0) == _folded(operations, max_items=max_items).render(0)


@given(operations=operations, max_items=bounds)
def test_it_does_what_a_plain_dictionary_does(
    operations: list[ListOperation], max_items: int | None
) -> None:
    model: dict[str, str] = {}
    refused: set[int] = set()
    for index, operation in enumerate(operations):
        if operation.fragment is None:
            model.pop(operation.id, None)
        elif operation.id not in model and max_items is not None and len(model) >= max_items:
            refused.add(index)
        else:
            model[operation.id] = operation.fragment

    document = ListDocument()
    result = fold(document, operations, max_items=max_items)

    assert [(i, document.fragment(i)) for i in document.ids()] == list(model.items())
    assert result.refused == refused


@given(operations=operations)
def test_a_list_that_is_not_reported_as_changed_has_the_same_bytes(
    operations: list[ListOperation],
) -> None:
    document = _folded(operations)
    for operation in operations:
        before = document.render(0)
        if not fold(document, [operation], max_items=None).changed:
            assert document.render(0) == before
