"""``/health``, ``/ready`` and ``/config``: the answers about the server itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

from starfish_http.answers import Answer, json_answer
from starfish_server.config.schema import CollectionConfig, ConfigEndpointOptions
from starfish_server.errors import StoreError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection

__all__ = ("config_handler", "health_handler", "ready_handler")

_LOG = logging.getLogger(__name__)
_STORE_ANSWERS_WITHIN_S = 5.0


async def health_handler(request: RequestContext) -> Answer:
    """``GET /health``: the process answers."""
    return json_answer(200, {"ok": True, "ts": request.services.clock.now_ms()})


async def ready_handler(request: RequestContext) -> Answer:
    """``GET /ready``: the store answers, so that requests can be sent here."""
    now = request.services.clock.now_ms()
    try:
        async with asyncio.timeout(_STORE_ANSWERS_WITHIN_S):
            await request.services.store.ping()
    except (StoreError, TimeoutError) as error:
        _LOG.warning("not ready: %s", error)
        return json_answer(503, {"ok": False, "ts": now}, [(b"retry-after", b"1")])
    return json_answer(200, {"ok": True, "ts": now})


def config_handler(members: Sequence[ServedCollection], options: ConfigEndpointOptions) -> Handler:
    """``GET /config``: the collections of one namespace, as far as the caller may know them."""

    async def config(request: RequestContext) -> Answer:
        shown = members
        if options.auth == "role-filtered":
            await request.use_credential()
            caller = await request.caller()
            roles = set(caller.auth.roles)
            known = caller.auth.identity is not None
            shown = [m for m in members if _may_use(m, roles, known=known)]
        return json_answer(200, {"collections": [_description(m.config) for m in shown]})

    return config


def _may_use(collection: ServedCollection, roles: Collection[str], *, known: bool) -> bool:
    """Whether a caller may read or write at least some document of a collection."""
    wanted = collection.read_roles | collection.write_roles
    return "public" in wanted or ("self" in wanted and known) or bool(wanted.intersection(roles))


def _description(config: CollectionConfig) -> dict[str, Any]:
    description: dict[str, Any] = {
        "name": config.name,
        "maxBodyBytes": config.max_body_bytes,
        "encryption": config.encryption,
        "allowedMimeTypes": config.allowed_mime_types,
    }
    optional = {
        "pullOnly": config.pull_only,
        "pushOnly": config.push_only,
        "appendOnly": (
            None
            if config.append_only is None
            else config.append_only.model_dump(by_alias=True, exclude_none=True)
        ),
        "ttlMs": config.ttl_ms,
        "forceFullFetch": config.force_full_fetch,
        "deletable": config.deletable,
    }
    return description | {name: value for name, value in optional.items() if value is not None}
