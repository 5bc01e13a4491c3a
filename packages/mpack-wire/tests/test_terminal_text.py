"""Rule 12: text of a peer loses what a terminal would obey."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._terminal_text import terminal_line, terminal_text


@given(st.text())
def test_rule_12_no_control_character_is_left(text: str) -> None:
    for cleaned, allowed in ((terminal_line(text), ""), (terminal_text(text), "\n\t")):
        assert len(cleaned) == len(text)
        for character in cleaned:
            harmless = character in allowed or character in "\u200c\u200d"
            assert harmless or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("text", ["plain", "Zoë", "日本語", "a b", "👩\u200d🚀"])
def test_rule_12_what_people_write_stays(text: str) -> None:
    assert terminal_line(text) == text
