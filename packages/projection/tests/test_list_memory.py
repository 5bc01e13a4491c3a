"""The bounds of the memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starfish_projection._list_document import ListDocument, entry_fragment
from starfish_projection._list_memory import ListMemory, RememberedList


def _remembered(entries: int) -> RememberedList:
    document = ListDocument()
    for number in range(entries):
        document.put(str(number), entry_fragment(str(number), {}))
    return RememberedList(document, "etag")


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 9))),
    max_lists=st.integers(0, 4),
    max_bytes=st.integers(0, 8_000),
)
def test_neither_bound_is_ever_exceeded(
    steps: list[tuple[str, int | None]], max_lists: int, max_bytes: int
) -> None:
    memory = ListMemory(max_lists=max_lists, max_bytes=max_bytes)

    for target, entries in steps:
        if entries is None:
            memory.take(target)
        else:
            memory.keep(target, _remembered(entries))
        assert len(memory) <= max_lists
        assert memory.size_bytes <= max_bytes

    for target in "abcdef":
        memory.take(target)
    assert memory.size_bytes == 0


def test_the_list_that_was_not_used_for_longest_is_forgotten_first() -> None:
    memory = ListMemory(max_lists=2, max_bytes=100_000)
    memory.keep("a", _remembered(1))
    memory.keep("b", _remembered(1))
    memory.keep("a", _remembered(2))
    memory.keep("c", _remembered(1))

    assert memory.take("b") is None
    assert memory.take("a") is not None


def test_a_list_that_was_taken_is_not_there_until_it_is_given_back() -> None:
    memory = ListMemory(max_lists=2, max_bytes=100_000)
    memory.keep("a", _remembered(1))

    assert memory.take("a") is not None
    assert memory.take("a") is None
