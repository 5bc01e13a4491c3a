"""Bars for bytes and files on standard error, and nothing at all where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starfish_artifact_registry.cli._output import Output

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ("Meter", "meter")


class Meter:
    """Counts files and bytes; draws them where there is a terminal."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0

    def add_bytes(self, count: int) -> None:
        """So many bytes more are done."""
        self.bytes += count

    def add_file(self) -> None:
        """One file more is done."""
        self.files += 1


class _DrawnMeter(Meter):
    def __init__(
        self, files: Progress, sizes: Progress, total: tuple[int | None, int | None]
    ) -> None:
        super().__init__()
        self._files, self._sizes = files, sizes
        self._file_task = files.add_task("files", total=total[0])
        self._byte_task = sizes.add_task("bytes", total=total[1])

    def add_bytes(self, count: int) -> None:
        super().add_bytes(count)
        self._sizes.advance(self._byte_task, count)

    def add_file(self) -> None:
        super().add_file()
        self._files.advance(self._file_task)


@contextmanager
def meter(output: Output, *, files: int | None = None, size: int | None = None) -> Generator[Meter]:
    """Show progress while the body runs: so many files of so many bytes altogether.

    Nothing is drawn with ``--json``, or when standard error is not a terminal.
    """
    if output.as_json or not sys.stderr.isatty():
        yield Meter()
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    counts = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
    )
    sizes = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with Live(Group(counts, sizes), console=console, transient=True):
        yield _DrawnMeter(counts, sizes, (files, size))
