"""One seed: devices that edit, lose the network, crash and jump in time, against a plain model.

The model: every acknowledged edit is on the server, in the outbox, or a conflict that somebody can see.
Each value is written once in the whole world, so that its way can be followed through all versions.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import OURS, Document, Server  # a sibling: this folder is a program

from starfish_disk.batch_thread import Call
from starfish_outbox import (
    Conflict,
    ExponentialBackoff,
    NotAuthorised,
    OutboxEntry,
    OutboxQueue,
    Refused,
    SqliteOutbox,
    run_outbox,
)
from starfish_outbox.http import PushSender
from starfish_outbox.testing import MemoryCache
from starfish_protocol.hash import compute_hash

FIELDS = ("title", "text", "done", "tag")
PATHS = ("notes/1", "notes/2")
SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A sync costs nothing there, and no power is cut."""
KEY = "outbox.ada"
FIRST_OF_FEW_TROUBLES = 2
"""Of four worlds the last two know few kinds of trouble, and so meet each of them often."""
HEALING_S = 180
"""How long the network is well at the end, at most; every rest is far shorter."""
AFTERMATH_S = 10
"""How long a world goes on when nothing waits any more, to see that nothing happens."""


@dataclass(frozen=True)
class Edit:
    """An edit that a user made."""

    id: str
    path: str
    changes: dict[str, Any]
    """The new value by field; ``None`` for a field that was deleted."""


@dataclass
class Found:
    """What a seed brought to light."""

    wrong: list[str] = field(default_factory=list)
    edits: int = 0
    sent: int = 0
    conflicts: int = 0
    crashes: int = 0


