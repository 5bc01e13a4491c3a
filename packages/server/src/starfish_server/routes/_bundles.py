"""``/pull`` of a bundle: several collections with one path in one answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson

from starfish_http.answers import Answer, Headers, raw_json_answer
from starfish_http.callers.capabilities import CapabilityCaller
from starfish_http.entity_tags import etag_of, is_not_modified
from starfish_http.errors import AuthError, HttpError
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.errors import ServerError
from starfish_server.requests._error_responses import answer_to
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection, check_params
from starfish_server.routes._keyrings import read_snapshot
from starfish_server.storage.base import StoreContext

__all__ = ("bundle_pull_handler",)


def bundle_pull_handler(members: Sequence[ServedCollection]) -> Handler:
    """``GET /pull/<path>`` of the collections of one bundle.

    Members that the caller may not read are left out; a caller who may read none is refused, unless
    a certificate reaches the path of the bundle itself.
    """

    async def pull(request: RequestContext) -> Answer:
        path = request.rest
        check_params(path, request.params)
        readable = await _readable(request, members)
        parts: list[bytes] = []
        digest = hashlib.sha256()
        for member, context in readable:
            answered = await request.plugins_answer(context)
            if answered is not None:
                raise RequestRefusedError(
                    502, "a plugin answers for a member of a bundle", collection=member.name
                )
            key = f"{path}/{member.name}"
            try:
                snapshot = await read_snapshot(request, member, key, context)
                view = await request.services.views.of(member, key, snapshot, context)
            except DamagedDocumentError as error:
                damaged = answer_to(error).body
                digest.update(member.name.encode() + b"\0" + damaged + b"\0")
                parts.append(b"%b:%b" % (orjson.dumps(member.name), damaged))
                continue
            digest.update(member.name.encode() + b"\0" + view.etag + b"\0")
            parts.append(
                b'%b:{"data":%b,"hash":"%b"%b}'
                % (orjson.dumps(member.name), view.data_json, view.hash.encode(), view.author)
            )
        etag = etag_of(digest.hexdigest())
        headers: Headers = [(b"etag", etag)]
        if is_not_modified(request.scope, etag):
            return Answer(304, b"", headers)
        now = request.services.clock.now_ms()
        body = b'{"collections":{%b},"timestamp":%d}' % (b",".join(parts), now if parts else 0)
        return raw_json_answer(body, headers)

    return pull


async def _readable(
    request: RequestContext, members: Sequence[ServedCollection]
) -> list[tuple[ServedCollection, StoreContext]]:
    """The members that the caller may read.

    Raises:
        AuthError: there are none, and no certificate reaches the path of the bundle.
        RequestRefusedError: likewise, or nobody can tell.
    """
    path = request.rest
    caller = await request.caller()
    readable: list[tuple[ServedCollection, StoreContext]] = []
    refusal: ServerError | HttpError | None = None
    for member in members:
        try:
            key = f"{path}/{member.name}"
            context = await request.authorize(member, key, request.params, "pull")
        except (AuthError, RequestRefusedError) as error:
            if isinstance(error, RequestRefusedError) and error.status >= 500:
                raise
            refusal = refusal or error
            continue
        await request.count(caller, member, "pull")
        readable.append((member, context))
    if not readable and refusal is not None:
        reached = (await request.caller()).auth
        if not (isinstance(reached, CapabilityCaller) and reached.allows("pull", path)):
            raise refusal
        await request.use_credential()
    return readable
