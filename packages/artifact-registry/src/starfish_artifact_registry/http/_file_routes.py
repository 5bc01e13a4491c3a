"""``/files/{id}``: the bytes of one file, whole or in part."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from starfish_artifact_registry.errors import FileNotFoundInRegistryError
from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._registration import ETAG, add_get
from starfish_artifact_registry.http._streamed_response import StreamedResponse
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._files import FileRecord
from starfish_http.entity_tags import etag_of, is_not_modified
from starfish_http.ranges import range_of

__all__ = ("add_file_routes",)

_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]")
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def add_file_routes(
    router: APIRouter, registry: Registry, access: AccessControl, limits: HttpLimits
) -> None:
    """Add the way to the bytes of a file."""

    async def get_file(
        request: Request,
        file_id: Annotated[UUID, Path(description="Id of the file.")],
    ) -> Response:
        """The bytes of a file, all of them checked against its hash, or one range unchecked."""
        access_to = await access.identify(request, "read")
        file = await registry.find_file(file_id)
        if not await access.allows(replace(access_to, package_id=file.package_id)):
            # The same answer as for a file that is not there: an id must not be probed.
            raise FileNotFoundInRegistryError(file_id)
        tag = etag_of(str(file.content_address))
        headers = _headers(file, tag.decode())
        if is_not_modified(request.scope, tag):
            return Response(status_code=304, headers=headers)
        part = range_of(request.scope, file.size, tag)
        start, end = (0, file.size) if part is None else (part.start, part.end)
        headers["content-length"] = str(end - start)
        if part is not None:
            headers["content-range"] = part.content_range(file.size)
        status = 200 if part is None else 206
        if request.method == "HEAD":
            headers["content-type"] = file.media_type
            return Response(status_code=status, headers=headers)
        chunks = (
            await registry.read_verified(file)
            if part is None
            else await registry.get_file(file_id, start=start, end=end)
        )
        return StreamedResponse(
            await _begun(chunks),
            status=status,
            media_type=file.media_type,
            headers=headers,
            unread_timeout_s=limits.unread_timeout_s,
        )

    add_get(
        router,
        "/files/{file_id}",
        get_file,
        route_class=route_class(limits, max_body_bytes=limits.max_json_bytes),
        operation_id="get_file",
        responses={
            **error_responses(404, 416),
            200: {
                "description": "All of it.",
                "headers": {"ETag": ETAG, "Accept-Ranges": {"schema": {"type": "string"}}},
                "content": _BYTES,
            },
            206: {"description": "The range.", "headers": {"ETag": ETAG}, "content": _BYTES},
            304: {"description": "The client has these bytes already."},
        },
    )


def _headers(file: FileRecord, tag: str) -> dict[str, str]:
    name = file.relative_path.rpartition("/")[2]
    plain = _UNSAFE.sub("_", name)
    return {
        "etag": tag,
        "accept-ranges": "bytes",
        # What somebody uploaded must not run as a page of this service's origin.
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
    }


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same chunks, the first one read: missing content is an error, not a broken answer."""
    first = await anext(chunks, b"")

    async def rest() -> AsyncGenerator[bytes]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    return rest()
