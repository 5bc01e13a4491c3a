"""All commands in one application."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from starfish_server.cli._check_config import check_config
from starfish_server.cli._store_commands import add_store_commands
from starfish_server.cli._token_commands import token_app

__all__ = ("build_app",)

_EPILOG = (
    "Exit status: 0 done; 1 refused, or a check found damage; 2 wrong usage; 3 not found; "
    "4 the state does not allow it; 5 store or address unavailable; 130 interrupted."
)
_HELP = "Document sync over HTTP."

Host = Annotated[str, typer.Option(help="Address; other than loopback needs tokens.")]
Port = Annotated[
    int, typer.Option(min=0, max=65_535, metavar="PORT", help="Port; 0 for any free one.")
]
Workers = Annotated[int, typer.Option(min=1, max=999_999, metavar="N", help="Number of processes.")]
Hops = Annotated[
    int,
    typer.Option(min=0, max=100, metavar="N", help="Proxies whose X-Forwarded-For is believed."),
]
Connections = Annotated[
    int,
    typer.Option(
        min=1, max=999_999, metavar="N", help="Connections of each process; more are answered 503."
    ),
]
KeepAlive = Annotated[
    int,
    typer.Option(min=1, max=999_999, metavar="SECONDS", help="Keep an idle connection so long."),
]
Drain = Annotated[
    int,
    typer.Option(
        min=1, max=999_999, metavar="SECONDS", help="Time for requests in flight after SIGTERM."
    ),
]
AccessLog = Annotated[bool, typer.Option("--access-log", help="Log every request.")]


def build_app() -> typer.Typer:
    """The application, for a program that runs it in a process of its own."""
    app = typer.Typer(
        name="starfish-server",
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    app.command("serve")(_serve)
    app.command("init")(_init)
    app.command("run")(_run)
    app.command("check-config")(check_config)
    app.add_typer(token_app(), name="tokens")
    add_store_commands(app)
    return app


def _show_version(value: bool) -> None:  # noqa: FBT001 - Typer hands the flag over so
    if value:
        typer.echo(f"starfish-server {version('starfish-server')}")
        raise typer.Exit


def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Document sync over HTTP."""


def _serve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of everything; made when missing.")
    ] = Path("starfish"),
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    access_log: AccessLog = False,
) -> None:
    """Serve a folder; the first start makes a configuration and a token."""
    from starfish_server.cli._first_start import serve_folder

    raise typer.Exit(
        serve_folder(folder, host=host, port=port, workers=workers, access_log=access_log)
    )


def _init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of everything; made when missing.")
    ] = Path("starfish"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a first configuration to edit, and a token."""
    from starfish_server.cli._first_start import init_folder

    init_folder(folder, as_json=as_json)


def _run(
    *,
    config: Annotated[Path, typer.Option(metavar="FILE", help="Configuration to serve.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the store.", show_default=False),
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="sqlite|filesystem|postgres|objects|memory", help="Where documents are kept."
        ),
    ] = "sqlite",
    dsn: Annotated[
        str | None,
        typer.Option(
            envvar="STARFISH_DSN",
            metavar="URL",
            help="Database of --store postgres.",
            show_default=False,
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            envvar="STARFISH_BUCKET",
            metavar="URL",
            help="Storage of --store objects, such as s3://bucket/prefix.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Bearer tokens; see 'tokens'.", show_default=False),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    trusted_proxy_hops: Hops = 0,
    max_connections: Connections = 1000,
    keep_alive: KeepAlive = 30,
    drain: Drain = 30,
    config_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="public|role-filtered", help="Serve /config: all, or what a caller may use."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of this origin in; may be repeated."),
    ] = None,
    request_ids: Annotated[
        bool, typer.Option("--request-ids", help="Answer with X-Request-ID.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Serve /metrics for Prometheus.")
    ] = False,
    tracing: Annotated[
        bool, typer.Option("--tracing", help="Make an OpenTelemetry span of each request.")
    ] = False,
    access_log: AccessLog = False,
) -> None:
    """Serve a configuration."""
    from starfish_server.cli._run import RunOptions, run

    options = RunOptions(
        config=config,
        data=data,
        store=store,
        dsn=dsn,
        bucket=bucket,
        tokens=tokens,
        host=host,
        port=port,
        workers=workers,
        trusted_proxy_hops=trusted_proxy_hops,
        max_connections=max_connections,
        keep_alive=keep_alive,
        drain=drain,
        config_endpoint=config_endpoint,
        cors_origins=cors_origin or (),
        request_ids=request_ids,
        metrics=metrics,
        tracing=tracing,
        access_log=access_log,
    )
    raise typer.Exit(run(options))
