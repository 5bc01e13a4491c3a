"""The calls of the wire as routes of FastAPI; see docs/mpack-wire.md.

Rule: every route under a repository goes through `_Wire.repo_for`, which knows the one read rule, before it looks at anything else
of the request but its rate.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from starfish_http.addresses import client_address_of
from starfish_http.callers.capabilities import SIGNED_BODY, SignedBody
from starfish_http.errors import RequestRefusedError
from starfish_http.ranges import requested_range
from starfish_http.rate_limit import Counter, Limit, RateLimiter
from starfish_http.request_body import RequestBody
from starfish_mpack_wire._messages import (
    BlobsRequest,
    FetchRequest,
    PresignRequest,
    UnpackRequest,
    UploadPart,
    encode_message,
)
from starfish_mpack_wire._model.object_ids import is_object_id
from starfish_mpack_wire.errors import InvalidMessageError, MPackError
from starfish_mpack_wire.server._answers import answer, error_answer, refusal_response
from starfish_mpack_wire.server._fetch_service import FetchService
from starfish_mpack_wire.server._options import Action, WireOptions
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._push_service import PushService
from starfish_mpack_wire.server._repos import Repo, Repos, url_key
from starfish_mpack_wire.server._signed_urls import UrlSigner
from starfish_mpack_wire.server._uploads import Uploads
from starfish_mpack_wire.server.errors import ForbiddenError, RepoNotFoundError

__all__ = ("create_wire_router",)

_UPLOAD = "PUT"
_DOWNLOAD = "GET"


def create_wire_router(options: WireOptions) -> APIRouter:
    """The routes of a server; mount them where repositories are to be found.

    The router holds no state that matters: several processes may serve the same rows and bytes.
    Nothing is read or connected to before the first request.
    """
    wire = _Wire(options)
    router = APIRouter()
    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("POST", "/{owner}/{slug}/fetch", wire.fetch),
        ("POST", "/{owner}/{slug}/blobs", wire.blobs),
        ("GET", "/{owner}/{slug}/refs", wire.refs),
        ("POST", "/{owner}/{slug}/push/presign", wire.presign),
        ("POST", "/{owner}/{slug}/push/unpack", wire.unpack),
        ("PUT", "/{owner}/{slug}/uploads/{mpack_id}", wire.upload),
        ("GET", "/{owner}/{slug}/packs/{mpack_id}", wire.pack),
    ]
    for method, path, handle in routes:
        name = path.rpartition("/")[2] if "{mpack_id}" not in path else path.split("/")[3]
        router.add_api_route(
            path,
            _answering(wire, handle),
            methods=[method],
            name=f"mpack_{name}",
            response_class=Response,
            response_model=None,
        )
    router.add_api_route("/health", _health, methods=["GET"], name="mpack_health")
    return router


async def _health() -> JSONResponse:
    """Answer that the process is there."""
    return JSONResponse({"status": "ok"})


def _answering(
    wire: _Wire, handle: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Errors of the package become answers here, and nowhere else."""

    async def endpoint(request: Request) -> Response:
        try:
            await wire.admit(request)
            return await handle(request)
        except RequestRefusedError as refusal:
            return refusal_response(request, refusal)
        except MPackError as error:
            return error_answer(request, error)

    endpoint.__doc__ = handle.__doc__
    return endpoint


