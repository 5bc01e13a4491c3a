"""``python -m starfish_projection rebuild MODULE:ATTRIBUTE``: arguments and output only."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from starfish_projection._rebuild import RebuildProgress, RebuildReport, rebuild_projection
from starfish_projection._setup import load_setup
from starfish_protocol.errors import StarfishError

__all__ = ("main",)

_COMPLETE, _INCOMPLETE, _FAILED = 0, 1, 2

_EPILOG = """\
MODULE:ATTRIBUTE is a starfish_projection.ProjectionSetup, or a function that returns one.
exit status: 0 every list is what its sources give; 1 some are not, as the report says;
2 nothing could be rebuilt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is returned."""
    parser = argparse.ArgumentParser(prog="python -m starfish_projection")
    commands = parser.add_subparsers(dest="command", required=True)
    rebuild = commands.add_parser(
        "rebuild",
        help="make list documents what their source documents give",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rebuild.add_argument("setup", metavar="MODULE:ATTRIBUTE")
    rebuild.add_argument("--json", action="store_true", help="print the report as JSON")
    rebuild.add_argument("--quiet", action="store_true", help="show no progress")
    chosen = parser.parse_args(arguments)
    # As `python -m` does for its own module: the application's is looked for in the working folder.
    sys.path.insert(0, str(Path.cwd()))
    bar = _ProgressLine(sys.stderr, hidden=chosen.quiet or not sys.stderr.isatty())
    try:
        report = asyncio.run(_rebuild(chosen.setup, bar))
    except StarfishError as error:
        bar.clear()
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    bar.clear()
    print(_as_json(report) if chosen.json else _as_text(report))
    return _COMPLETE if report.complete else _INCOMPLETE


async def _rebuild(reference: str, bar: _ProgressLine) -> RebuildReport:
    setup = await load_setup(reference)
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
        close = getattr(setup.store, "close", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


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
