"""Serve an application: listen, say when it is ready, drain, stop; in one process or several.

Rule: after SIGTERM or SIGINT the process is gone within ``drain_s + close_s`` and two seconds, whatever
its clients, its application or its threads do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from starlette.types import ASGIApp, Scope
from typing_extensions import override

from starfish_http._lifespan import Lifespan, LifespanError
from starfish_http._workers import supervise
from starfish_http.bounded_protocol import BoundedHttpProtocol, ConnectionLimits
from starfish_http.errors import HttpError
from starfish_http.stopping import STOPPING, stopping_of
from starfish_protocol.errors import StarfishError

import uvicorn  # isort: skip - bounded_protocol says which extra is missing

__all__ = (
    "LifespanError",
    "ListenError",
    "ServeOptions",
    "listen",
    "run",
    "serve",
    "serve_app",
    "stopping_of",
    "url_of",
)

_LOG = logging.getLogger(__name__)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SPARE_DESCRIPTORS = 256
_SPARE_S = 2.0
_INTERRUPTED = 130
_UNAVAILABLE = 5


class ListenError(HttpError, OSError):
    """An address cannot be listened on; one sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How an application is served."""

    workers: int = 1
    """Processes; each has connections of its own."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    """Bounds of the connections of one process."""
    keep_alive_s: int = 5
    """How long an answered connection may wait for its next request."""
    drain_s: float = 10.0
    """How long requests in flight may go on after the signal to stop."""
    close_s: float = 5.0
    """How long the application may take to stop after that."""
    access_log: bool = False
    """Whether uvicorn logs each request."""

    def stop_limit_s(self) -> float:
        """When a process that was told to stop is ended, whatever it does."""
        return self.drain_s + self.close_s + _SPARE_S


def listen(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        ListenError: the host is not an address of this machine, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ListenError(f"cannot listen on {host!r} port {port}: {_reason(error)}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise ListenError(f"cannot listen on {host!r} port {port}: {_reason(error)}") from error
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached."""
    address = listener.getsockname()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def run(
    create_app: Callable[[], ASGIApp],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    options: ServeOptions | None = None,
    name: str = "starfish-http",
    announce: Callable[[str], None] | None = None,
) -> int:
    """What a ``serve`` command does: listen, print ``listening on URL``, serve until told to stop.

    An error of ours is one line on standard error.

    Args:
        create_app: makes the application, in each process anew.
        host: an address of this machine.
        port: 0 for any free one.
        options: how to serve.
        name: begins the line of an error.
        announce: called with the URL once requests are answered; ``None`` prints the line.

    Returns:
        The exit status: 0 after SIGTERM, 130 after Ctrl-C, 5 when the address cannot be listened
        on, 1 when the application could not start.
    """
    announce = announce or _print_ready
    try:
        listener = listen(host, port)
    except ListenError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return _UNAVAILABLE
    url = url_of(listener)
    try:
        return serve(create_app, listener, options, on_ready=lambda: announce(url), name=name)
    except StarfishError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1


def serve(
    create_app: Callable[[], ASGIApp],
    listener: socket.socket,
    options: ServeOptions | None = None,
    *,
    on_ready: Callable[[], None],
    name: str = "starfish-http",
) -> int:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight and stop.

    It owns the process: call it last, in the main thread, with no event loop running.

    Args:
        create_app: makes the application; with several workers, in each of them.
        listener: of `listen`; closed when this returns.
        options: how to serve.
        on_ready: called once requests are answered.
        name: begins the line of an error of a worker.

    Returns:
        The exit status: 0, 130 after SIGINT, or 1 when a worker could not start or did not stop.

    Raises:
        Exception: the error that the application's start-up raised, with one worker.
    """
    options = options or ServeOptions()
    if options.workers == 1:
        return _serve_here(create_app, listener, options, on_ready, None)
    return supervise(
        options.workers,
        listener,
        lambda tell, lifeline: _serve_here(create_app, listener, options, tell, lifeline),
        name=name,
        stop_limit_s=options.stop_limit_s() + 1,
        on_ready=on_ready,
    )


def _serve_here(
    create_app: Callable[[], ASGIApp],
    listener: socket.socket,
    options: ServeOptions,
    on_ready: Callable[[], None],
    lifeline: int | None,
) -> int:
    stop = _StopSignal(_Watchdog(options.stop_limit_s()))

    async def main() -> None:
        app = create_app()
        await _Serving(
            app, listener, options, on_ready=on_ready, stop=stop, lifeline=lifeline
        ).run()

    config = uvicorn.Config(_nothing, log_config=None)
    # Around the event loop as well, whose own end must not be cut off by another handler.
    with stop.handled(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(main())
    return _INTERRUPTED if stop.received is signal.SIGINT else 0


async def serve_app(
    app: ASGIApp,
    listener: socket.socket,
    options: ServeOptions | None = None,
    *,
    on_ready: Callable[[], None],
) -> signal.Signals:
    """Serve in a running event loop until SIGTERM or SIGINT, within the application's lifespan.

    In the main thread, both signals are handled while it runs.

    Args:
        app: the application.
        listener: of `listen`; closed when this returns.
        options: how to serve; ``workers`` is not looked at.
        on_ready: called once requests are answered.

    Returns:
        The signal that stopped it.

    Raises:
        Exception: the error that the application's start-up raised.
    """
    options = options or ServeOptions()
    watchdog = _Watchdog(options.stop_limit_s())
    stop = _StopSignal(watchdog)
    try:
        with stop.handled():
            await _Serving(app, listener, options, on_ready=on_ready, stop=stop).run()
    finally:
        watchdog.disarm()
    return stop.received or signal.SIGTERM


class _StopSignal:
    """Which signal told a process to stop, and the steps that follow."""

    def __init__(self, watchdog: _Watchdog) -> None:
        self._watchdog = watchdog
        self.received: signal.Signals | None = None
        self.tell: Callable[[int, FrameType | None], None] | None = None
        """Called with each signal while something can be stopped."""

    def begin(self) -> None:
        """From now on the process has so much time to end."""
        self._watchdog.arm()

    @contextmanager
    def handled(self) -> Generator[None]:
        """Handle SIGTERM and SIGINT, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._on_signal) for each in _STOP_SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        self.begin()
        if self.tell is not None:
            self.tell(number, frame)


