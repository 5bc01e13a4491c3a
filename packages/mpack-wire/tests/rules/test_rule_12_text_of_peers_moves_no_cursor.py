"""Rule 12: text from a peer is stripped of what a terminal would obey."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._terminal_text import terminal_line, terminal_text

ATTACKS = {
    "colour": "\x1b[31mred",
    "clear screen": "\x1b[2J\x1b[H",
    "title": "\x1b]0;title\x07",
    "eight-bit CSI": "\x9b31m",
    "carriage return": "safe\rforged",
    "backspace": "abc\x08\x08\x08xyz",
    "delete": "a\x7fb",
    "right to left": "user\u202etxt.exe",
    "isolate": "a\u2066b\u2069",
    "line separator": "a\u2028b",
    "zero width": "a\u200bb\ufeff",
    "lone surrogate": "a\udc9bb",
    "nul": "a\0b",
}


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_rule_12_nothing_of_an_attack_is_left(text: str) -> None:
    for clean in (terminal_line(text), terminal_text(text)):
        assert "\ufffd" in clean
        assert not any(unicodedata.category(each) in ("Cc", "Cf", "Cs") for each in clean)
        clean.encode()


def test_rule_12_a_line_stays_one_line_and_text_keeps_its_lines() -> None:
    assert terminal_line("one\ntwo") == "one\ufffdtwo"
    assert terminal_text("one\n\ttwo") == "one\n\ttwo"


@given(text=st.text())
def test_rule_12_what_is_printable_stays_as_it_is_and_cleaning_twice_changes_nothing(
    text: str,
) -> None:
    clean = terminal_line(text)

    assert len(clean) == len(text)
    assert terminal_line(clean) == clean
    assert all(new in (old, "\ufffd") for old, new in zip(text, clean, strict=True))
    assert clean == text or not text.isprintable()
