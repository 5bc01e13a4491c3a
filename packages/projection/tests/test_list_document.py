"""The list document: what it renders, what it reads, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_projection._list_document import ListDocument, NotAListError, entry_fragment
from starfish_protocol.hash import compute_hash, stable_stringify

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
entries = st.dictionaries(st.text(max_size=8), objects, max_size=12)


def _list_of(values: dict[str, dict[str, Any]]) -> ListDocument:
    document = ListDocument()
    for entry_id, value in values.items():
        document.put(entry_id, entry_fragment(entry_id, value))
    return document


@given(values=entries, timestamp=st.integers(min_value=0, max_value=2**53))
@example(values={"\ud800": {"\udfff": "\ud834\udd1e"}}, timestamp=0)
@example(values={'],"ts":1,"hash":"': {"]}": '"}'}}, timestamp=0)
def test_it_renders_the_canonical_form_and_hash_of_its_data(
    values: dict[str, dict[str, Any]], timestamp: int
) -> None:
    data = {"items": [{"id": key, "value": value} for key, value in values.items()]}

    text = _list_of(values).render(timestamp)

    assert text == (
        f'{{"v":1,"data":{stable_stringify(data)},"ts":{timestamp},"hash":"{compute_hash(data)}"}}'
    )


@given(values=entries)
def test_what_it_renders_it_reads_back_to_the_same_bytes(values: dict[str, dict[str, Any]]) -> None:
    text = _list_of(values).render(7)

    again = ListDocument.parse(text)

    assert again.render(7) == text
    assert again.ids() == tuple(values)


@given(values=entries, indent=st.integers(0, 2))
def test_a_list_in_another_spelling_is_read_as_the_same_list(
    values: dict[str, dict[str, Any]], indent: int
) -> None:
    text = _list_of(values).render(7)
    respelt = json.dumps(dict(reversed(json.loads(text).items())), indent=indent)

    assert ListDocument.parse(respelt).render(7) == text


changes = st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.integers(0, 2)), max_size=200)


@given(changes=changes, render_every=st.integers(1, 7))
@example(changes=[(str(i), 0) for i in range(150)], render_every=1)
def test_it_renders_the_same_bytes_whatever_was_rendered_before(
    changes: list[tuple[str, int | None]], render_every: int
) -> None:
    warm = ListDocument()
    model: dict[str, dict[str, Any]] = {}

    for index, (entry_id, value) in enumerate(changes):
        if value is None:
            assert warm.remove(entry_id) == (model.pop(entry_id, None) is not None)
        else:
            changed = model.get(entry_id) != {"é": value}
            model[entry_id] = {"é": value}
            assert warm.put(entry_id, entry_fragment(entry_id, model[entry_id])) == changed
        if index % render_every == 0:
            assert warm.render(1) == _list_of(model).render(1)

    assert warm.render(1) == _list_of(model).render(1)
    assert len(warm) == len(model)


@given(changes=changes)
def test_its_size_comes_back_to_nothing_when_everything_is_removed(
    changes: list[tuple[str, int | None]],
) -> None:
    document = ListDocument()
    for entry_id, value in changes:
        document.put(entry_id, entry_fragment(entry_id, {"n": value}))
    for entry_id in document.ids():
        document.remove(entry_id)
    document.render(0)

    assert document.size_bytes < 100


_HASH = "0" * 64
_NO_LISTS = {
    "no JSON": "items",
    "cut off": '{"v":1,"data":{"items":[{"id":"a","value":{}}',
    "deep": "[" * 100_000,
    "array": "[]",
    "null": "null",
    "other version": f'{{"v":2,"data":{{"items":[]}},"ts":1,"hash":"{_HASH}"}}',
    "no hash": '{"v":1,"data":{"items":[]},"ts":1}',
    "signed": f'{{"v":1,"data":{{"items":[]}},"ts":1,"hash":"{_HASH}","authorPubkey":"a"}}',
    "no items": f'{{"v":1,"data":{{}},"ts":1,"hash":"{_HASH}"}}',
    "more than items": f'{{"v":1,"data":{{"items":[],"title":"x"}},"ts":1,"hash":"{_HASH}"}}',
    "items an object": f'{{"v":1,"data":{{"items":{{}}}},"ts":1,"hash":"{_HASH}"}}',
    "data an array": f'{{"v":1,"data":["items"],"ts":1,"hash":"{_HASH}"}}',
    "entry without value": f'{{"v":1,"data":{{"items":[{{"id":"a"}}]}},"ts":1,"hash":"{_HASH}"}}',
    "entry with more": (
        f'{{"v":1,"data":{{"items":[{{"id":"a","value":{{}},"ts":1}}]}},"ts":1,"hash":"{_HASH}"}}'
    ),
    "number as id": (
        f'{{"v":1,"data":{{"items":[{{"id":1,"value":{{}}}}]}},"ts":1,"hash":"{_HASH}"}}'
    ),
    "text as value": (
        f'{{"v":1,"data":{{"items":[{{"id":"a","value":"b"}}]}},"ts":1,"hash":"{_HASH}"}}'
    ),
    "text as entry": f'{{"v":1,"data":{{"items":["a"]}},"ts":1,"hash":"{_HASH}"}}',
    "one id twice": (
        '{"v":1,"data":{"items":[{"id":"a","value":{}},{"id":"a","value":{}}]},'
        f'"ts":1,"hash":"{_HASH}"}}'
    ),
    "comma before the end": (
        f'{{"v":1,"data":{{"items":[{{"id":"a","value":{{}}}},]}},"ts":1,"hash":"{_HASH}"}}'
    ),
    "text after the end": f'{{"v":1,"data":{{"items":[]}},"ts":1,"hash":"{_HASH}"}}}}',
}


@pytest.mark.parametrize("text", _NO_LISTS.values(), ids=_NO_LISTS.keys())
def test_anything_else_than_a_list_of_id_and_value_is_refused(text: str) -> None:
    with pytest.raises(NotAListError):
        ListDocument.parse(text)


def test_a_value_that_would_make_the_list_too_deep_to_hash_is_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(600):
        value = {"x": value}

    with pytest.raises(ValueError):
        entry_fragment("a", value)