class _Serving:
    """One process's service of one application."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        options: ServeOptions,
        *,
        on_ready: Callable[[], None],
        stop: _StopSignal,
        lifeline: int | None = None,
    ) -> None:
        self._listener = listener
        self._options = options
        self._on_ready = on_ready
        self._lifeline = lifeline
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._lifespan = Lifespan(app)
        self._stopping = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        protocol = type("_Protocol", (BoundedHttpProtocol,), {"limits": options.limits})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",  # driven here, so that an error reaches the caller as it is
            interface="asgi3",
            log_config=None,
            access_log=options.access_log,
            proxy_headers=False,  # X-Forwarded-For is read as far as it is trusted: `client_address`
            server_header=False,
            workers=1,
            limit_concurrency=None,  # the protocol counts connections
            timeout_keep_alive=options.keep_alive_s,
            timeout_graceful_shutdown=math.ceil(options.drain_s + _SPARE_S / 2),
        )
        self._server = _Server(config, options.drain_s, self._is_ready, self._stopping.set)

    async def run(self) -> None:
        """Serve until told to stop."""
        _raise_descriptor_limit(self._options.limits.max_connections + _SPARE_DESCRIPTORS)
        self._stop.tell = self._on_signal
        try:
            with self._listener:
                if not await self._start():
                    return
                try:
                    if self._stop.received is None:
                        await self._serve()
                finally:
                    await self._close()
        finally:
            self._stop.tell = None

    async def _serve(self) -> None:
        self._server.lifespan_state = {**self._lifespan.state, STOPPING: self._stopping}
        await self._server.serve(sockets=[self._listener])

    async def _start(self) -> bool:
        """Whether the application started, rather than being told to stop before it had."""
        if self._stop.received is not None:
            return False
        self._starting = asyncio.create_task(self._lifespan.start())
        try:
            await self._starting
        except asyncio.CancelledError:
            if self._stop.received is None:
                raise
            return False
        finally:
            self._starting = None
        return True

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._options.close_s):
                await self._lifespan.stop()
        except TimeoutError:
            _LOG.error("the application did not stop within %g s", self._options.close_s)
        except Exception:  # noqa: BLE001 - the process ends, whatever is wrong with its application
            _LOG.exception("the application failed while it stopped")

    def _is_ready(self) -> None:
        if self._lifeline is not None:
            self._loop.add_reader(self._lifeline, self._parent_is_gone)
        self._on_ready()

    def _parent_is_gone(self) -> None:
        if self._lifeline is not None:
            self._loop.remove_reader(self._lifeline)
        self._stop.begin()
        self._server.should_exit = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._server.handle_exit(number, frame)
        starting = self._starting
        if starting is not None:
            self._loop.call_soon_threadsafe(starting.cancel)


class _Server(uvicorn.Server):
    """Says when it is ready and when it stops, and leaves signals to its caller."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain_s: float,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self.lifespan_state: dict[str, object] = {}
        self._on_ready = on_ready
        self._on_stop = on_stop

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state.update(self.lifespan_state)
        await super().startup(sockets)
        self._on_ready()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()  # open streams would keep it waiting
        # A request that is still open then learns of it as of a client that left, and most requests end by that;
        # uvicorn cancels the rest.
        end = asyncio.get_running_loop().call_later(self._drain_s, self._disconnect)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()
            self._disconnect()

    def _disconnect(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Watchdog:
    """Ends the process when it takes too long to stop."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer: threading.Timer | None = None

    def arm(self) -> None:
        """Begin to count, once."""
        if self._timer is None:
            self._timer = threading.Timer(self._limit_s, self._end)
            self._timer.daemon = True
            self._timer.start()

    def disarm(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"did not stop within {self._limit_s:g} s; the process is ended\n")
            sys.stderr.flush()
        os._exit(1)


def _raise_descriptor_limit(wanted: int) -> None:
    """Many systems allow 1,024 open files unless asked for more, which a server's connections use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _print_ready(url: str) -> None:
    sys.stdout.write(f"listening on {url}\n")
    sys.stdout.flush()


async def _nothing(_scope: Scope, _receive: object, _send: object) -> None:
    """Stands where uvicorn's configuration wants an application; only its loop is asked for."""
