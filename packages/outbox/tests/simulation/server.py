"""A server of documents, the network in front of it, and the other users: all of them unreliable."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from starfish_protocol.hash import compute_hash

Document = dict[str, Any]
OURS = "ours"
TROUBLES: tuple[tuple[int, bytes, dict[str, str]], ...] = (
    (200, b"<html>Welcome to the hotel</html>", {}),
    (302, b"", {"Location": "/login"}),
    (204, b"", {}),
    (200, b'{"ok": true}', {}),
    (200, json.dumps({"hash": "ab" * 32, "timestamp": 1}).encode(), {}),
    (200, json.dumps({"data": {}, "hash": "", "timestamp": 1})[:-3].encode(), {}),
    (403, b"<html>Log in first</html>", {}),
    (500, b"", {}),
    (502, b"<html>Bad gateway</html>", {}),
    (503, b"{}", {"Retry-After": "1 or 30"}),
    (429, b"{}", {}),
)
"""Status, body and headers of what answers in the server's place, or of a server that is not well."""


@dataclass(frozen=True)
class Version:
    """One state of a document, and who wrote it."""

    document: Document
    writer: str


@dataclass
class Server:
    """Keeps every version of every document."""

    rng: random.Random
    documents: dict[str, list[Version]] = field(default_factory=dict)
    is_healthy: bool = False
    token_ends_s: float = 10**9
    poison: set[str] = field(default_factory=set)
    """Values that the server refuses wherever they stand."""
    refused: int = 0
    troubles: Sequence[tuple[int, bytes, dict[str, str]]] = TROUBLES

    def choose_troubles(self, rng: random.Random) -> None:
        """Know one, two or three kinds of trouble only."""
        self.troubles = rng.sample(TROUBLES, rng.randrange(1, 4))

    def current(self, path: str) -> Document | None:
        versions = self.documents.get(path)
        return versions[-1].document if versions else None

    def write(self, path: str, document: Document, writer: str) -> None:
        self.documents.setdefault(path, []).append(Version(document, writer))

    async def request(
        self, method: str, path: str, *, content: Any, headers: Any
    ) -> httpx.Response:
        """Stands in for `httpx.AsyncClient.request`."""
        request = httpx.Request(method, f"http://server{path}")
        await asyncio.sleep(self.rng.random() * 0.2)
        chance = 1.0 if self.is_healthy else self.rng.random()
        if chance < 0.10:
            raise httpx.ConnectError("no route", request=request)
        if chance < 0.20:
            return self._trouble(request)
        if asyncio.get_running_loop().time() > self.token_ends_s:
            return httpx.Response(401, json={"error": "token expired"}, request=request)
        status, answer = self._answer(method, path, content)
        await asyncio.sleep(self.rng.random() * 0.2)
        if chance < 0.32:
            raise httpx.ReadError("the answer was lost", request=request)
        return httpx.Response(status, json=answer, request=request)

    def _trouble(self, request: httpx.Request) -> httpx.Response:
        retry_after = str(self.rng.choice([1, 30]))
        status, body, headers = self.rng.choice(self.troubles)
        headers = dict.fromkeys(headers, retry_after) if status == 503 else headers
        return httpx.Response(status, content=body, headers=headers, request=request)

    def _answer(self, method: str, path: str, content: str | None) -> tuple[int, object]:
        _, kind, key = path.split("/", 2)
        document = self.current(key)
        digest = compute_hash(document) if document is not None else ""
        if (method, kind) == ("GET", "pull"):
            return 200, {"data": document or {}, "hash": digest, "timestamp": 1}
        push = json.loads(content or "null")
        if self.poison & {str(value) for value in push["data"].values()}:
            self.refused += 1
            return 422, {"error": "schema_violation"}
        if (push["baseHash"] or "") != digest:
            return 409, {"error": "hash_mismatch", "currentHash": digest}
        self.write(key, push["data"], OURS)
        return 200, {"hash": compute_hash(push["data"]), "timestamp": 2}
