"""``verify, repack, gc``: the store itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.cli._console import note, print_json, print_line
from starfish_mpack_wire.cli._options import Json, open_tree

__all__ = ("add_commands",)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (verify, repack, gc):
        app.command()(command)


def verify(as_json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Read everything again and compare it with its id; exit status 1 when something is wrong."""
    with open_tree() as tree:
        report = tree.store.verify()
    if as_json:
        print_json(asdict(report))
    else:
        for problem in report.problems:
            print_line(terminal_line(problem))
        note(
            f"{report.commits} commits, {report.snapshots} snapshots, {report.blobs} blobs in "
            f"{report.packs} packs: {'all is well' if not report.problems else 'damaged'}."
        )
    if report.problems:
        raise typer.Exit(1)


def repack(as_json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Put all packs together into one."""
    with open_tree() as tree:
        report = tree.store.repack()
    if as_json:
        print_json(asdict(report))
    else:
        note(
            f"{report.packs_before} packs, {report.bytes_before} bytes; now {report.packs_after}, {report.bytes_after} bytes."
        )


def gc(
    grace_hours: Annotated[
        float, typer.Option(min=0, help="What came in this long ago or later is kept.")
    ] = 336.0,
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Remove what no branch or tag leads to."""
    with open_tree() as tree:
        report = tree.store.gc(grace_ms=int(grace_hours * 3_600_000))
    if as_json:
        print_json(asdict(report))
    else:
        note(
            f"{report.packs_before} packs, {report.bytes_before} bytes; now {report.packs_after}, {report.bytes_after} bytes."
        )
