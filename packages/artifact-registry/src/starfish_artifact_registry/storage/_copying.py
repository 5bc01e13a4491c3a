"""All content of one backend into another: a move to other storage, or a second copy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from starfish_artifact_registry.errors import ContentDamagedError
from starfish_artifact_registry.storage._base import ContentBackend

__all__ = ("CopyReport", "copy_content")


@dataclass(frozen=True, slots=True)
class CopyReport:
    """How far a copy has come."""

    copied: int
    """Contents that were written."""
    present: int
    """Contents that were there already, whole by their length; their grace time starts anew."""
    bytes_copied: int
    """Sum of the written sizes."""


async def copy_content(
    source: ContentBackend,
    target: ContentBackend,
    *,
    on_progress: Callable[[CopyReport], None] | None = None,
) -> CopyReport:
    """Copy everything that is stored; each content is durable in the target before the next.

    May be repeated: after a break it goes on where it was, and after a first round while the
    source was in use, a second one takes what came meanwhile.

    Args:
        source: read, not changed.
        target: written to; what else it holds stays.
        on_progress: called after each content.

    Raises:
        ContentDamagedError: the bytes of the source are others than their address says; they are
            not in the target under that address.
        ContentNotFoundError: it was deleted from the source meanwhile.
        StorageUnavailableError: one of the two does not answer.

    Examples:
        >>> import asyncio
        >>> from starfish_artifact_registry.storage import LocalBackend
        >>> async def stream():
        ...     yield b"evidence"
        >>> async def example():
        ...     old, new = LocalBackend("old"), LocalBackend("new")
        ...     await old.put(stream())
        ...     return await copy_content(old, new)
        >>> asyncio.run(example())
        CopyReport(copied=1, present=0, bytes_copied=8)
    """
    report = CopyReport(0, 0, 0)
    async for entry in source.list():
        if await target.size(entry.address) == entry.size and await target.touch(entry.address):
            report = CopyReport(report.copied, report.present + 1, report.bytes_copied)
        else:
            async with aclosing(source.read(entry.address)) as stream:
                stored = await target.put(stream)
            if stored.address != entry.address:
                if not stored.was_present:
                    await target.delete(stored.address)
                raise ContentDamagedError(entry.address, source.backend_id, stored.address)
            report = CopyReport(
                report.copied + 1, report.present, report.bytes_copied + stored.size
            )
        if on_progress is not None:
            on_progress(report)
    return report
