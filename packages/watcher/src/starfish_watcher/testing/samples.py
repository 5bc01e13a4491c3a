"""Events and projections that the contracts use."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._projection.definition import Projection
from starfish_watcher._store import EventStore

__all__ = (
    "CREDIT",
    "NOTE",
    "Balance",
    "History",
    "RawBalance",
    "Stubborn",
    "at",
    "credit",
    "in_process",
    "in_threads",
)

CREDIT: Final = EventKind.custom(0xF, 1)
NOTE: Final = EventKind.custom(0xE, 2)


def at(entity: str, scope: str = "eu") -> Coordinate:
    """A coordinate."""
    return Coordinate(entity, scope)


def credit(store: EventStore, entity: str, amount: int = 1, **options: Any) -> int:
    """Append one relevant event; the entity's generation after it."""
    return store.append(at(entity), CREDIT, {"amount": amount}, **options).generation


class Balance(Projection[int]):
    """Sums the amounts of `CREDIT`; blind for other kinds."""

    name = "balance"  # the same in a process that runs this file by its path
    relevant_kinds = (CREDIT,)

    def initial(self) -> int:
        """Nothing."""
        return 0

    def apply(self, state: int, event: Any) -> int:
        """Add the amount."""
        return state + int(event.payload["amount"])


class RawBalance(Balance):
    """The same in the raw lane."""

    lane = "raw"

    def apply(self, state: int, event: Any) -> int:
        """Decode and add."""
        return state + int(msgspec.msgpack.decode(event.payload)["amount"])


class History(Projection[dict[str, Any]]):
    """Keeps the sequences of all events, in a state that it changes in place."""

    def initial(self) -> dict[str, Any]:
        """Nothing."""
        return {"sequences": [], "amounts": 0}

    def apply(self, state: dict[str, Any], event: Any) -> dict[str, Any]:
        """Note the sequence."""
        state["sequences"].append(event.sequence)
        state["amounts"] += event.payload["amount"] if event.payload else 0
        return state


class Stubborn(Projection[list[int]]):
    """Raises, after having spoilt its state, until it is healed."""

    def __init__(self) -> None:
        self.healed = False

    def initial(self) -> list[int]:
        """Nothing."""
        return []

    def apply(self, state: list[int], event: Any) -> list[int]:
        """Note the sequence, or fail half-way."""
        state.append(event.sequence)
        if not self.healed:
            msg = "not yet"
            raise RuntimeError(msg)
        return state


def in_threads(*works: Callable[[], object], seconds: float = 40.0) -> None:
    """Run all at the same time; return when all are done, or raise what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait(seconds)
            work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        msg = f"a thread did not end within {seconds} s"
        raise TimeoutError(msg)


def in_process(expression: str, body: str) -> subprocess.Popen[str]:
    """Run ``body`` in another process, with ``store`` opened by ``expression``."""
    # By path, because the package around this module imports pytest, which takes a second.
    source = (
        "import runpy\n"
        "from starfish_watcher import *\n"
        f"globals().update(runpy.run_path({__file__!r}))\n"
        f"store = {expression}\n{body}\n"
    )
    return subprocess.Popen(  # noqa: S603 - this interpreter, with our own source
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
