"""``starfish-server run``: check everything that can be checked before anything starts."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from starfish_server.auth import TokenFile
from starfish_server.cli._logging import configure_logging
from starfish_server.config._likely_mistakes import config_warnings
from starfish_server.config._loader import load_config

if TYPE_CHECKING:
    from starfish_server.cli._serve import ServeSettings
    from starfish_server.config.schema import SyncConfig

__all__ = ("run",)

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop.

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
    problem = _store_problem(options)
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
        _tell(f"warning: {warning}")
    if not knows_callers:
        _tell("warning: without --tokens every caller is anonymous")
    if options.tokens is not None:
        TokenFile(options.tokens).refresh()
    try:
        from starfish_http import serve
        from starfish_server.cli._serve import ServeSettings
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in {"uvicorn", "httptools"}:
            raise
        raise ImportError(
            'starfish-server run needs the extra serve: pip install --find-links dist "starfish-server[serve]"'
        ) from error
    settings: ServeSettings = ServeSettings(
        config=config,
        store=options.store,
        data=None if options.data is None else Path(options.data),
        dsn=options.dsn,
        tokens=None if options.tokens is None else Path(options.tokens),
        workers=options.workers,
        trusted_proxy_hops=options.trusted_proxy_hops,
        config_endpoint=options.config_endpoint,
        max_connections=options.max_connections,
        keep_alive_s=options.keep_alive,
        drain_s=options.drain,
        access_log=options.access_log,
        cors_origins=options.cors_origins,
        request_ids=options.request_ids,
        metrics=options.metrics,
        tracing=options.tracing,
    )
    settings.check()
    _share_metrics(options)
    if options.store == "postgres":
        import_module("starfish_server.storage.postgres")  # or each worker would say what it lacks
    configure_logging(access_log=options.access_log)
    return serve.run(
        settings.create_app,
        host=options.host,
        port=options.port,
        options=settings.serve_options(),
        name="starfish-server",
    )


def _share_metrics(options: argparse.Namespace) -> None:
    """Give the workers a folder for their counters, so that any of them answers for all."""
    if options.metrics and options.workers > 1 and _METRICS_FOLDER not in os.environ:
        os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix="starfish-metrics-")


def _knows_callers(options: argparse.Namespace, config: SyncConfig) -> bool:
    takes_certificates = config.capabilities is not None and config.capabilities.enabled
    return options.tokens is not None or config.jwt is not None or takes_certificates


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _store_problem(options: argparse.Namespace) -> str | None:
    store = options.store
    if store == "memory" and options.workers > 1:
        return "--store memory belongs to one process; use --workers 1 or another store"
    if store in {"memory", "postgres"}:
        if options.data is not None:
            return f"--store {store} keeps nothing in --data; leave one of the two out"
    elif options.data is None:
        return f"--store {store} needs --data DIR"
    if store == "postgres":
        if not options.dsn:
            return "--store postgres needs --dsn URL, or the variable STARFISH_DSN"
        if not options.dsn.startswith(("postgresql://", "postgres://")):
            return "--dsn must begin with 'postgresql://'"
    return None


def _resolve(host: str, port: int) -> str:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if not host else 0
    )
    return str(found[0][4][0])


def _usage(problem: str) -> int:
    _tell(problem)
    return 2


def _tell(text: str) -> None:
    sys.stderr.write(f"starfish-server: {text}\n")
