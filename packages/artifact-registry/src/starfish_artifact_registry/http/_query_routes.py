"""``GET /packages``: find packages and what they hold."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from starfish_artifact_registry.errors import InvalidQueryError
from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.model._json_form import json_form
from starfish_artifact_registry.model._moment import from_ms
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._query import MAX_PAGE

__all__ = ("add_query_routes",)

_PackageId = Annotated[UUID, Path(description="Id of the package.")]
_Text = Annotated[str | None, Query(max_length=1024)]
_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
_LAST_MS = 253_402_300_799_999  # the end of the year 9999
_Moment = Annotated[
    int | None, Query(ge=0, le=_LAST_MS, description="Milliseconds since the epoch.")
]
_Address = Annotated[str, Field(pattern="^(blake3|sha256):[0-9a-f]{64}$")]


class HoldBody(BaseModel):
    """A hold that is in force."""

    hold_id: UUID
    reason: str
    actor: str
    sequence: int


class PackageBody(BaseModel):
    """A package as it is now; times are milliseconds since the epoch."""

    package_id: UUID
    name: str
    producer: str
    subject: str
    retention_class: str
    status: Literal["created", "finalized", "expired", "deleted"]
    metadata: dict[str, Any]
    file_count: int
    total_bytes: int
    manifest_digest: _Address | None
    created_at: int
    created_by: str
    finalized_at: int | None
    finalized_by: str | None
    last_event_sequence: int
    retain_until: int | None
    holds: list[HoldBody]
    expired_at: int | None
    deleted_at: int | None


class FileBody(BaseModel):
    """A file of a package."""

    file_id: UUID
    package_id: UUID
    relative_path: str
    media_type: str
    size: int
    content_address: _Address
    sha256: _Address
    ingested_at: int
    ingested_by: str


class PackagePage(BaseModel):
    """Some packages, oldest first."""

    packages: list[PackageBody]
    next: UUID | None = Field(description="`after` of the next page; null where there is none.")


class FilePage(BaseModel):
    """Some files of a package, by path."""

    files: list[FileBody]
    next: str | None = Field(description="`after` of the next page; null where there is none.")


def add_query_routes(
    router: APIRouter, registry: Registry, access: AccessControl, limits: HttpLimits
) -> None:
    """Add what reads about packages."""

    async def list_packages(
        request: Request,
        *,
        name: _Text = None,
        producer: _Text = None,
        subject: _Text = None,
        status: Literal["created", "finalized", "expired", "deleted"] | None = None,
        retention_class: _Text = None,
        created_after: _Moment = None,
        created_before: _Moment = None,
        metadata: Annotated[
            str | None,
            Query(max_length=4096, description="A JSON object: members that its metadata has."),
        ] = None,
        after: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
        limit: _Limit = 100,
    ) -> JSONResponse:
        """Packages for which every given parameter is true, oldest first."""
        await access.admit(request, "list")
        found = await registry.list_packages(
            name=name,
            producer=producer,
            subject=subject,
            status=status,
            retention_class=retention_class,
            created_after=None if created_after is None else from_ms(created_after),
            created_before=None if created_before is None else from_ms(created_before),
            metadata=_metadata(metadata),
            after=after,
            limit=limit,
        )
        last = found[-1].package_id if len(found) == limit else None
        return JSONResponse({"packages": json_form(found), "next": json_form(last)})

    async def get_package(request: Request, package_id: _PackageId) -> JSONResponse:
        """Everything about one package, deleted ones included."""
        await access.admit(request, "read", package_id)
        return JSONResponse(json_form(await registry.get_package(package_id)))

    async def list_files(
        request: Request,
        package_id: _PackageId,
        after: Annotated[
            str | None, Query(max_length=4096, description="`next` of the page before.")
        ] = None,
        limit: _Limit = 100,
    ) -> JSONResponse:
        """The files of a package, by path; of a deleted one there are none."""
        await access.admit(request, "read", package_id)
        await registry.get_package(package_id)
        found = await registry.list_files(package_id, after=after, limit=limit)
        last = found[-1].relative_path if len(found) == limit else None
        return JSONResponse({"files": json_form(found), "next": last})

    small = route_class(limits, max_body_bytes=limits.max_json_bytes)
    for path, endpoint, model, statuses in (
        ("/packages", list_packages, PackagePage, (400,)),
        ("/packages/{package_id}", get_package, PackageBody, (404,)),
        ("/packages/{package_id}/files", list_files, FilePage, (400, 404)),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_model=model,
            operation_id=endpoint.__name__,
            responses=error_responses(*statuses),
            route_class_override=small,
        )


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidQueryError(f"metadata is {text!r:.200}; it must be a JSON object")
    return cast("dict[str, Any]", value)
