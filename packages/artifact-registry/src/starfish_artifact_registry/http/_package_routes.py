"""``/packages``: create, fill, finalize, find."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._content_digests import expected_digests
from starfish_artifact_registry.http._content_negotiation import best_media_type
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._paths import RELATIVE_PATH, check_path_encoding
from starfish_artifact_registry.http._registration import ETAG, LOCATION, add_get, router_prefix
from starfish_artifact_registry.registry import Registry
from starfish_http.entity_tags import etag_of, is_not_modified
from starfish_http.errors import RequestRefusedError
from starfish_protocol.address import ContentAddress

__all__ = ("add_package_routes",)

_MANIFEST_FORMS: dict[str, Literal["json", "cbor"]] = {
    "application/json": "json",
    "application/cbor": "cbor",
}
_DEFAULT_MEDIA_TYPE = "application/octet-stream"
_Text = Annotated[str, Field(min_length=1, max_length=1024)]
PackageId = Annotated[UUID, Path(description="Id of the package.")]


class NewPackage(BaseModel):
    """What a package is, before it holds anything."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Text = Field(description="What its producer calls it.")
    producer: _Text = Field(description="Who or what makes the files.")
    subject: _Text = Field(description="What they are about.")
    retention_class: _Text = Field(description="How long it must be kept.")
    metadata: dict[str, Any] | None = Field(None, description="Anything else, as JSON.")


class PackageCreatedAnswer(BaseModel):
    """The package is in the log."""

    package_id: UUID


class FileIngestedAnswer(BaseModel):
    """The file's bytes and its event are on disk."""

    file_id: UUID
    package_id: UUID
    relative_path: str


class PackageFinalizedAnswer(BaseModel):
    """The package is closed for ever."""

    package_id: UUID
    manifest_digest: str = Field(description="BLAKE3 of the manifest as CBOR.")


def add_package_routes(
    router: APIRouter, registry: Registry, access: AccessControl, limits: HttpLimits
) -> None:
    """Add what changes packages, and their manifests."""
    small = route_class(limits, max_body_bytes=limits.max_json_bytes)
    large = route_class(limits, max_body_bytes=limits.max_file_bytes)

    async def create_package(
        request: Request, response: Response, package: NewPackage
    ) -> PackageCreatedAnswer:
        """Open a new package; it is in the log when this answers."""
        path = "/packages"
        actor = await access.admit(request, "create")
        package_id = await registry.create_package(
            name=package.name,
            producer=package.producer,
            subject=package.subject,
            retention_class=package.retention_class,
            metadata=package.metadata,
            actor=actor,
        )
        response.headers["location"] = f"{router_prefix(request, path)}{path}/{package_id}"
        return PackageCreatedAnswer(package_id=package_id)

    async def ingest_file(
        request: Request,
        package_id: PackageId,
        relative_path: str,
        digest: Annotated[
            str | None,
            Query(max_length=200, description="`sha256:…` or `blake3:…` that the bytes must have."),
        ] = None,
    ) -> JSONResponse:
        """Add a file. The body is its bytes, stored while they arrive; all of them or none."""
        actor = await access.admit(request, "ingest", package_id)
        check_path_encoding(request, relative_path)
        if "content-range" in request.headers:
            raise RequestRefusedError(
                400, "partial_content", "a part of a file is refused; send all of its bytes"
            )
        expected = expected_digests(request, digest)
        async with contextlib.aclosing(request.stream()) as stream:
            file_id = await registry.ingest_file(
                package_id,
                relative_path=relative_path,
                media_type=request.headers.get("content-type") or _DEFAULT_MEDIA_TYPE,
                stream=stream,
                actor=actor,
                expected=expected,
            )
        path = f"/packages/{request.path_params['package_id']}/files/{relative_path}"
        return JSONResponse(
            {
                "file_id": str(file_id),
                "package_id": str(package_id),
                "relative_path": relative_path,
            },
            201,
            {"location": f"{router_prefix(request, path)}/files/{file_id}"},
        )

    async def finalize_package(request: Request, package_id: PackageId) -> PackageFinalizedAnswer:
        """Close a package for ever: its manifest is in the log when this answers."""
        actor = await access.admit(request, "finalize", package_id)
        digest = await registry.finalize_package(package_id, actor=actor)
        return PackageFinalizedAnswer(package_id=package_id, manifest_digest=str(digest))

    async def get_manifest(
        request: Request,
        package_id: PackageId,
        accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        """The manifest of a finalized package, byte for byte."""
        await access.admit(request, "read", package_id)
        media_type = best_media_type(accept, list(_MANIFEST_FORMS))
        if media_type is None:
            raise RequestRefusedError(
                406, "not_acceptable", f"a manifest is {' or '.join(_MANIFEST_FORMS)}"
            )
        content = await registry.get_manifest_bytes(package_id, _MANIFEST_FORMS[media_type])
        tag = etag_of(str(ContentAddress.of(content)))
        headers = {"etag": tag.decode(), "vary": "Accept", "x-content-type-options": "nosniff"}
        if is_not_modified(request.scope, tag):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    package_path = "/packages/{package_id}"
    router.add_api_route(
        "/packages",
        create_package,
        methods=["POST"],
        status_code=201,
        operation_id="create_package",
        responses={
            **error_responses(400, 408, 413),
            201: {"headers": {"Location": LOCATION}},
        },
        route_class_override=small,
    )
    router.add_api_route(
        f"{package_path}/files/{{relative_path:{RELATIVE_PATH}}}",
        ingest_file,
        methods=["PUT"],
        status_code=201,
        response_model=FileIngestedAnswer,
        operation_id="ingest_file",
        responses={
            **error_responses(400, 404, 408, 409, 413, 507),
            201: {"headers": {"Location": LOCATION}},
        },
        openapi_extra={
            "requestBody": {
                "description": "The bytes of the file; `Content-Type` is kept with it.",
                "content": {"application/octet-stream": {"schema": {}}},
            }
        },
        route_class_override=large,
    )
    router.add_api_route(
        f"{package_path}/finalize",
        finalize_package,
        methods=["POST"],
        operation_id="finalize_package",
        responses=error_responses(404, 409),
        route_class_override=small,
    )
    add_get(
        router,
        f"{package_path}/manifest",
        get_manifest,
        route_class=small,
        operation_id="get_manifest",
        responses={
            **error_responses(404, 406, 409),
            200: {
                "headers": {"ETag": ETAG},
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "application/cbor": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            304: {"description": "The client has these bytes already."},
        },
    )