class InlineThread:
    """Does the work of the outbox's thread at once: virtual time knows no other threads."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._is_closed = False

    def submit(self, job: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        call = Call(job, future)
        self._engine.run([call])
        call.settle()
        return future

    def submit_from_thread(self, job: Any) -> None:
        self._engine.run([Call(job, asyncio.get_running_loop().create_future())])

    def stop(self) -> asyncio.Future[None]:
        if not self._is_closed:
            self._is_closed = True
            self._engine.finish()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def beat(self) -> None:
        if not self._is_closed:
            self._engine.tick()


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.server = Server(random.Random(seed + 1))
        if seed % 4 >= FIRST_OF_FEW_TROUBLES:
            self.server.choose_troubles(random.Random(seed + 2))
        self.found = Found()
        self.values = 0
        self.clock_ms = 1_700_000_000_000
        self.names_base = self.rng.random() < 0.6
        self.coalesces = self.rng.random() < 0.3
        self.concurrency = self.rng.choice([1, 1, 3])
        self.is_sqlite = self.rng.random() < 0.4
        self.processes = 2 if self.is_sqlite and self.rng.random() < 0.5 else 1
        self.folder: Path | None = None
        self.cache = MemoryCache()
        self.edits: list[Edit] = []
        self.refused_ids: set[str] = set()
        self.delivered: set[str] = set()
        self.recorded: set[str] = set()
        self.under_way: set[str] = set()
        self.local: dict[str, tuple[Document, str | None]] = {p: ({}, None) for p in PATHS}

    def now_ms(self) -> int:
        return self.clock_ms + int(asyncio.get_running_loop().time() * 1000)

    @staticmethod
    def since_boot_ms() -> int:
        """A clock that does not jump."""
        return int(asyncio.get_running_loop().time() * 1000)

    def wrong(self, text: str) -> None:
        self.found.wrong.append(text)

    async def play(self) -> Found:
        if self.is_sqlite:
            self.folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY))
        for path in PATHS:
            if self.rng.random() < 0.7:
                self.server.write(path, {name: self.value("v") for name in FIELDS[:3]}, "ben")
        devices = [Device(self, number) for number in range(self.processes)]
        try:
            for device in devices:
                await device.start()
            for _ in range(self.rng.randrange(10, 40)):
                await self.step(devices)
                await asyncio.sleep(self.rng.choice([0, 0.05, 1, 20]))
            await self.heal(devices)
            await self.judge(devices[0])
            for device in devices:
                await device.stop()
        finally:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
        return self.found

    def value(self, who: str) -> str:
        self.values += 1
        return f"{who}{self.values}"

    async def step(self, devices: Sequence[Device]) -> None:
        device = self.rng.choice(devices)
        chance = self.rng.random()
        if chance < 0.45:
            await self.edit(device)
        elif chance < 0.60:
            self.others_edit()
        elif chance < 0.75:
            device.online.clear() if device.online.is_set() else device.online.set()
        elif chance < 0.82:
            self.found.crashes += 1
            await device.crash()
            await device.start()
        elif chance < 0.88:
            self.clock_ms += self.rng.choice([-86_400_000, -5_000, 60_000])
        elif chance < 0.94:
            self.server.token_ends_s = asyncio.get_running_loop().time() + self.rng.random() * 5
        else:
            self.read_again(device)

    async def edit(self, device: Device) -> None:
        path = self.rng.choice(PATHS)
        document, known_hash = self.local[path]
        changes: dict[str, Any] = {}
        for name in self.rng.sample(FIELDS, self.rng.choice([1, 1, 2])):
            deletes = self.names_base and name in document and self.rng.random() < 0.3
            changes[name] = None if deletes else self.value("a")
        body = {n: v for n, v in {**document, **changes}.items() if v is not None}
        item: dict[str, Any] = {"path": path, "body": body, "baseHash": known_hash}
        if self.names_base:
            item["base"] = document
        edit = Edit(f"e{len(self.edits)}", path, changes)
        if self.rng.random() < 0.03:
            self.server.poison |= {str(v) for v in changes.values() if v is not None}
        if await device.queue.enqueue(edit.id, item):
            self.edits.append(edit)
            self.local[path] = (body, known_hash)

    def others_edit(self) -> None:
        path = self.rng.choice(PATHS)
        document = dict(self.server.current(path) or {})
        for name in self.rng.sample(FIELDS, self.rng.choice([1, 2])):
            if name in document and self.names_base and self.rng.random() < 0.2:
                del document[name]
            else:
                document[name] = self.value("b")
        self.server.write(path, document, "ben")

    def read_again(self, device: Device) -> None:
        """An application pulls a document of which nothing waits any more."""
        if not device.online.is_set():
            return
        waiting = {self.edit_of(e.id).path for e in device.queue.get()}
        for path in PATHS:
            document = self.server.current(path)
            if path not in waiting and document is not None and self.processes == 1:
                self.local[path] = (dict(document), compute_hash(document))

    def edit_of(self, entry_id: str) -> Edit:
        return self.edits[int(entry_id[1:])]

    async def heal(self, devices: Sequence[Device]) -> None:
        self.server.is_healthy = True
        self.server.token_ends_s = 10**9
        for device in devices:
            device.online.clear()
            await asyncio.sleep(2)
            device.online.set()
        end_s = asyncio.get_running_loop().time() + HEALING_S
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(5)
            await devices[0].queue.refresh()
            if all(entry.status == "failed" for entry in devices[0].queue.get()):
                break
        await asyncio.sleep(AFTERMATH_S)

    # The model.

    async def judge(self, device: Device) -> None:
        await device.queue.refresh()
        left = {entry.id: entry for entry in device.queue.get()}
        self.found.edits = len(self.edits)
        self.found.sent = len(self.edits) - len(left)
        for entry in left.values():
            self.judge_waiting(entry)
        sent = [edit for edit in self.edits if edit.id not in left]
        self.found.wrong += [
            f"{e.id} left without being sent" for e in sent if e.id not in self.delivered
        ]
        for path in PATHS:
            self.judge_document(path, [edit for edit in sent if edit.path == path])

    def judge_waiting(self, entry: OutboxEntry) -> None:
        kind = entry.failure.kind if entry.failure is not None else None
        if entry.status != "failed":
            self.wrong(
                f"{entry.id} is {entry.status} though the network is well for minutes, {entry.failure}"
            )
        elif kind == "conflict":
            self.found.conflicts += 1
            if self.names_base and entry.id not in self.refused_ids and not self.has_refusal(entry):
                self.wrong(f"{entry.id} is a conflict though its base is known: {entry.failure}")
        elif kind != "refused" or entry.id not in self.refused_ids:
            self.wrong(f"{entry.id} failed with {entry.failure}, which is not its fault")

    def has_refusal(self, entry: OutboxEntry) -> bool:
        path = self.edit_of(entry.id).path
        return any(self.edit_of(i).path == path for i in self.refused_ids)

    def judge_document(self, path: str, sent: Sequence[Edit]) -> None:
        versions = self.server.documents.get(path, [])
        known = {(n, v) for e in self.edits if e.path == path for n, v in e.changes.items()}
        before: Document = {}
        for version in versions:
            for name in {*before, *version.document}:
                value = version.document.get(name)
                if (
                    version.writer == OURS
                    and value != before.get(name)
                    and (name, value) not in known
                ):
                    self.wrong(
                        f"{path}: we made {name} {value} of {before.get(name)}, nobody asked to"
                    )
            before = version.document
        for name in FIELDS:
            touching = [edit for edit in sent if name in edit.changes]
            if touching and not self.is_refused_later(path, name, touching[-1]):
                self.judge_value(path, name, touching[-1])

    def is_refused_later(self, path: str, name: str, edit: Edit) -> bool:
        """Whether a later edit, whose body had this value as well, was refused or is a conflict."""
        later = self.edits[self.edits.index(edit) + 1 :]
        return any(e.path == path and name in e.changes for e in later)

    def judge_value(self, path: str, name: str, edit: Edit) -> None:
        """The newest value of a field got to the server, and only others took it away again."""
        wanted = edit.changes[name]
        versions = self.server.documents.get(path, [])
        values = [version.document.get(name) for version in versions]
        earlier = self.edits[: self.edits.index(edit)]
        own = {e.changes[name] for e in earlier if e.path == path and name in e.changes}
        begin = max((i for i, value in enumerate(values) if value in own and value), default=0)
        places = [i for i in range(begin, len(values)) if values[i] == wanted]
        if wanted is None and self.was_never_there(edit, name, values):
            return  # made and deleted again, and nobody else saw it: together that is nothing
        if not places:
            self.wrong(f"{edit.id}: {name} {wanted} of {path} never was on the server: {values}")
            return
        for i in range(places[-1] + 1, len(versions)):
            if values[i] != values[i - 1]:
                if versions[i].writer == OURS:
                    self.wrong(f"{edit.id}: we took {name} {wanted} of {path} back: {values}")
                return

    def was_never_there(self, edit: Edit, name: str, values: Sequence[object]) -> bool:
        """Whether a deleted value was the user's own, and never got to the server."""
        earlier = self.edits[: self.edits.index(edit)]
        own = [e.changes[name] for e in earlier if e.path == edit.path and name in e.changes]
        return bool(own) and own[-1] not in values