class _Wire:
    def __init__(self, options: WireOptions) -> None:
        self._options = options
        self._limits = options.limits
        self._repos = Repos(options.repos, clock=options.clock)
        self._storage = PackStorage(options.blobs)
        self._authenticate = options.authenticator()
        per_minute = options.limits.requests_per_minute
        self._limit = Limit(per_minute, 60_000) if per_minute else None
        self._rates = RateLimiter(clock=options.clock)
        self._fetches = FetchService(options.repos, self._storage, options.limits, options.clock)
        self._uploads = Uploads(options.repos, self._storage, options.limits)
        self._pushes = PushService(
            rows=options.repos,
            storage=self._storage,
            fetches=self._fetches,
            uploads=self._uploads,
            limits=options.limits,
            clock=options.clock,
        )
        self._signer: UrlSigner | None = None

    async def admit(self, request: Request) -> None:
        """Find out who calls, and count the call.

        Raises:
            AuthError: 401, a token was sent that is not valid.
            RequestRefusedError: 429, it is one too many.
        """
        most = self._limits.max_message_bytes
        body = RequestBody(request.scope, request.receive, max_bytes=most)
        request.scope[SIGNED_BODY] = SignedBody(body.sent)
        caller = await self._authenticate(request)
        identity = caller.identity
        request.state.mpack_body = body
        request.state.mpack_identity = identity
        request.state.mpack_use_credential = caller.admit
        if self._limit is None:
            return
        address = client_address_of(request.scope)
        key = f"ip {address}" if identity is None else f"id {identity}"
        await self._rates.admit([Counter(self._limit, key)])

    async def repo_for(self, request: Request, action: Action) -> Repo:
        """The repository of a request, for a caller who may do that.

        Raises:
            RepoNotFoundError: there is none, or the caller may not read it.
            ForbiddenError: the caller may read and not write.
        """
        names = request.path_params
        repo = await self._repos.find(names["owner"], names["slug"])
        identity: str | None = request.state.mpack_identity
        authorize = self._options.authorize
        if repo is None or not await authorize(identity, repo, "read"):
            raise RepoNotFoundError
        if action == "write" and not await authorize(identity, repo, "write"):
            raise ForbiddenError
        use_credential = request.state.mpack_use_credential
        if use_credential is not None:  # it is good for one request, which this one is
            request.state.mpack_use_credential = None
            await use_credential()
        return repo

    async def _read(self, request: Request) -> bytes:
        body: RequestBody = request.state.mpack_body
        return await body.read()

    async def fetch(self, request: Request) -> Response:
        """Answer with a pack of what the client lacks."""
        repo = await self.repo_for(request, "read")
        body = await self._read(request)
        found = await self._fetches.fetch(repo, FetchRequest.parse(body, self._limits))
        return answer(request, await self._with_urls(request, repo, found))

    async def blobs(self, request: Request) -> Response:
        """Answer with a pack of single blobs."""
        repo = await self.repo_for(request, "read")
        body = await self._read(request)
        found = await self._fetches.blobs(repo, BlobsRequest.parse(body, self._limits))
        return answer(request, await self._with_urls(request, repo, found))

    async def refs(self, request: Request) -> Response:
        """Answer with all branches and tags."""
        repo = await self.repo_for(request, "read")
        refs = await self._repos.refs(repo)
        body = {
            "default_branch": repo.default_branch,
            "branches": refs.branches,
            "tags": refs.tags,
        }
        etag = f'"{hashlib.sha256(encode_message(body)).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if _is_listed(etag, request.headers.get("if-none-match")):
            return Response(None, 304, {"Vary": "Accept", **headers})
        return answer(request, body, 200, headers)

    async def presign(self, request: Request) -> Response:
        """Answer with a URL to upload a pack to."""
        repo = await self.repo_for(request, "write")
        body = await self._read(request)
        asked = PresignRequest.parse(body, self._limits)
        whole = UploadPart(part_id=asked.mpack_id, size_bytes=asked.size_bytes)
        urls: list[str | None] = []
        expires_at: int | None = None
        keys = await self._uploads.where_to(repo, asked)
        for part, key in zip(asked.parts or (whole,), keys, strict=True):
            if key is None:
                urls.append(None)
                continue
            url, expires_at = await self._signed_url(
                request,
                repo,
                _UPLOAD,
                part.part_id,
                key,
                lifetime_ms=self._limits.upload_lifetime_ms,
                size_bytes=part.size_bytes,
            )
            urls.append(url)
        if asked.parts:
            return answer(request, {"part_urls": urls, "expires_at": expires_at})
        return answer(request, {"upload_url": urls[0], "expires_at": expires_at})

    async def upload(self, request: Request) -> Response:
        """Take the bytes of a pack that was granted."""
        repo = await self._signed_repo(request)
        allowed = min(int(request.query_params["size"]), self._limits.max_pack_bytes)
        body = RequestBody(request.scope, request.receive, max_bytes=allowed)
        await self._uploads.receive(repo, request.path_params["mpack_id"], allowed, body.pieces())
        return Response(None, 204)

    async def unpack(self, request: Request) -> Response:
        """Take an uploaded pack in and move a branch."""
        repo = await self.repo_for(request, "write")
        body = await self._read(request)
        return answer(
            request, await self._pushes.unpack(repo, UnpackRequest.parse(body, self._limits))
        )

    async def pack(self, request: Request) -> Response:
        """Answer with the bytes of a pack that was built for this repository."""
        mpack_id = request.path_params["mpack_id"]
        if not is_object_id(mpack_id):
            raise RepoNotFoundError
        signer = await self._url_signer()
        now_ms = self._options.clock.now_ms()
        if signer.accepts(_DOWNLOAD, request.url.path, request.query_params, now_ms=now_ms):
            repo = await self._repos.find(request.path_params["owner"], request.path_params["slug"])
        else:
            repo = await self.repo_for(request, "read")
        if repo is None:
            raise RepoNotFoundError
        key = self._storage.key("built", repo.id, mpack_id)
        size = await self._storage.size(key)
        if size is None:
            raise RepoNotFoundError
        return await self._pack_bytes(request, key, f'"{mpack_id}"', size)

    async def _pack_bytes(self, request: Request, key: str, etag: str, size: int) -> Response:
        headers = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-transform",
        }
        if _is_listed(etag, request.headers.get("if-none-match")):
            return Response(None, 304, headers)
        start, end, status = 0, size, 200
        if request.headers.get("if-range", etag) == etag:
            asked = requested_range(request.headers.get("range"), size)
            if asked is not None:
                start, end, status = asked.start, asked.end, 206
                headers["Content-Range"] = asked.content_range(size)
        headers["Content-Length"] = str(end - start)
        content = self._storage.stream(key, start, end)
        return StreamingResponse(content, status, headers, "application/octet-stream")

    async def _with_urls(
        self, request: Request, repo: Repo, found: dict[str, Any]
    ) -> dict[str, Any]:
        """Say where the packs of an answer are."""
        base: dict[str, Any] | None = found.get("base")
        if base is not None:
            await self._with_urls(request, repo, base)
        mpack_id: str | None = found["mpack_id"]
        found |= {"mpack_url": None, "expires_at": None}
        if mpack_id is not None:
            limits = self._limits
            lifetime = limits.private_url_lifetime_ms if repo.private else limits.url_lifetime_ms
            found["mpack_url"], found["expires_at"] = await self._signed_url(
                request,
                repo,
                _DOWNLOAD,
                mpack_id,
                self._storage.key("built", repo.id, mpack_id),
                lifetime_ms=lifetime,
            )
        return found

    async def _signed_url(
        self,
        request: Request,
        repo: Repo,
        method: Any,
        mpack_id: str,
        key: str,
        *,
        lifetime_ms: int,
        size_bytes: int = -1,
    ) -> tuple[str, int]:
        expires_at = self._options.clock.now_ms() + lifetime_ms
        url = await asyncio.to_thread(self._storage.sign, method, key, lifetime_ms // 1000)
        if url is None:
            folder = "packs" if method == _DOWNLOAD else "uploads"
            mount = request.url.path.removesuffix(_path_below_the_mount(request))
            path = f"{mount}/{repo.owner}/{repo.slug}/{folder}/{mpack_id}"
            signer = await self._url_signer()
            signed = signer.sign(method, path, expires_at=expires_at, size_bytes=size_bytes)
            host = self._options.public_url or f"{request.url.scheme}://{request.url.netloc}"
            url = host + signed
        return url, expires_at

    async def _signed_repo(self, request: Request) -> Repo:
        """The repository of an upload: a signature, made for who might write, stands for the right."""
        signer = await self._url_signer()
        now_ms = self._options.clock.now_ms()
        names = request.path_params
        repo = await self._repos.find(names["owner"], names["slug"])
        path, query = request.url.path, request.query_params
        signed = signer.accepts(_UPLOAD, path, query, now_ms=now_ms) and "size" in query
        if repo is None or not signed or not is_object_id(names["mpack_id"]):
            raise RepoNotFoundError
        return repo

    async def _url_signer(self) -> UrlSigner:
        if self._signer is None:
            self._signer = UrlSigner(await url_key(self._options.repos))
        return self._signer


def _path_below_the_mount(request: Request) -> str:
    names = request.path_params
    path = request.url.path
    start = path.rfind(f"/{names['owner']}/{names['slug']}/")
    if start < 0:
        raise InvalidMessageError("the path is written in an unusual way")
    return path[start:]


def _is_listed(etag: str, header: str | None) -> bool:
    """Whether an ``If-None-Match`` names this tag (RFC 9110, 13.1.2)."""
    if header is None:
        return False
    return any(each.strip().removeprefix("W/") in ("*", etag) for each in header.split(","))
