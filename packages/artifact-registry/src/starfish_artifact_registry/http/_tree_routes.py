"""``/tiles``: the log as a transparency log that monitors and witnesses read (C2SP ``tlog-tiles``).

Below the prefix ``/tiles`` stand ``checkpoint``, ``tile/<level>/<position>`` and
``tile/entries/<position>``; a position is cut into groups of three digits, ``x001/234``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response

from starfish_artifact_registry.errors import InvalidValueError
from starfish_artifact_registry.http._access import AccessControl
from starfish_artifact_registry.http._error_responses import error_responses, route_class
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.model._signed_note import sign_note
from starfish_artifact_registry.registry import Registry
from starfish_http.errors import RequestRefusedError

__all__ = ("NoteSigner", "add_tree_routes")

_TILE: Final = re.compile(
    r"(entries|[0-7])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)
_WIDTH: Final = 256
_FOR_EVER: Final = {"cache-control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """Who signs the heads of the tree that are served.

    Examples:
        >>> NoteSigner("example.org/log", "00" * 32)
        NoteSigner(name='example.org/log')
    """

    name: str
    """Name of the key, and origin of the log."""
    private_key: str
    """Ed25519 seed (RFC 8032), 64 lowercase hex digits."""

    def __repr__(self) -> str:
        """Without the key."""
        return f"NoteSigner(name={self.name!r})"


def add_tree_routes(
    router: APIRouter,
    registry: Registry,
    access: AccessControl,
    limits: HttpLimits,
    signer: NoteSigner | None,
) -> None:
    """Add the tree of the log; its signed head where there is somebody to sign it."""

    async def get_checkpoint(request: Request) -> Response:
        """The head of the tree as a signed note (C2SP `tlog-checkpoint`)."""
        await access.admit(request, "events")
        assert signer is not None  # noqa: S101  the route is not there without
        head = await registry.tree_head(signer.name)
        note = sign_note(head.text(), name=signer.name, private_key=signer.private_key)
        headers = {"cache-control": "no-cache"}
        return Response(note.encode(), media_type="text/plain; charset=utf-8", headers=headers)

    async def get_tile(request: Request, path: str) -> Response:
        """A tile of the tree, or the records below one; it never changes once it is there."""
        await access.admit(request, "events")
        match = _TILE.fullmatch(path)
        if match is None:
            raise _no_tile(path)
        position = int(match[2].replace("x", "").replace("/", ""))
        wanted = _WIDTH if match[3] is None else int(match[3])
        try:
            if match[1] == "entries":
                _, parts = await registry.read_entries(position)
                parts = [len(part).to_bytes(2) + part for part in parts]
            else:
                _, parts = await registry.read_tile(int(match[1]), position)
        except InvalidValueError:
            parts = []
        if not len(parts) >= wanted or not (wanted < _WIDTH or match[3] is None):
            raise _no_tile(path)
        return Response(
            b"".join(parts[:wanted]), media_type="application/octet-stream", headers=_FOR_EVER
        )

    small = route_class(limits, max_body_bytes=limits.max_json_bytes)
    if signer is not None:
        router.add_api_route(
            "/tiles/checkpoint",
            get_checkpoint,
            methods=["GET"],
            response_class=Response,
            operation_id="get_checkpoint",
            responses={
                200: {"description": "A signed note.", "content": {"text/plain": {}}},
            },
            route_class_override=small,
        )
    router.add_api_route(
        "/tiles/tile/{path:path}",
        get_tile,
        methods=["GET"],
        response_class=Response,
        operation_id="get_tile",
        responses={
            **error_responses(404),
            200: {
                "description": "Hashes of 32 bytes, or records each behind its length in two bytes.",
                "content": {"application/octet-stream": {}},
            },
        },
        route_class_override=small,
    )


def _no_tile(path: str) -> RequestRefusedError:
    return RequestRefusedError(
        404, "tile_not_found", f"the tree has no tile {path!r:.120}, or not so much of it yet"
    )
