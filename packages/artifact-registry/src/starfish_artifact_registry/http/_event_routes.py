"""``/events``: the log as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._event_stream import event_stream
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._refusals import RequestRefusedError
from starfish_artifact_registry.http._streamed_response import StreamedResponse
from starfish_artifact_registry.registry import Registry

__all__ = ("add_event_routes",)

_MAX_SEQUENCE = 2**53 - 1


def add_event_routes(
    router: APIRouter,
    registry: Registry,
    access: AccessControl,
    limits: HttpLimits,
    closing: asyncio.Event | None,
) -> None:
    """Add the stream of events."""
    open_streams = 0

    async def counted(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        nonlocal open_streams
        open_streams += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            open_streams -= 1
            await chunks.aclose()

    async def get_events(
        request: Request,
        since: Annotated[
            int,
            Query(ge=0, le=_MAX_SEQUENCE, description="Sequence of the last event that is known."),
        ] = 0,
        last_event_id: Annotated[
            str | None,
            Header(
                pattern="^[0-9]{1,16}$",
                description="What a reconnecting client had last; goes before `since`.",
            ),
        ] = None,
    ) -> Response:
        """The log from a place on, then each event as soon as it is there."""
        await access.admit(request, "events")
        if open_streams >= limits.max_event_streams:
            raise RequestRefusedError(
                503,
                "too_many_streams",
                f"{limits.max_event_streams} event streams are open already",
                headers={"retry-after": "5"},
            )
        after = since if last_event_id is None else int(last_event_id)
        stream = event_stream(
            registry.tail_events(since_sequence=after),
            heartbeat_s=limits.heartbeat_s,
            lifetime_s=limits.event_stream_s,
            closing=closing,
        )
        return StreamedResponse(
            counted(stream),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            unread_timeout_s=limits.unread_timeout_s,
        )

    router.add_api_route(
        "/events",
        get_events,
        methods=["GET"],
        response_class=Response,
        operation_id="get_events",
        responses={
            **error_responses(400),
            200: {
                "description": "Server-sent events; `id` is the sequence, `data` the event as JSON.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
        },
        route_class_override=route_class(limits, max_body_bytes=limits.max_json_bytes),
    )
