"""``starfish-server run``: check everything that can be checked before anything starts."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from starfish_server.auth import TokenFile
from starfish_server.cli._logging import configure_logging
from starfish_server.cli._output import tell
from starfish_server.config._likely_mistakes import config_warnings
from starfish_server.config._loader import load_config

if TYPE_CHECKING:
    from starfish_server.cli._serve import ServeSettings, StoreName
    from starfish_server.config.schema import SyncConfig

__all__ = ("RunOptions", "run")

_STORES = ("sqlite", "filesystem", "postgres", "objects", "memory")
_POSTGRES = ("postgresql://", "postgres://")
_CONFIG_ENDPOINTS = ("public", "role-filtered")

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What can be said about a server."""

    config: Path
    data: Path | None
    tokens: Path | None
    store: str = "sqlite"
    dsn: str | None = None
    bucket: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    trusted_proxy_hops: int = 0
    max_connections: int = 1000
    keep_alive: int = 30
    drain: int = 30
    config_endpoint: str | None = None
    cors_origins: Sequence[str] = ()
    request_ids: bool = False
    metrics: bool = False
    tracing: bool = False
    access_log: bool = False


def run(options: RunOptions, *, announce: Callable[[str], None] | None = None) -> int:
    """Serve until told to stop.

    Args:
        options: what to serve and how.
        announce: called with the address once requests are answered; ``None`` prints the line.

    Returns:
        The exit status: 0 stopped, 1 it could not start, 2 the options make no sense together,
        5 the address is taken.

    Raises:
        StarfishError: a file, the store or the configuration does not let it start.
        ImportError: the extra ``serve`` is missing.
    """
    try:
        address = _resolve(options.host, options.port)
    except OSError as error:
        return _usage(
            f"--host {options.host!r} is not an address of this machine: {error.strerror}"
        )
    problem = _usage_problem(options)
    if problem is not None:
        return _usage(problem)
    config = load_config(options.config)
    knows_callers = _knows_callers(options, config)
    if not knows_callers and not _is_loopback(address):
        return _usage(
            f"--host {options.host} would let anybody on the network in; it must be a loopback address "
            "unless --tokens FILE is given or the configuration has capabilities or jwt"
        )
    for warning in config_warnings(config):
        tell(f"warning: {warning}")
    if not knows_callers:
        tell("warning: without --tokens every caller is anonymous")
    if options.tokens is not None:
        TokenFile(options.tokens).refresh()
    try:
        from starfish_http import serve
        from starfish_http.rate_limit import MemoryCounters, SharedCounters
        from starfish_server.cli._serve import ServeSettings
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in {"uvicorn", "httptools"}:
            raise
        raise ImportError(
            'starfish-server run needs the extra serve: pip install --find-links dist "starfish-server[serve]"'
        ) from error
    settings: ServeSettings = ServeSettings(
        config=config,
        store=cast("StoreName", options.store),
        data=options.data,
        dsn=options.dsn,
        bucket=options.bucket,
        tokens=options.tokens,
        workers=options.workers,
        trusted_proxy_hops=options.trusted_proxy_hops,
        config_endpoint=cast("Literal['public', 'role-filtered'] | None", options.config_endpoint),
        max_connections=options.max_connections,
        keep_alive_s=options.keep_alive,
        drain_s=options.drain,
        access_log=options.access_log,
        counters=SharedCounters() if options.workers > 1 else MemoryCounters(),
        cors_origins=options.cors_origins,
        request_ids=options.request_ids,
        metrics=options.metrics,
        tracing=options.tracing,
    )
    settings.check()
    _share_metrics(options)
    if options.store in {"postgres", "objects"}:  # or each worker would say that it lacks the extra
        import_module(f"starfish_server.storage.{options.store}")
    configure_logging(access_log=options.access_log)
    return serve.run(
        settings.create_app,
        host=options.host,
        port=options.port,
        options=settings.serve_options(),
        name="starfish-server",
        announce=announce,
    )


def _usage_problem(options: RunOptions) -> str | None:
    if options.store not in _STORES:
        return f"--store {options.store!r} is refused; it must be one of {', '.join(_STORES)}"
    if options.config_endpoint is not None and options.config_endpoint not in _CONFIG_ENDPOINTS:
        allowed = ", ".join(_CONFIG_ENDPOINTS)
        return (
            f"--config-endpoint {options.config_endpoint!r} is refused; it must be one of {allowed}"
        )
    return _place_problem(options)


def _share_metrics(options: RunOptions) -> None:
    """Give the workers a folder for their counters, so that any of them answers for all."""
    if options.metrics and options.workers > 1 and _METRICS_FOLDER not in os.environ:
        os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix="starfish-metrics-")


def _knows_callers(options: RunOptions, config: SyncConfig) -> bool:
    takes_certificates = config.capabilities is not None and config.capabilities.enabled
    return options.tokens is not None or config.jwt is not None or takes_certificates


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _place_problem(options: RunOptions) -> str | None:
    store = options.store
    if store == "memory" and options.workers > 1:
        return "--store memory belongs to one process; use --workers 1 or another store"
    if store in {"memory", "postgres", "objects"}:
        if options.data is not None:
            return f"--store {store} keeps nothing in --data; leave one of the two out"
    elif options.data is None:
        return f"--store {store} needs --data DIR"
    if store == "postgres" and not (options.dsn or "").startswith(_POSTGRES):
        return (
            "--store postgres needs --dsn URL such as postgresql://host/database, or STARFISH_DSN"
        )
    if store == "objects" and "://" not in (options.bucket or ""):
        return "--store objects needs --bucket URL such as s3://bucket/prefix, or STARFISH_BUCKET"
    return None


def _resolve(host: str, port: int) -> str:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if not host else 0
    )
    return str(found[0][4][0])


def _usage(problem: str) -> int:
    tell(problem)
    return 2
