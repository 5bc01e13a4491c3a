"""A registry in the console of a service: packages, their files and events, a check while one watches, a proof dropped on the page.

Needs the extra ``http``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._query import PackageRecord

try:
    from starlette.routing import Router

    from starfish_http.components import (
        Component,
        Facts,
        Link,
        MaySee,
        Page,
        PageRequest,
        Section,
        Table,
        check_sight,
    )
    from starfish_http.errors import RequestRefusedError
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed in tests
    if error.name not in {"starfish_http", "starlette"}:
        raise
    raise ImportError(
        "starfish_artifact_registry.console needs the extra http: "
        'pip install --find-links dist "starfish-artifact-registry[http]"'
    ) from error

__all__ = ("console_component",)

_PAGE = 50
_EVENTS = 200


def console_component(
    registry: Registry,
    *,
    may_see: MaySee,
    router: Router | None = None,
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> Component:
    """A registry as a part of a service: its pages in the console, and its routes where they are given.

    Args:
        registry: to be looked at; a check of content is the one thing that is written, as an event.
        may_see: who may look at every package.
        router: of `starfish_artifact_registry.http.create_registry_router`, served below ``/evidence``.
        prepare: done before the service starts, such as ``create_schema``.
    """
    pages = _Pages(registry, may_see)

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        if prepare is not None:
            await prepare()
        yield

    return Component(
        "evidence",
        "Evidence",
        pages=[
            Page("packages", "Packages", pages.packages),
            Page("package", "Package", pages.package, is_in_menu=False),
            Page("check", "Check of the content", pages.check, is_in_menu=False),
            Page("log", "Log", pages.log),
            Page("proof", "Check a proof", pages.proof, takes_file="a proof"),
        ],
        health=pages.health,
        router=router,
        running=running,
    )


class _Pages:
    def __init__(self, registry: Registry, may_see: MaySee) -> None:
        self._registry = registry
        self._may_see = may_see

    async def packages(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        after = request.query.get("after")
        found = await self._registry.list_packages(
            after=None if after is None else _package_id(after), limit=_PAGE
        )
        last = found[-1].package_id if len(found) == _PAGE else None
        return [
            Table(
                "Packages, oldest first",
                ["package", "producer", "subject", "state", "files", "bytes"],
                [
                    [
                        Link(each.name, "package", {"id": str(each.package_id)}),
                        each.producer,
                        each.subject,
                        each.status,
                        each.file_count,
                        each.total_bytes,
                    ]
                    for each in found
                ],
                more=None
                if last is None
                else Link("Later packages", "packages", {"after": str(last)}),
                empty="There are no further packages." if after else "There is no package yet.",
            )
        ]

    async def package(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        package = await self._found(request)
        files = await self._registry.list_files(
            package.package_id, after=request.query.get("after"), limit=_PAGE
        )
        events = await self._registry.event_source.read(
            0, _EVENTS, entity=f"package:{package.package_id}"
        )
        address = {"id": str(package.package_id)}
        more = {**address, "after": files[-1].relative_path} if len(files) == _PAGE else None
        return [
            Facts(
                package.name,
                [
                    ("state", package.status),
                    ("producer", package.producer),
                    ("subject", package.subject),
                    ("manifest", str(package.manifest_digest) if package.manifest_digest else None),
                    ("kept until", _moment(package.retain_until)),
                    ("holds", len(package.holds)),
                    ("content", Link("check every byte now", "check", address)),
                ],
            ),
            Table(
                "Files",
                ["path", "type", "bytes", "address"],
                [[f.relative_path, f.media_type, f.size, str(f.content_address)] for f in files],
                more=None if more is None else Link("Further files", "package", more),
                empty="There is no file in it.",
            ),
            Table(
                "Events",
                ["number", "time", "event", "by"],
                [[e.sequence, _moment(e.created_at), e.event_type, e.actor] for e in events],
            ),
        ]

    async def check(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        package = await self._found(request)
        report = await self._registry.verify_package(
            package.package_id, actor=request.caller.identity or "console"
        )
        return [
            Facts(
                package.name,
                [
                    ("result", "every byte is as it was" if report.ok else "damaged"),
                    ("files", report.files_checked),
                    ("bytes", report.bytes_checked),
                    ("package", Link("back", "package", {"id": str(package.package_id)})),
                ],
            ),
            *(
                Table(title, ["path"], [[path] for path in paths])
                for title, paths in (("Missing", report.missing), ("Changed", report.changed))
                if paths
            ),
        ]

    async def log(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        report = await self._registry.verify_log()
        return [
            Facts(
                "The log, walked from its first event",
                [
                    (
                        "result",
                        "every event is as it was written" if report.ok else str(report.damage),
                    ),
                    ("events", report.head_sequence),
                    ("digest of the last", report.head_digest.hex()),
                ],
            )
        ]

    async def proof(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        if request.file is None:
            return []
        try:
            proof = await asyncio.to_thread(verify_proof, request.file)
        except RegistryError as error:
            raise RequestRefusedError(400, "not_proved", f"This proves nothing: {error}") from error
        return [
            Facts(
                "The proof agrees with itself",
                [
                    ("package", str(proof.package_id)),
                    ("manifest", str(proof.manifest_digest)),
                    ("events of the log", proof.head_sequence),
                    ("root of the tree", proof.root_hash.hex()),
                ],
            ),
            Table(
                "Files that it names",
                ["path", "bytes", "address"],
                [[f.relative_path, f.size, str(f.content_address)] for f in proof.manifest.files],
            ),
        ]

    async def health(self) -> Mapping[str, Any]:
        return {"ok": True, "events": await self._registry.event_source.last_sequence()}

    async def _found(self, request: PageRequest) -> PackageRecord:
        package_id = _package_id(request.query.get("id", ""))
        try:
            return await self._registry.get_package(package_id)
        except RegistryError as error:
            raise RequestRefusedError(404, "not_found", "There is no such package.") from error


def _package_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RequestRefusedError(404, "not_found", "There is no such package.") from None


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(" ", "seconds")
