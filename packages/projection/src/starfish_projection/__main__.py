"""``python -m starfish_projection COMMAND MODULE:ATTRIBUTE``: arguments and output only."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

import starfish_projection
from starfish_projection._parking import ParkedWrite
from starfish_projection._plugin import ProjectionPlugin, create_projection_server_plugin
from starfish_projection._rebuild import RebuildProgress, RebuildReport, rebuild_projection
from starfish_projection._setup import ProjectionSetup, load_setup
from starfish_projection.errors import ProjectionError, SetupError
from starfish_protocol.errors import StarfishError

__all__ = ("main",)

_DONE, _REFUSED, _USAGE, _UNAVAILABLE, _INTERRUPTED = 0, 1, 2, 5, 130

_EPILOG = """\
MODULE:ATTRIBUTE is a starfish_projection.ProjectionSetup, or a function that returns one.
exit status: 0 done; 1 refused, or some lists are not right, as the report says; 2 wrong usage;
5 the store does not answer; 130 interrupted."""

_COMMANDS = (
    ("rebuild", "make list documents what their source documents give"),
    ("parked", "show the writes that could not be folded, and why"),
    ("retry-parked", "fold them now, as after a mistake in project was mended"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is returned."""
    chosen = _parser().parse_args(arguments)
    # As `python -m` does for its own module: the application's is looked for in the working folder.
    sys.path.insert(0, str(Path.cwd()))
    try:
        return asyncio.run(_run(chosen))
    except StarfishError as error:
        if chosen.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, SetupError):
            return _USAGE
        return _REFUSED if isinstance(error, ProjectionError) else _UNAVAILABLE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m starfish_projection", description="Look after list documents."
    )
    parser.add_argument("--version", action="version", version=starfish_projection.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in _COMMANDS:
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("setup", metavar="MODULE:ATTRIBUTE")
        command.add_argument("--json", action="store_true", help="for programs, errors too")
        if name == "rebuild":
            command.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


async def _run(chosen: argparse.Namespace) -> int:
    async with _opened(chosen.setup) as setup:
        if chosen.command == "rebuild":
            report = await _rebuild(setup, quiet=chosen.quiet)
            print(_as_json(report) if chosen.json else _as_text(report))
            return _DONE if report.complete else _REFUSED
        plugin = create_projection_server_plugin(
            store=setup.store,
            projections=setup.projections,
            max_items=setup.max_items,
            pieces_above_bytes=setup.pieces_above_bytes,
        )
        if chosen.command == "parked":
            _show(await plugin.parked(), as_json=chosen.json)
            return _DONE
        return await _retry(plugin, as_json=chosen.json)


@asynccontextmanager
async def _opened(reference: str) -> AsyncGenerator[ProjectionSetup]:
    setup = await load_setup(reference)
    try:
        yield setup
    finally:
        close = getattr(setup.store, "close", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


async def _rebuild(setup: ProjectionSetup, *, quiet: bool) -> RebuildReport:
    bar = _ProgressLine(sys.stderr, hidden=quiet or not sys.stderr.isatty())
    try:
        return await rebuild_projection(
            store=setup.store,
            config=setup.config,
            projections=setup.projections,
            target_prefixes=setup.target_prefixes,
            max_items=setup.max_items,
            pieces_above_bytes=setup.pieces_above_bytes,
            on_progress=bar.show,
        )
    finally:
        bar.clear()


async def _retry(plugin: ProjectionPlugin, *, as_json: bool) -> int:
    waiting = len(await plugin.parked())
    folded = await plugin.retry_parked()
    if as_json:
        print(json.dumps({"folded": folded, "parked": waiting - folded}))
    else:
        print(f"{folded} of {waiting} parked writes are in their lists now")
    return _DONE if folded == waiting else _REFUSED


def _show(parked: Sequence[ParkedWrite], *, as_json: bool) -> None:
    if as_json:
        shown = [
            {
                "collection": each.collection,
                "key": each.key,
                "failures": [
                    {"reason": f.reason, "target": f.target, "detail": f.detail}
                    for f in each.failures
                ],
            }
            for each in parked
        ]
        print(json.dumps({"parked": shown}, indent=2))
        return
    for each in parked:
        for failure in each.failures:
            where = "" if failure.target is None else f" for list {failure.target}"
            print(f"{each.key}: {failure.reason}{where}: {failure.detail}")
    if not parked:
        print("nothing is parked")


class _ProgressLine:
    """One line on a terminal, written over and over; hidden anywhere else."""

    def __init__(self, out: TextIO, *, hidden: bool) -> None:
        self._out = out
        self._hidden = hidden
        self._shown = ""

    def show(self, progress: RebuildProgress) -> None:
        percent = 100 * progress.done // max(progress.total, 1)
        line = f"{progress.phase} {percent} % of {progress.total}"
        if not self._hidden and line != self._shown:
            self._out.write(f"\r{line:<{len(self._shown)}}")
            self._out.flush()
            self._shown = line

    def clear(self) -> None:
        if self._shown:
            self._out.write(f"\r{'':<{len(self._shown)}}\r")
            self._out.flush()
            self._shown = ""


def _as_json(report: RebuildReport) -> str:
    return json.dumps(
        {
            "complete": report.complete,
            "documents": report.documents,
            "unreadable": report.unreadable,
            "lists": report.lists,
            "rewritten": report.rewritten,
            "entriesSet": report.entries_set,
            "entriesRemoved": report.entries_removed,
            "dropped": dict(report.dropped),
            "incomplete": list(report.incomplete),
        }
    )


def _as_text(report: RebuildReport) -> str:
    lines = [
        f"{report.documents} documents, {report.lists} lists, {report.rewritten} rewritten",
        f"{report.entries_set} entries set, {report.entries_removed} removed",
    ]
    if report.unreadable:
        lines.append(f"{report.unreadable} documents could not be read, so nothing was removed")
    lines.extend(f"dropped: {count} {reason}" for reason, count in sorted(report.dropped.items()))
    lines.extend(f"not known to be right: {target}" for target in report.incomplete)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
