"""An item that is accepted reads back equal."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from starfish_outbox._queue.json_item import encode_item

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(), max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def plain(value: object) -> object:
    """The value with lists for tuples, or an error for what JSON has no form for."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, bytes) or (isinstance(value, float) and value * 0 != 0):
        raise TypeError
    return value


@given(VALUES)
@example({1: "a", "1": "b"})
@example({"a": ()})
@example("\ud800")
@example(-0.0)
@example(10**5000)
def test_an_item_reads_back_equal_or_is_refused(item: object) -> None:
    try:
        expected = plain(item)
        str(item)
    except (TypeError, ValueError):
        expected = TypeError
    try:
        text, copy = encode_item(item)
    except TypeError:
        assert expected is TypeError
        return

    assert copy == expected
    assert json.loads(text) == expected
    assert text.isascii()
