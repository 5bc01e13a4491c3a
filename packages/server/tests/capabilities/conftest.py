"""Users with keys, certificates that they sign, and a client that signs requests with them."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starfish_protocol.cap import sign_cap_cert, user_id_from_pub_hex
from starfish_protocol.hash import stable_stringify
from starfish_protocol.request_signing import sign_request
from starfish_protocol.suites import ed25519
from starfish_protocol.testing import ManualClock
from starfish_server import AbstractObjectStore, MemoryObjectStore
from starfish_server.app import create_app
from starfish_server.config import parse_config

NOW = 1_900_000_000_000
HOST = "sync.example"


@dataclass(frozen=True)
class User:
    """A key, and the user that it stands for."""

    private: str
    public: str

    @classmethod
    def new(cls) -> User:
        private = Ed25519PrivateKey.generate().private_bytes_raw().hex()
        return cls(private, ed25519.public_key(private))

    @property
    def id(self) -> str:
        return user_id_from_pub_hex(self.public)

    def cap(self, subject: User | None = None, **members: Any) -> dict[str, Any]:
        """A certificate of this user: for a device of its own unless ``kind`` says otherwise."""
        kind = members.pop("kind", "device")
        scope = {
            "ops": members.pop("ops", ["read", "list", "write"]),
            "collections": members.pop("collections", ["*"]),
            "paths": members.pop("paths", ["**"]),
        }
        if scope["paths"] is None:
            del scope["paths"]
        cert: dict[str, Any] = {
            "v": 1,
            "kind": kind,
            "iss": self.public,
            "issUserId": self.id,
            "scope": scope,
            "nbf": NOW // 1000 - 10,
            "exp": NOW // 1000 + 3600,
            "nonce": base64.b64encode(secrets.token_bytes(16)).decode(),
        }
        if kind != "audience":
            holder = subject or self
            cert |= {"sub": holder.public, "subKem": holder.public}
        if kind == "member" and subject is not None:
            cert["subUserId"] = subject.id
        return sign_cap_cert(cert | members, self.private)


@dataclass
class Signed:
    """Headers of a signed request; the members can be changed before they are read."""

    cap: dict[str, Any]
    method: str
    target: str
    signer: User
    body: bytes = b""
    host: str = HOST
    ts: int = NOW
    nonce: bytes | None = None
    sent_body: bytes | None = None
    more: dict[str, str] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        signature = sign_request(
            self.method, self.target, self.body, self.signer.private,
            host=self.host, ts=self.ts, nonce=self.nonce,
        )  # fmt: skip
        text = stable_stringify(self.cap)
        headers = {
            "Authorization": "Cap " + base64.b64encode(text.encode()).decode(),
            "X-Starfish-Sig": signature.sig,
            "X-Starfish-Ts": str(signature.ts),
            "X-Starfish-Nonce": signature.nonce,
        }
        if self.cap.get("kind") == "audience":
            headers["X-Starfish-Pub"] = self.signer.public
        return headers | self.more


class Site:
    """One server and a client of it."""

    def __init__(self, app: Any, clock: ManualClock, store: AbstractObjectStore) -> None:
        self.app = app
        self.clock = clock
        self.store = store
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

    async def send(self, signed: Signed) -> httpx.Response:
        content = signed.body if signed.sent_body is None else signed.sent_body
        url = httpx.URL(f"http://{HOST}").copy_with(raw_path=signed.target.encode())
        return await self.client.request(
            signed.method, url, headers=signed.headers(), content=content or None
        )

    async def get(
        self, target: str, cap: dict[str, Any], signer: User, **members: Any
    ) -> httpx.Response:
        members.setdefault("ts", self.clock.now_ms())
        return await self.send(Signed(cap, "GET", target, signer, **members))

    async def push(
        self, key: str, data: Any, cap: dict[str, Any], signer: User, **members: Any
    ) -> httpx.Response:
        body = json.dumps({"data": data, "baseHash": members.pop("base", None)}).encode()
        members.setdefault("ts", self.clock.now_ms())
        more = {"Content-Type": "application/json"} | members.pop("more", {})
        return await self.send(
            Signed(cap, "POST", f"/push/{key}", signer, body=body, more=more, **members)
        )


class Followed:
    """One ``GET /events`` in raw ASGI."""

    def __init__(self, site: Site, signed: Signed) -> None:
        headers = {"Host": HOST} | signed.headers()
        path, _, query = signed.target.partition("?")
        self.status = 0
        self.ended = False
        self.text = ""
        self._parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._left = asyncio.Event()
        self._begun = False
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": (HOST, 80),
            "headers": [(n.lower().encode(), v.encode()) for n, v in headers.items()],
        }  # fmt: skip
        self.task = asyncio.create_task(site.app(scope, self._receive, self._parts.put))

    async def _receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def part(self) -> None:
        """Take the next part of the answer."""
        async with asyncio.timeout(10):
            message = await self._parts.get()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message.get("body", b"").decode()
            self.ended = not message.get("more_body", False)

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The first so many events; fewer when the stream ends."""
        while True:
            lines = self.text.split("\n")
            found = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            if len(found) >= count or self.ended:
                return found
            await self.part()

    async def end(self) -> None:
        """Return when the stream has ended."""
        while not self.ended:
            await self.part()

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 10)


@asynccontextmanager
async def _follow(site: Site, signed: Signed) -> AsyncIterator[Followed]:
    followed = Followed(site, signed)
    try:
        await followed.part()
        yield followed
    finally:
        await followed.leave()


@pytest.fixture
def follow() -> Callable[..., AbstractAsyncContextManager[Followed]]:
    """Open ``/events`` with a certificate, and leave it in the end."""
    return _follow


OpenSite = Callable[..., Any]


@pytest.fixture
async def open_site() -> AsyncIterator[OpenSite]:
    """Serve collections to callers with certificates, from memory unless a store is given."""
    async with AsyncExitStack() as stack:

        async def make(
            *collections: dict[str, Any],
            store: AbstractObjectStore | None = None,
            clock: ManualClock | None = None,
            capabilities: dict[str, Any] | None = None,
            top: dict[str, Any] | None = None,
            given: Any = None,
            **options: Any,
        ) -> Site:
            clock = clock or ManualClock(NOW)
            store = store or MemoryObjectStore(clock=clock)
            config = parse_config(
                {
                    "collections": list(collections),
                    "capabilities": {"publicHosts": [HOST], **(capabilities or {})},
                    **(top or {}),
                }
            )
            app = create_app(config, store=store, clock=clock, capabilities=given, **options)
            await stack.enter_async_context(app.router.lifespan_context(app))
            site = Site(app, clock, store)
            await stack.enter_async_context(site.client)
            return site

        yield make


@pytest.fixture
def user() -> User:
    return User.new()


@pytest.fixture
def guest() -> User:
    return User.new()
