from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_server.errors import InvalidKeyError
from starfish_server.storage.keys import (
    KEY_RULE,
    MAX_KEY_BYTES,
    check_key,
    check_prefix,
    is_legal_key,
    prefix_upper_bound,
)
from starfish_server.testing import LEGAL_KEYS, REFUSED_KEYS

EDGES = st.text(alphabet="a\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffff", max_size=4)


def by_the_words_of_the_rule(key: str) -> bool:
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        return False
    return (
        0 < len(raw) <= MAX_KEY_BYTES
        and all(segment not in ("", ".", "..") for segment in key.split("/"))
        and not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in key)
    )


@pytest.mark.parametrize("key", LEGAL_KEYS)
def test_a_legal_key_is_returned(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_a_refused_key_is_named_with_the_rule(key: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)

    assert caught.value.key == key
    assert caught.value.rule == KEY_RULE


@given(key=st.one_of(st.text(), st.text(alphabet="a./\n\x7f\x9f\ud800é", max_size=8)))
@example(key="a\n")
@example(key="a/.")
@example(key="./a")
@example(key="é" * 513)
def test_the_rule_is_what_its_words_say(key: str) -> None:
    assert is_legal_key(key) == by_the_words_of_the_rule(key)


@given(prefix=st.one_of(EDGES, st.text()), text=st.one_of(EDGES, st.text()))
def test_a_text_has_the_prefix_just_when_it_is_between_the_bounds(prefix: str, text: str) -> None:
    for candidate in (text, prefix + text):
        bound = prefix_upper_bound(prefix)
        between = prefix <= candidate and (bound is None or candidate < bound)
        assert between == candidate.startswith(prefix)
    if bound is not None:
        bound.encode()  # every database can take it


@given(prefix=st.text())
def test_a_prefix_of_a_legal_key_is_a_legal_prefix(prefix: str) -> None:
    if is_legal_key(prefix):
        for end in range(len(prefix) + 1):
            assert check_prefix(prefix[:end]) == prefix[:end]
