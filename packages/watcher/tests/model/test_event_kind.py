from __future__ import annotations

import pytest

from starfish_watcher import Event, EventKind, Region


@pytest.mark.parametrize("category", [c for c in range(16) if c not in (0x0, 0xD)])
def test_a_kind_is_its_category_and_type(category: int) -> None:
    for type_id in (0, 1, 0xFFF):
        kind = EventKind.custom(category, type_id)

        assert kind.code == category << 12 | type_id
        assert (kind.category, kind.type_id) == (category, type_id)


def test_a_kind_is_shown_as_four_hex_digits() -> None:
    assert str(EventKind.custom(0xF, 1)) == "0xF001"
    assert str(EventKind.custom(0x1, 0xABC)) == "0x1ABC"


@pytest.mark.parametrize(
    ("category", "type_id", "rule"),
    [
        (0x0, 1, "reserved"),
        (0xD, 1, "reserved"),
        (16, 1, "category 0x10"),
        (-1, 1, "category -0x1"),
        (1, 0x1000, "type 0x1000"),
        (1, -1, "type -0x1"),
    ],
)
def test_what_is_out_of_range_or_reserved_is_refused(
    category: int, type_id: int, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        EventKind.custom(category, type_id)


@pytest.mark.parametrize("code", [0x0001, 0xD001, 0x10000, -1])
def test_a_code_obeys_the_same_rules(code: int) -> None:
    with pytest.raises(ValueError, match="refused"):
        EventKind(code)


def test_a_region_takes_a_kind_or_a_category() -> None:
    def event(code: int) -> Event:
        return Event(1, "a", "eu", 0, code, bytes(16), 0, None, None, b"\xc0", bytes(32), bytes(32))

    assert Region(kind=EventKind(0xF001)).matches(event(0xF001))
    assert not Region(kind=EventKind(0xF001)).matches(event(0xF002))
    assert Region(kind=0xF).matches(event(0xFFFF))
    assert not Region(kind=0xF).matches(event(0xE001))
    with pytest.raises(ValueError, match="category 0x10"):
        Region(kind=16)
    with pytest.raises(ValueError, match="entity prefix"):
        Region(entity_prefix="a/b")
    with pytest.raises(TypeError, match="an EventKind or a category, not str"):
        Region(kind="credited")  # type: ignore[arg-type]
