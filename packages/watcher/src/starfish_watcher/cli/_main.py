"""The commands, and how their errors become messages and exit statuses."""

# ruff: noqa: FBT002, PLR0917 - the parameters are the command line, as typer reads it

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import starfish_watcher
from starfish_disk.errors import DiskError
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.region import Region
from starfish_watcher._store import EventStore
from starfish_watcher.cli._output import (
    ExitStatus,
    NotFoundError,
    complain,
    line,
    print_json,
    status_of,
)
from starfish_watcher.errors import WatcherError
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.log.sqlite._transfer import (
    back_up,
    export_lines,
    import_lines,
    shown_event,
    vacuum,
)

__all__ = ("app", "run")

app = typer.Typer(
    name="starfish-watcher",
    help="Look at event stores, copy, check and shorten them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
StorePath = Annotated[Path, typer.Argument(help="File of the event store.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
Types = Annotated[
    list[str], typer.Option("--types", help="Module that registers event types; repeatable.")
]
Prefix = Annotated[str | None, typer.Option(help="Only this namespace.")]
Scope = Annotated[str | None, typer.Option(help="Only this scope.")]
Kind = Annotated[str | None, typer.Option(help="Only this kind (0xF001) or category (0xF).")]


def run(arguments: Sequence[str] | None) -> int:
    """Run one command; its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given
    try:
        ended = app(given, prog_name="starfish-watcher", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader has enough, as `head` does; the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except Exception as error:
        status = _told(error, as_json=as_json)
        if status is None:
            raise
        return status
    return ended if isinstance(ended, int) else ExitStatus.DONE


def _told(error: Exception, *, as_json: bool) -> ExitStatus | None:
    """Say why it was refused; nothing for a fault of this program."""
    wrong_usage: Any = error if hasattr(error, "format_message") else None
    if wrong_usage is not None:
        if as_json:
            message = wrong_usage.format_message()
            print_json({"error": "usage", "message": message, "status": 2})
        else:
            wrong_usage.show()
        return ExitStatus.USAGE
    expected = (WatcherError, DiskError, OSError, NotFoundError, ValueError, ImportError)
    if not isinstance(error, expected):
        return None
    status = status_of(error)
    complain(error, status, as_json=as_json)
    return status


def _version(value: bool) -> None:  # noqa: FBT001 - as typer calls it
    if value:
        line(f"starfish-watcher {starfish_watcher.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Look at event stores, copy, check and shorten them."""


@app.command()
def inspect(store: StorePath, as_json: AsJson = False) -> None:
    """Show id, size and counts of a store."""
    with _opened(store) as opened:
        heads = opened.entities()
        facts: dict[str, Any] = {
            "store_id": opened.store_id,
            "last_sequence": opened.last_sequence(),
            "entities": len(heads),
            "events": sum(int(head) - head.epoch for head in heads.values()),
            "removed": sum(head.epoch for head in heads.values()),
            "bytes": _existing(store).stat().st_size,
        }
    _show(facts, as_json=as_json)


@app.command()
def entities(store: StorePath, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """List the entities and how many events each had."""
    with _opened(store) as opened:
        found = opened.entities(prefix)
    for name in sorted(found):
        if as_json:
            print_json(
                {"entity": name, "generation": int(found[name]), "removed": found[name].epoch}
            )
        else:
            line(f"{int(found[name]):8}  {name}")


@app.command()
def tail(
    store: StorePath,
    last: Annotated[int, typer.Option(help="Sequences to look back, 0 for none.")] = 10,
    after: Annotated[int | None, typer.Option(help="Begin after this sequence.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events.")] = False,
    prefix: Prefix = None,
    scope: Scope = None,
    kind: Kind = None,
    types: Types = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Print the newest events, and with -f those that come."""
    region = _region(prefix, scope, kind)
    _import(types)
    with _opened(store) as opened:
        start = max(0, opened.last_sequence() - last) if after is None else after
        subscription = opened.subscribe(region) if follow else None
        while page := opened.query(region, start, 256):
            for event in page:
                _show_event(event, as_json=as_json)
            start = page[-1].sequence
        while subscription is not None:
            for event in subscription.pull_batch(256, None):
                if event.sequence > start:
                    _show_event(event, as_json=as_json)
            sys.stdout.flush()


@app.command()
def show(
    store: StorePath,
    sequence: Annotated[int, typer.Argument(help="Of the event.", min=1)],
    types: Types = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Show one event with all its fields."""
    _import(types)
    with _opened(store) as opened:
        found = opened.read(sequence - 1, 1)
    if not found or found[0].sequence != sequence:
        msg = f"{store} has no event {sequence}"
        raise NotFoundError(msg)
    _show(shown_event(found[0]) | {"event_hash": found[0].event_hash.hex()}, as_json=as_json)


@app.command()
def verify(store: StorePath, as_json: AsJson = False) -> None:
    """Check the file, and compute every hash again."""
    with _opened(store) as opened:
        report = opened.verify_chain()
    facts = {"entities": report.entities, "events": report.events, "removed": report.removed}
    _show({"verified": True, **facts}, as_json=as_json)


@app.command()
def export(
    store: StorePath,
    to: Annotated[Path | None, typer.Option(help="New file; standard output if left out.")] = None,
    types: Types = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Write a store as lines of JSON."""
    _import(types)
    lines = export_lines(_existing(store))
    if to is None:
        for each in lines:
            sys.stdout.write(each + "\n")
        return
    with closing(lines), to.open("x", encoding="utf-8") as file:
        to.chmod(0o600)
        count = sum(bool(file.write(each + "\n")) for each in lines)
    _show({"lines": count, "to": str(to)}, as_json=as_json)


@app.command(name="import")
def import_(
    source: Annotated[str, typer.Argument(help="Exported file, or - for standard input.")],
    store: StorePath,
    as_json: AsJson = False,
) -> None:
    """Make a new store of an export; every hash is checked."""
    if source == "-":
        count = import_lines(store, sys.stdin)
    else:
        with Path(source).open(encoding="utf-8") as file:
            count = import_lines(store, file)
    _show({"events": count, "store": str(store)}, as_json=as_json)


@app.command()
def backup(
    store: StorePath,
    to: Annotated[Path, typer.Argument(help="New file for the copy.")],
    as_json: AsJson = False,
) -> None:
    """Copy a store while others write to it."""
    size = back_up(_existing(store), to)
    _show({"bytes": size, "to": str(to)}, as_json=as_json)


@app.command()
def compact(
    store: StorePath,
    before: Annotated[
        datetime | None, typer.Option(help="Remove events appended before this UTC time.")
    ] = None,
    prefix: Prefix = None,
    scope: Scope = None,
    kind: Kind = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old events for good; without --before only give back unused space."""
    region = _region(prefix, scope, kind)
    path = _existing(store)
    removed = 0
    size = path.stat().st_size
    with _opened(store) as opened:
        if before is not None:
            limit_us = int(before.replace(tzinfo=UTC).timestamp() * 1_000_000)
            if not yes:
                typer.confirm(f"Remove events of {store} before {before} for good?", abort=True)
            removed = opened.compact(
                lambda event: event.timestamp_us >= limit_us or not region.matches(event)
            )
    vacuum(path)
    facts = {"removed": removed, "bytes_before": size, "bytes_now": path.stat().st_size}
    _show(facts, as_json=as_json)


@app.command()
def erase(
    store: StorePath,
    entity: Annotated[str, typer.Argument(help="Whose payloads are removed.")],
    keys: Annotated[Path | None, typer.Option(help="Key ring of the store.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove all payloads of one entity for good."""
    path = _existing(store)
    if not yes:
        typer.confirm(f"Remove all payloads of {entity!r} for good?", abort=True)
    ring = None if keys is None else KeyRing(_existing(keys))
    try:
        with EventStore.open(path, keys=ring) as opened:
            erased = opened.erase(entity)
    finally:
        if ring is not None:
            ring.close()
    _show({"erased": erased, "entity": entity}, as_json=as_json)


@app.command()
def consumers(
    sink: Annotated[Path, typer.Argument(help="SQLite file of a runner's sink.")],
    store: Annotated[Path | None, typer.Option(help="Event store, to tell the lag.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runners: how far each is, who works on it, and its parked events."""
    from starfish_watcher._runner.consumers import consumers_of

    last: int | None = None
    if store is not None:
        with _opened(store) as opened:
            last = opened.last_sequence()
    for facts in consumers_of(_existing(sink), last):
        if as_json:
            print_json(facts)
            continue
        lag = "" if facts["lag"] is None else f", lag {facts['lag']}"
        line(f"{facts['runner']}: at {facts['sequence']}{lag}, {len(facts['parked'])} parked")
        for part in facts["partitions"]:
            owner = part["owner"] or "nobody"
            line(f"  partition {part['partition']}: at {part['sequence']}, {owner}")
        for each in facts["parked"]:
            line(f"  parked {each['sequence']} of {each['view']}: {each['reason']}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise NotFoundError(msg)
    return path


def _opened(path: Path) -> EventStore:
    return EventStore.open(_existing(path))


def _import(modules: Sequence[str]) -> None:
    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for module in modules:
        importlib.import_module(module)


def _region(prefix: str | None, scope: str | None, kind: str | None) -> Region:
    number = None if kind is None else int(kind, 16)
    if kind is None or number is None or len(kind.lower().removeprefix("0x")) == 1:
        return Region(entity_prefix=prefix, scope=scope, kind=number)
    return Region(entity_prefix=prefix, scope=scope, kind=EventKind(number))


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        line(f"{name.replace('_', ' '):{width}}  {_text(value)}")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _show_event(event: Event, *, as_json: bool) -> None:
    shown = shown_event(event)
    if as_json:
        print_json(shown)
        return
    when = datetime.fromtimestamp(event.timestamp_us / 1e6, UTC).isoformat(timespec="milliseconds")
    name = event.type_name or str(event.kind)
    payload = _text(shown["payload"]) if "payload_error" not in shown else shown["payload_error"]
    line(f"{event.sequence:8}  {when}  {event.entity}@{event.scope}  {name}  {payload[:400]}")
