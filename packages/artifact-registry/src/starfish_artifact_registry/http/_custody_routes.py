"""Verification, proof and retention of one package."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from starfish_artifact_registry.errors import PackageNotFoundError
from starfish_artifact_registry.http._access import AccessControl, refused
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.model._json_form import json_form
from starfish_artifact_registry.registry import Registry

__all__ = ("add_custody_routes",)

_PackageId = Annotated[UUID, Path(description="Id of the package.")]


class Because(BaseModel):
    """Why something is done; stands in the log."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=1024)


class FixityBody(BaseModel):
    """The finding; the same stands in the log."""

    package_id: UUID
    ok: bool
    files_checked: int
    bytes_checked: int
    missing: list[str]
    changed: list[str]


class HoldPlaced(BaseModel):
    """The hold is in force."""

    package_id: UUID
    hold_id: UUID


def add_custody_routes(
    router: APIRouter, registry: Registry, access: AccessControl, limits: HttpLimits
) -> None:
    """Add them."""

    async def verify_package(request: Request, package_id: _PackageId) -> JSONResponse:
        """Hash all stored bytes of a package again; answers when it is done."""
        actor = await access.admit(request, "verify", package_id)
        report = await registry.verify_package(package_id, actor=actor)
        return JSONResponse({**json_form(report), "ok": report.ok})

    async def get_proof(request: Request, package_id: _PackageId) -> Response:
        """A file that proves what the package holds, without this service."""
        await access.admit(request, "prove", package_id)
        proof = await registry.export_proof(package_id)
        return Response(proof, media_type="application/cbor")

    async def hold_package(
        request: Request, package_id: _PackageId, because: Because
    ) -> JSONResponse:
        """Forbid that the package goes, whatever its date."""
        actor = await access.admit(request, "hold", package_id)
        hold_id = await registry.hold_package(package_id, reason=because.reason, actor=actor)
        return JSONResponse({"package_id": str(package_id), "hold_id": str(hold_id)}, 201)

    async def release_hold(
        request: Request, package_id: _PackageId, hold_id: UUID, because: Because
    ) -> Response:
        """Lift a hold."""
        wanted = await access.identify(request, "release", package_id)
        if not await access.allows(wanted):
            own = await _is_holder(registry, package_id, hold_id, wanted.actor)
            if not await access.allows(replace(wanted, is_own_hold=own)):
                raise refused(wanted)
        actor = wanted.actor
        await registry.release_hold(package_id, hold_id, reason=because.reason, actor=actor)
        return Response(status_code=204)

    async def expire_package(request: Request, package_id: _PackageId) -> Response:
        """Say in the log that the package is past its retention date."""
        actor = await access.admit(request, "expire", package_id)
        await registry.expire_package(package_id, actor=actor)
        return Response(status_code=204)

    async def delete_package(
        request: Request, package_id: _PackageId, because: Because
    ) -> Response:
        """Make the package a tombstone."""
        actor = await access.admit(request, "delete", package_id)
        await registry.delete_package(package_id, reason=because.reason, actor=actor)
        return Response(status_code=204)

    package = "/packages/{package_id}"
    routes: tuple[tuple[str, str, Any, dict[str, Any]], ...] = (
        ("POST", f"{package}/verify", verify_package, {"response_model": FixityBody}),
        ("GET", f"{package}/proof", get_proof, {"response_class": Response}),
        ("POST", f"{package}/holds", hold_package, {"response_model": HoldPlaced, "status_code": 201}),
        ("POST", f"{package}/holds/{{hold_id}}/release", release_hold, {"status_code": 204}),
        ("POST", f"{package}/expire", expire_package, {"status_code": 204}),
        ("POST", f"{package}/delete", delete_package, {"status_code": 204}),
    )  # fmt: skip
    for method, path, endpoint, description in routes:
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            operation_id=endpoint.__name__,
            responses={
                **error_responses(400, 404, 408, 409, 413),
                **(_PROOF if endpoint is get_proof else {}),
            },
            route_class_override=route_class(limits, max_body_bytes=limits.max_json_bytes),
            **description,
        )


async def _is_holder(registry: Registry, package_id: UUID, hold_id: UUID, actor: str) -> bool:
    try:
        package = await registry.get_package(package_id)
    except PackageNotFoundError:
        return False
    return any(hold.hold_id == hold_id and hold.actor == actor for hold in package.holds)


_PROOF: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The proof.",
        "content": {"application/cbor": {"schema": {"type": "string", "format": "binary"}}},
    }
}
