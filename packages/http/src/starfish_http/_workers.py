"""Several processes on one listening socket.

Rule: the parent never serves and never starts a thread, so a fork is safe at any time. A child
holds the reading end of a pipe whose writing end only the parent has; when the parent is gone,
however it went, the children see its end and stop.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from starfish_protocol.errors import StarfishError

__all__ = ("Work", "supervise")

_LOG = logging.getLogger(__name__)

_SHORT_LIFE_S = 1.0
_PAUSE_S = 0.5
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_PID = struct.Struct("=i")

Work = Callable[[Callable[[], None], int], int]
"""What a process does, given what to call when it is ready and its lifeline; returns its status."""


@dataclass(slots=True)
class _Child:
    started: float
    ready: bool = False


def supervise(
    count: int,
    listener: socket.socket,
    work: Work,
    *,
    name: str,
    stop_limit_s: float,
    on_ready: Callable[[], None],
) -> int:
    """Keep so many processes at work until SIGTERM or SIGINT, then let them finish.

    A process that dies is replaced. One that gives up before it was ready would do so again:
    then all stop. One that does not stop in time is killed.

    Args:
        count: how many.
        listener: the socket they share; closed in this process when it stops.
        work: what a process does.
        name: begins the line that tells why one could not start.
        stop_limit_s: how long they may take to stop.
        on_ready: called once all are ready for the first time.

    Returns:
        0, 130 after SIGINT, or 1 when a process could not start or did not stop.
    """
    return _Supervisor(
        count, listener, work, name=name, stop_limit_s=stop_limit_s, on_ready=on_ready
    ).run()


class _Supervisor:
    def __init__(
        self,
        count: int,
        listener: socket.socket,
        work: Work,
        *,
        name: str,
        stop_limit_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        self._count = count
        self._listener = listener
        self._work = work
        self._name = name
        self._stop_limit_s = stop_limit_s
        self._on_ready = on_ready
        self._children: dict[int, _Child] = {}
        self._stop_at: float | None = None
        self._announced = False
        self._status = 0
        self._ready_read, self._ready_write = os.pipe()
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._wakeup_read, self._wakeup_write = os.pipe()

    def run(self) -> int:
        os.set_blocking(self._wakeup_write, False)
        os.set_blocking(self._wakeup_read, False)
        for each in _HANDLED:
            signal.signal(each, _leave_to_the_pipe)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup_read, selectors.EVENT_READ, self._on_signals)
            selector.register(self._ready_read, selectors.EVENT_READ, self._on_ready_child)
            for _ in range(self._count):
                self._fork()
            while self._children:
                for key, _ in selector.select(self._seconds_left()):
                    key.data()
                self._reap()
                if self._stop_at is not None and time.monotonic() >= self._stop_at:
                    self._kill()
        return self._status

    def _seconds_left(self) -> float | None:
        return None if self._stop_at is None else max(0.0, self._stop_at - time.monotonic())

    def _on_signals(self) -> None:
        numbers = os.read(self._wakeup_read, 512)
        if signal.SIGINT in numbers:
            self._status = self._status or 130
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()

    def _on_ready_child(self) -> None:
        (pid,) = _PID.unpack(os.read(self._ready_read, _PID.size))
        if pid in self._children:
            self._children[pid].ready = True
        if not self._announced and all(child.ready for child in self._children.values()):
            self._announced = True
            self._on_ready()

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found == pid:
                self._on_death(pid, os.waitstatus_to_exitcode(status))

    def _on_death(self, pid: int, code: int) -> None:
        child = self._children.pop(pid)
        if self._stop_at is not None:
            if code not in {0, 130}:
                self._status = 1
            return
        if not child.ready and code > 0:
            self._status = 1
            self._stop()
            return
        _LOG.warning("worker %d ended with status %d; another one takes its place", pid, code)
        if time.monotonic() - child.started < _SHORT_LIFE_S:
            time.sleep(_PAUSE_S)
        self._fork()

    def _stop(self) -> None:
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._stop_limit_s
            self._listener.close()
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)

    def _kill(self) -> None:
        for pid in self._children:
            _LOG.error("worker %d did not stop within %g s and is killed", pid, self._stop_limit_s)
            os.kill(pid, signal.SIGKILL)
        self._stop_at = time.monotonic() + self._stop_limit_s

    def _fork(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal must find either the parent's handlers or the child's own: between the fork and
        # those, it would be written to the parent's pipe, and the child would never stop.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        pid = os.fork()
        if pid:
            self._children[pid] = _Child(time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            return
        status = 70  # of a child that fell over its own feet
        try:
            status = self._become_a_worker()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        except StarfishError as error:
            sys.stderr.write(f"{self._name}: {error}\n")
            status = 1
        except BaseException:  # noqa: BLE001 - a fault of one worker is logged, and its alone
            _LOG.exception("worker %d failed", os.getpid())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Past this point everything belongs to the parent, its exit handlers too.
            os._exit(status)

    def _become_a_worker(self) -> int:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _exit_in_order)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        for descriptor in (
            self._wakeup_read,
            self._wakeup_write,
            self._ready_read,
            self._lifeline_write,
        ):
            os.close(descriptor)

        def tell_ready() -> None:
            os.write(self._ready_write, _PID.pack(os.getpid()))

        return self._work(tell_ready, self._lifeline_read)


def _leave_to_the_pipe(_number: int, _frame: FrameType | None) -> None:
    """Without a handler of Python's own, the number of a signal is not written to the pipe."""


def _exit_in_order(_number: int, _frame: FrameType | None) -> None:
    """Until the work has a better idea of how to stop."""
    sys.exit(0)
