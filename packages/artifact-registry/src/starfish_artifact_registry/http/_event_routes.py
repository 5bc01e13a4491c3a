"""``/events``: the log as it grows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._event_form import event_form
from starfish_artifact_registry.registry import Registry
from starfish_http.events import EventStream, StreamBudget, format_event

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
    budget = StreamBudget(total=limits.max_event_streams, per_caller=limits.max_event_streams + 1)

    async def counted(
        request: Request, actor: str, events: AsyncGenerator[Event]
    ) -> AsyncGenerator[bytes]:
        looked_at = asyncio.get_running_loop().time()
        with budget.enter(actor):
            async with contextlib.aclosing(events):
                async for event in events:
                    now = asyncio.get_running_loop().time()
                    if now - looked_at >= limits.heartbeat_s:
                        looked_at = now
                        if not await access.is_current(request):
                            return
                    yield format_event(
                        json.dumps(event_form(event), separators=(",", ":")),
                        event=event.event_type,
                        id_=str(event.sequence),
                    )

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
        actor = await access.admit(request, "events")
        with budget.enter(actor):
            pass  # refused now, where an answer can still say so
        after = since if last_event_id is None else int(last_event_id)
        return _Streamed(
            EventStream(
                counted(request, actor, registry.tail_events(since_sequence=after)),
                heartbeat_s=limits.heartbeat_s,
                lifetime_s=limits.event_stream_s,
                unread_s=limits.unread_timeout_s,
                stopping=closing,
            )
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


class _Streamed(Response):
    """An event stream, as FastAPI takes one from a route."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(media_type="text/event-stream")
        self._stream = stream

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, send)
