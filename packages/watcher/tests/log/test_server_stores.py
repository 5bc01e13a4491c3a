"""What stores on a server promise when writers are killed, servers restart and answers get lost."""

from __future__ import annotations

import importlib
import os
import random
import select
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from starfish_watcher import (
    EventStore,
    StoreClosed,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.errors import AppendUncertainError
from starfish_watcher.fault_points import FaultPoint, FaultPoints
from starfish_watcher.testing.samples import CREDIT, Balance, at, credit, in_process
from starfish_watcher.testing.store_machine import StoreMachine

pytestmark = pytest.mark.network
ROUNDS = int(os.environ.get("STARFISH_KILLS", "4"))
"""Kills from outside in each test; the full number is 100."""
CONNECTIONS = {"postgres": "postgres._connections", "jetstream": "jetstream._connection"}


@dataclass
class Place:
    """Where stores of one test are."""

    server: Any
    kind: str
    name: str

    def expression(self, options: str = "", port: int | None = None) -> str:
        if self.kind == "postgres":
            dsn = self.server.dsn.replace(str(self.server.port), str(port or self.server.port))
            opened = f"PostgresEventStore.open({dsn!r}, schema={self.name!r}, {options})"
        else:
            url = self.server.url.replace(str(self.server.port), str(port or self.server.port))
            opened = (
                f"JetStreamEventStore.open({url!r}, stream={self.name!r},"
                f" server_sync='always', {options})"
            )
        return f"__import__('starfish_watcher.{self.kind}').{self.kind}.{opened}"

    def open(self, port: int | None = None, **options: Any) -> EventStore:
        return eval(self.expression("**options", port), {"options": options})


@pytest.fixture(params=CONNECTIONS)
def place(request: pytest.FixtureRequest, unique_name: str) -> Place:
    server = "postgres_server" if request.param == "postgres" else "nats_server"
    return Place(request.getfixturevalue(server), request.param, unique_name)


@pytest.fixture(params=CONNECTIONS)
def own_place(request: pytest.FixtureRequest, unique_name: str) -> Place:
    server = "own_postgres_server" if request.param == "postgres" else "own_nats_server"
    return Place(request.getfixturevalue(server), request.param, unique_name)


def assert_sound(store: EventStore) -> None:
    events = store.read(0, 65_536)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert store.verify_chain().events == len(events) == store.last_sequence()
    for entity in {event.entity for event in events}:
        amounts = [event.payload["amount"] for event in events if event.entity == entity]
        assert store.project(Balance, entity) == sum(amounts)
        assert store.generation(entity) == len(amounts)


@pytest.mark.parametrize("point", get_args(FaultPoint))
def test_crash_at_each_injection_point_then_reopen(place: Place, point: FaultPoint) -> None:
    body = (
        "import os, signal\n"
        "credit(store, 'a', 1)\n"
        f"points.arm({point!r}, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "store.append_batch([(at(n), CREDIT, {'amount': 10}) for n in ('a', 'b') * 40])\n"
    )
    opened = place.expression("fault_points=(points := FaultPoints())")
    with place.open() as store:
        watcher = store.watch_projection(Balance, "a")
        child = in_process(
            f"None\nfrom starfish_watcher.fault_points import FaultPoints\nstore = {opened}", body
        )
        _, error = child.communicate(timeout=50)

        assert child.returncode == -signal.SIGKILL, error
        whole = point == "after_commit"
        assert store.last_sequence() == (81 if whole else 1)
        assert credit(store, "a") == (42 if whole else 2)
        assert_sound(store)
        while watcher.recv(5).generation < (42 if whole else 2):
            pass
    with place.open() as store:
        assert_sound(store)


def numbers_until_killed(place: Place, body: str, seconds: float) -> list[int]:
    """Run ``body`` until so long after its first line; the numbers of its whole lines."""
    with in_process(place.expression(), body) as child:
        assert child.stdout
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        lines = (first + child.stdout.read()).splitlines(keepends=True)
        assert first, child.stderr.read() if child.stderr else ""
    return [int(line) for line in lines if line.endswith("\n")]


@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_kill_9_of_its_writer(place: Place) -> None:
    chance = random.Random(7)
    body = (
        "print(0, flush=True)\n"
        "while True:\n"
        "    done = store.append_batch([(at(n), CREDIT, {'amount': 1}) for n in 'ab'])\n"
        "    print(done[-1].sequence, flush=True)\n"
    )
    with place.open() as store:
        watcher = store.watch_projection(Balance, "a")
        for _ in range(ROUNDS):
            acknowledged = numbers_until_killed(place, body, chance.uniform(0.02, 0.1))
            assert store.last_sequence() >= acknowledged[-1]
            assert store.generation("a") == store.generation("b")
        generation = credit(store, "a")
        while watcher.recv(5).generation < generation:
            pass
        assert_sound(store)


@pytest.mark.timeout(600)
def test_checkpointed_cursor_across_kill_9_loses_nothing_and_repeats_little(
    place: Place, tmp_path: Path
) -> None:
    total, batch = 400, 10
    checkpoint = tmp_path / "reader.checkpoint"
    chance = random.Random(9)
    body = (
        f"cursor = store.cursor(checkpoint={str(checkpoint)!r})\n"
        f"while batch := cursor.poll({batch}):\n"
        "    for event in batch: print(event.sequence, flush=True)\n"
        "    cursor.ack()\n"
    )
    received: list[int] = []
    with place.open() as store:
        store.append_batch([(at(f"e:{n % 3}"), CREDIT, {"amount": 1}) for n in range(total)])
        for _ in range(ROUNDS // 2):
            received += numbers_until_killed(place, body, chance.uniform(0, 0.02))
        # A line that was printed and a batch that was polled may be cut off: at least once.
        received += [event.sequence for event in store.cursor(checkpoint=checkpoint).poll(total)]

    assert set(received) == set(range(1, total + 1))
    assert len(received) - total <= (ROUNDS // 2 + 1) * batch


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_watchers_live_through_a_restart_of_the_server(
    own_place: Place, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_soon(own_place, monkeypatch)
    with own_place.open() as writer, own_place.open() as reader:
        watcher = reader.watch_projection(Balance, "a")
        credit(writer, "a")
        assert watcher.recv(5) == (1, 1)

        own_place.server.stop(how)
        # Uncertain where it was on its way before anybody noticed that the server was gone.
        with pytest.raises((StoreUnavailableError, AppendUncertainError)):
            credit(writer, "a")
        with pytest.raises(TimeoutError):
            watcher.recv(0.3)
        own_place.server.start()

        generation = 0
        deadline = time.monotonic() + 20
        while not generation and time.monotonic() < deadline:
            try:
                generation = credit(writer, "a")
            except StoreUnavailableError:
                time.sleep(0.02)
        # All that was refused while the server was away has left nothing behind.
        assert generation == 2
        assert watcher.recv(20) == (2, 2)
        assert_sound(reader)
        assert_sound(writer)


def test_watchers_learn_of_a_server_that_does_not_come_back(own_place: Place) -> None:
    with own_place.open(patience_s=0.5) as store:
        watcher = store.watch_projection(Balance, "a")
        own_place.server.stop(signal.SIGKILL)

        with pytest.raises(StoreClosed, match=r"for 0\.5 s"):
            watcher.recv(20)
        with pytest.raises(StoreClosed):
            credit(store, "a")


def test_a_server_that_is_not_there_is_an_error_that_names_it(
    own_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = importlib.import_module(f"starfish_watcher.log.{CONNECTIONS[own_place.kind]}")
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 1)
    own_place.server.stop(signal.SIGKILL)

    with pytest.raises(StoreUnavailableError, match=rf"127\.0\.0\.1:{own_place.server.port}"):
        own_place.open()


def give_up_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"starfish_watcher.log.{place.kind}._writer")
    monkeypatch.setattr(module, "RESOLVE_S", 0.5)


class Cable:
    """A way to a server that can lose what goes along it, in either direction."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.loses: str | None = None
        """``questions`` never arrive, ``answers`` never come back; either way it is then cut."""
        self.stays_cut = False
        self.held: tuple[socket.socket, bytes] | None = None
        """A lost question and its way to the server, which knows of no cut, if ``holds``."""
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.stays_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            while True:
                ready, _, _ = select.select([near, far], [], [])
                for one in ready:
                    try:
                        data = one.recv(65_536)
                    except OSError:
                        return
                    if not data:
                        return
                    if self.loses == ("questions" if one is near else "answers"):
                        self.loses = None
                        self.stays_cut = self.cut_for_good
                        if self.holds:
                            self.held = far.dup(), data
                        return
                    (far if one is near else near).sendall(data)

    cut_for_good = False
    holds = False

    def deliver_held(self, until: Callable[[bytes], bool]) -> None:
        """Let the lost question arrive, and return when the server has answered it."""
        assert self.held is not None
        far, data = self.held
        with far:
            far.settimeout(20)
            far.sendall(data)
            answer = b""
            while not until(answer):
                more = far.recv(65_536)
                assert more
                answer += more

    def close(self) -> None:
        self._closing = True
        self._listener.close()


@pytest.fixture
def cable(place: Place) -> Iterator[Cable]:
    cable = Cable(place.server.port)
    yield cable
    cable.close()


def test_a_commit_whose_answer_was_lost_is_found_out_and_happens_once(
    place: Place, cable: Cable
) -> None:
    points = FaultPoints()
    with place.open(cable.port, fault_points=points) as store, place.open() as other:
        credit(store, "a")
        points.arm("after_write", lambda: setattr(cable, "loses", "answers"))

        receipts = store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 3)

        assert [receipt.generation for receipt in receipts] == [2, 3, 4]
        assert other.get(receipts[-1].event_id) is not None
        assert_sound(other)
        assert credit(store, "a") == 5


def test_a_commit_that_never_arrived_is_refused_or_done_but_not_half(
    place: Place, cable: Cable
) -> None:
    points = FaultPoints()
    with place.open(cable.port, fault_points=points) as store, place.open() as other:
        credit(store, "a")
        points.arm("after_write", lambda: setattr(cable, "loses", "questions"))

        try:
            store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 3)
            generation = 4
        except StoreUnavailableError:
            generation = 1

        assert other.generation("a") == generation
        assert_sound(other)


def test_a_commit_that_nobody_can_tell_of_says_so(
    place: Place, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_soon(place, monkeypatch)
    points = FaultPoints()
    with place.open(cable.port, fault_points=points) as store, place.open() as other:
        cable.cut_for_good = True
        points.arm("after_write", lambda: setattr(cable, "loses", "answers"))

        with pytest.raises(AppendUncertainError, match="idempotency key"):
            store.append(at("a"), CREDIT, {"amount": 1}, idempotency_key="k")
        cable.cut_for_good = cable.stays_cut = False

        receipt = patiently(
            lambda: store.append(at("a"), CREDIT, {"amount": 1}, idempotency_key="k")
        )
        assert receipt.generation == other.generation("a") == 1


@pytest.mark.parametrize("place", ["jetstream"], indirect=True)
@pytest.mark.parametrize("overtaken", [False, True], ids=["alone", "overtaken"])
def test_an_append_that_arrives_late_is_stored_only_while_nothing_came_after_it(
    place: Place, cable: Cable, monkeypatch: pytest.MonkeyPatch, *, overtaken: bool
) -> None:
    give_up_soon(place, monkeypatch)
    points = FaultPoints()
    with place.open(cable.port, fault_points=points) as store, place.open() as other:
        credit(store, "a")
        cable.cut_for_good = cable.holds = True
        points.arm("after_write", lambda: setattr(cable, "loses", "questions"))
        with pytest.raises(AppendUncertainError):
            credit(store, "a")
        assert other.generation("a") == 1
        if overtaken:
            credit(other, "b")

        cable.deliver_held(until=lambda answer: b'"seq":' in answer or b'"err_code":' in answer)

        assert other.generation("a") == (1 if overtaken else 2)
        assert_sound(other)


def patiently(call: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            return call()
        except WatcherError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.usefixtures("repetition")
def test_readers_and_writers_share_a_store_while_it_is_compacted(place: Place) -> None:
    with place.open() as store, place.open() as other:
        store.append_batch([(at(f"e:{n % 5}"), CREDIT, {"amount": n}) for n in range(200)])
        stop = threading.Event()
        wrong: list[object] = []

        def watch() -> None:
            while not stop.is_set():
                events = other.read(0, 1000)
                low = [event for event in events if event.payload["amount"] < 100]
                if len(low) not in (0, 100):
                    wrong.append(len(low))

        thread = threading.Thread(target=watch)
        thread.start()
        assert store.compact(lambda event: event.payload["amount"] >= 100) == 100
        credit(store, "e:1", 1000)
        stop.set()
        thread.join(20)

        assert wrong == []
        assert other.verify_chain().removed == 100
        assert other.project(Balance, "e:0") == sum(range(100, 200, 5))
        assert (other.generation("e:1"), other.last_sequence()) == (41, 201)
    with place.open() as fresh:
        assert fresh.project(Balance, "e:0") == sum(range(100, 200, 5))
        assert fresh.verify_chain().removed == 100
        assert credit(fresh, "e:0") == 41


def test_a_store_its_watchers_and_cursors_do_what_a_list_of_events_says(place: Place) -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            self.place = Place(place.server, place.kind, f"t_{uuid.uuid4().hex[:16]}")
            super().__init__()

        def open_handle(self) -> EventStore:
            return self.place.open()

    examples = settings().max_examples // 6  # of the profile: a schema or a stream each
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=30)
    )


def test_entities_with_hostile_names_stay_apart(place: Place) -> None:
    names = ["a", "A", "a.b", "a:b", "a*", "a>", "a b", "a%2Eb", "%", ":", "a:", ":a", "a::b", "é"]
    names += [
        "'; DROP TABLE events; --",
        '"x"',
        "\\",
        "a\u2028b",
        "a_",
        "a-",
        "日" * 341,
        "%s",
        "{s}",
    ]
    with place.open() as store, place.open() as other:
        for number, name in enumerate(names):
            credit(store, name, number)

        assert [other.project(Balance, name) for name in names] == list(range(len(names)))
        assert [event.entity for event in other.read()] == names
        assert_sound(other)
