"""What every test of the outbox runs under, and the storages the tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

# The contracts ship in the package, so pytest would not explain their asserts by itself.
pytest.register_assert_rewrite("starfish_outbox.testing")

from starfish_outbox import (  # noqa: E402 - after the rewrite was registered
    FileCache,
    LocalCache,
    OutboxQueue,
    QueueBackend,
    SqliteOutbox,
)
from starfish_outbox.testing import MemoryCache  # noqa: E402 - as above

_QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=60, suppress_health_check=_QUIET
)
settings.register_profile("ci", deadline=None, max_examples=300, suppress_health_check=_QUIET)
settings.register_profile("deep", deadline=None, max_examples=3000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _blocking_calls_fail() -> Iterator[None]:
    """Whatever the package does on an event loop must not block it."""
    with blockbuster_ctx("starfish_outbox", excluded_modules=["starfish_outbox.testing"]) as guard:
        # A commit on the loop is bounded by `inline_commit_ms`; reading on it is said by `get`.
        for name, function in guard.functions.items():
            if name.startswith("sqlite3.") or name == "os.stat":
                for where in ("_attempt", "_attempt_lone", "read_now"):
                    function.can_block_in("starfish_outbox/_sqlite/engine.py", where)
        yield


class ManualTime:
    """A clock that stands still until it is moved: `ms` when time passes, `jump` when it is set."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self._jumped_ms = 0

    def jump(self, ms: int) -> None:
        self.ms += ms
        self._jumped_ms += ms

    def since_boot(self) -> int:
        return self.ms - self._jumped_ms

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def now() -> ManualTime:
    return ManualTime()


@pytest.fixture
async def open_outbox(tmp_path: Path, now: ManualTime) -> AsyncIterator[Callable[[], SqliteOutbox]]:
    """Opens one file as often as asked, each time as another process would."""
    opened: list[SqliteOutbox] = []

    def open_once_more() -> SqliteOutbox:
        opened.append(
            SqliteOutbox(tmp_path / "outbox.sqlite", now_ms=now, since_boot_ms=now.since_boot)
        )
        return opened[-1]

    yield open_once_more
    for outbox in opened:
        await outbox.close()


@pytest.fixture(params=["memory", "files", "sqlite"])
async def reopen(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    now: ManualTime,
) -> AsyncIterator[Callable[[], Awaitable[OutboxQueue]]]:
    """Gives the queue of one storage, bound; each further call as after a restart."""
    storage: LocalCache | QueueBackend | None = None

    async def restart() -> OutboxQueue:
        nonlocal storage
        if request.param == "sqlite":
            if isinstance(storage, SqliteOutbox):
                await storage.close()
            storage = SqliteOutbox(
                tmp_path / "outbox.sqlite", now_ms=now, since_boot_ms=now.since_boot
            )
        elif request.param == "files":
            storage = FileCache(tmp_path / "cache")
        elif storage is None:
            storage = MemoryCache()
        queue = OutboxQueue(storage, now_ms=now)
        await queue.hydrate("outbox.ada")
        return queue

    yield restart
    if isinstance(storage, SqliteOutbox):
        await storage.close()
