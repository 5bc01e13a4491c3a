"""The checker finds planted faults, and accepts whatever a register can do."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from starfish_server.testing.linearizability import Operation, find_violation


def write(called: int, replied: int | None, version: str, **more: object) -> Operation:
    return Operation("k", "write", called, replied, version, **more)  # type: ignore[arg-type]


def read(called: int, replied: int, version: str | None) -> Operation:
    return Operation("k", "read", called, replied, version)


def test_a_lost_update_is_found() -> None:
    """Two writers replace one version, and both are told that they did."""
    history = [
        write(1, 2, "a"),
        read(3, 4, "a"),
        read(3, 4, "a"),
        write(5, 8, "b", expected="a"),
        write(6, 9, "c", expected="a"),
        read(10, 11, "c"),
    ]
    violation = find_violation(history)
    assert violation is not None
    assert violation.key == "k"
    assert violation.unexplained.expected == "a"
    assert "there is no moment for" in str(violation)
    assert find_violation([*history[:4], read(10, 11, "b")]) is None


def test_a_stale_read_is_found() -> None:
    history = [write(1, 2, "a"), write(3, 4, "b"), read(5, 6, "a")]
    violation = find_violation(history)
    assert violation is not None
    assert violation.unexplained == history[2]
    # While the second write is under way, a read may see either.
    assert find_violation([write(1, 2, "a"), write(3, 7, "b"), read(5, 6, "a")]) is None
    # But none may go back.
    seen = [write(1, 2, "a"), write(3, 9, "b"), read(4, 5, "b"), read(6, 7, "a")]
    assert find_violation(seen) is not None


def test_a_value_that_nobody_wrote_is_found() -> None:
    assert find_violation([write(1, 2, "a"), read(3, 4, "x")]) is not None
    assert find_violation([read(1, 2, "a"), write(3, 4, "a")]) is not None


def test_two_creations_of_one_key_are_found() -> None:
    one, two = write(1, 5, "a", expected=None), write(2, 6, "b", expected=None)
    assert find_violation([one, two]) is not None
    refused = write(2, 6, "b", expected=None, is_refused=True)
    assert find_violation([one, refused]) is None
    assert find_violation([refused]) is not None


def test_a_lost_answer_may_have_happened_late_or_never_but_once() -> None:
    lost = write(1, None, "a", expected=None)
    assert find_violation([lost, read(2, 3, None)]) is None
    assert find_violation([lost, read(2, 3, None), read(4, 5, "a")]) is None
    assert find_violation([lost, read(2, 3, "a"), read(4, 5, None)]) is not None
    deleted = Operation("k", "delete", 4, 5)
    assert find_violation([lost, read(2, 3, "a"), deleted, read(6, 7, "a")]) is not None


def test_keys_are_apart() -> None:
    other = Operation("other", "write", 1, 2, "a", expected=None)
    assert find_violation([other, write(1, 2, "b", expected=None)]) is None


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 6))
def test_any_history_of_a_real_register_is_accepted_and_with_a_stale_read_is_not(
    seed: int, count: int, clients: int
) -> None:
    chance = random.Random(seed)
    names = map(str, itertools.count())
    held: str | None = None
    history: list[Operation] = []
    free = [0] * clients  # when each client's last reply came
    for moment in range(10, 10 * (count + 1), 10):  # each operation takes effect at its moment
        client = chance.randrange(clients)
        called = max(free[client] + 1, moment - chance.randrange(50))
        if called > moment:
            continue
        replied = free[client] = moment + chance.randrange(50)
        expected = chance.choice(["*", None, held, "never"])
        kind = chance.choice(["read", "write", "write", "delete"])
        if kind == "read":
            history.append(read(called, replied, held))
            continue
        version = next(names) if kind == "write" else None
        holds = expected in ("*", held)
        is_lost = chance.random() < 0.2
        history.append(
            Operation(
                "k",
                "write" if kind == "write" else "delete",
                called,
                None if is_lost else replied,
                version,
                expected,
                is_refused=not holds and not is_lost,
            )
        )
        held = version if holds else held
    chance.shuffle(history)
    end = 10 * count + 200

    assert find_violation(history) is None
    assert find_violation([*history, read(end, end + 1, "never written")]) is not None


def test_a_long_history_takes_a_moment() -> None:
    history = []
    for number in range(3000):
        start = number * 10
        history += [
            write(start, start + 15, str(number)),
            read(start + 9, start + 12, str(number)),
        ]
    assert find_violation(history) is None