class Device:
    """A process with the queue, its sender and a run."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.online = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.outbox: SqliteOutbox | None = None

    async def start(self) -> None:
        world = self.world
        storage: Any = world.cache
        if world.folder is not None:
            self.outbox = SqliteOutbox(
                world.folder / "o.sqlite",
                inline_commit_ms=10**9,
                now_ms=world.now_ms,
                since_boot_ms=world.since_boot_ms,
            )
            thread = self.outbox._thread
            thread._thread = InlineThread(thread.engine)  # type: ignore[assignment]  # stands in
            storage = self.outbox
        self.queue = OutboxQueue(storage, now_ms=world.now_ms)
        await self.queue.hydrate(KEY)
        self.sender = PushSender(world.server, coalesce=world.coalesces, now_ms=world.now_ms)  # type: ignore[arg-type]  # stands in
        self.stopped = asyncio.Event()
        run = run_outbox(
            self.queue,
            Watched(self),
            self.online,
            concurrency=world.concurrency,
            backoff=ExponentialBackoff(base_ms=500, max_ms=20_000, rng=random.Random(self.number)),
            on_unauthorized=self.renew,
            stop=self.stopped,
            recheck_ms=5_000,
            now_ms=world.now_ms,
        )
        self.tasks = [asyncio.create_task(run), asyncio.create_task(self.beat())]

    async def renew(self, entry: OutboxEntry, error: NotAuthorised) -> bool:
        if self.world.rng.random() < 0.5:
            return False
        self.world.server.token_ends_s = asyncio.get_running_loop().time() + 50
        return True

    async def beat(self) -> None:
        while self.outbox is not None:
            self.outbox._thread._thread.beat()  # type: ignore[attr-defined]  # it stands in
            await asyncio.sleep(10)

    async def crash(self) -> None:
        """The process dies: no claim is given back, and a send may have gone out."""
        if self.outbox is not None:
            engine = self.outbox._thread.engine
            connection, engine.connection = engine.connection, None
            if connection is not None:
                connection.close()
            self.outbox._thread._is_closed = True
        else:
            self.queue.clear()
            self.world.cache = MemoryCache(dict(self.world.cache.values))
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.world.recorded.clear()

    async def stop(self) -> None:
        self.stopped.set()
        await self.tasks[0]
        self.tasks[1].cancel()
        if self.outbox is not None:
            await self.outbox.close()


class Watched:
    """A sender under observation."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._parts: dict[str, list[str]] = {}
        self.lane = device.sender.lane
        self.rebase = device.sender.rebase

    def combine(self, entries: Sequence[OutboxEntry]) -> OutboxEntry | None:
        combined = self._device.sender.combine(entries)
        if combined is not None:
            self._parts = {combined.id: [e.id for e in entries]}
        return combined

    async def __call__(self, entry: OutboxEntry) -> None:
        world = self._device.world
        ids = self._parts.get(entry.id, [entry.id])
        again = [i for i in ids if i in world.recorded]
        if again:
            world.wrong(f"{again} were sent twice without a crash")
        both = [i for i in ids if i in world.under_way]
        if both:
            world.wrong(f"{both} were sent by two processes at the same time")
        world.under_way |= set(ids)
        try:
            await self._device.sender(entry)
        except (Refused, Conflict) as error:
            if isinstance(error, Refused):
                world.refused_ids |= set(ids)
            raise
        finally:
            world.under_way -= set(ids)
        world.delivered |= set(ids)
        world.recorded |= set(ids)
