"""What a signed pull and the edges cost: processor time of a request, as ratios of interleaved runs in one process.

Requests go through the ASGI application directly, so the figures are those of the application alone: no
parsing of HTTP, no socket. The bare answer is an ASGI callable that sends the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starfish_protocol.cap import sign_cap_cert, user_id_from_pub_hex
from starfish_protocol.hash import stable_stringify
from starfish_protocol.request_signing import sign_request
from starfish_protocol.suites import ed25519
from starfish_server import SqliteObjectStore
from starfish_server.app import EdgeOptions, create_app
from starfish_server.auth.capabilities import Capabilities, SqliteNonces
from starfish_server.config import parse_config
from starfish_server.storage.adapter import as_object_store

TEXT = "The quick brown fox jumps over the lazy dog. " * 20
ORIGIN = "https://app.example"
HOST = "bench.example"
WANTED = {"signed / unsigned": 2.0, "with edges / without": 1.1}


class Signing:
    """Signs requests as the published clients do, beforehand."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate().private_bytes_raw().hex()
        self.public = ed25519.public_key(self.private)
        now = int(time.time())
        cert = sign_cap_cert(
            {
                "v": 1, "kind": "device", "iss": self.public, "sub": self.public, "subKem": self.public,
                "issUserId": user_id_from_pub_hex(self.public), "nbf": now - 10, "exp": now + 3600,
                "scope": {"ops": ["read", "write"], "collections": ["*"], "paths": ["**"]},
                "nonce": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
            self.private,
        )  # fmt: skip
        self.header = b"Cap " + base64.b64encode(stable_stringify(cert).encode())

    def headers(self, method: str, target: str, body: bytes = b"") -> list[tuple[bytes, bytes]]:
        signed = sign_request(method, target, body, self.private, host=HOST)
        return [
            (b"authorization", self.header),
            (b"x-starfish-sig", signed.sig.encode()),
            (b"x-starfish-ts", str(signed.ts).encode()),
            (b"x-starfish-nonce", signed.nonce.encode()),
        ]


def scope_of(path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", HOST.encode()), (b"accept", b"*/*"), *headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip


async def ask(app: Any, scope: dict[str, Any], body: bytes = b"") -> int:
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


async def cost(app: Any, scopes: list[dict[str, Any]], in_flight: int = 32) -> float:
    """Processor seconds of a request, all threads of the process counted."""
    began = time.process_time()
    for start in range(0, len(scopes), in_flight):
        statuses = await asyncio.gather(
            *(ask(app, scope) for scope in scopes[start : start + in_flight])
        )
        assert set(statuses) == {200}, statuses
    return (time.process_time() - began) / len(scopes)


async def main(rounds: int, requests: int) -> int:
    signing = Signing()
    notes = {"name": "notes", "storagePath": "notes/{id}", "writeRoles": ["cap:write:*"]}
    open_ = {
        **notes,
        "name": "open",
        "storagePath": "open/{id}",
        "readRoles": ["public"],
        "writeRoles": ["public"],
    }
    raw = {
        "collections": [{**notes, "readRoles": ["cap:read:*"]}, open_],
        "capabilities": {"publicHosts": [HOST]},
    }
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteObjectStore(Path(folder) / "documents.sqlite")
        config = parse_config({**raw, "cors": {"origins": [ORIGIN]}})
        assert config.capabilities is not None
        nonces = SqliteNonces(Path(folder) / "nonces.sqlite")
        capabilities = Capabilities.of(config.capabilities, as_object_store(store), nonces=nonces)
        plain = create_app(parse_config(raw), store=store, capabilities=capabilities)
        edge = EdgeOptions(request_ids=True, metrics=True)
        whole = create_app(config, store=store, capabilities=capabilities, edge=edge)
        async with plain.router.lifespan_context(plain), whole.router.lifespan_context(whole):
            body = b'{"data":{"text":"%b"},"baseHash":null}' % TEXT.encode()
            for path in ("/push/notes/1", "/push/open/1"):
                more = [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ]
                headers = signing.headers("POST", path, body) if "notes" in path else []
                status = await ask(plain, scope_of(path, [*headers, *more], "POST"), body)
                assert status == 200, status
            ways = {
                "unsigned": (plain, lambda: scope_of("/pull/open/1", [])),
                "signed": (
                    plain,
                    lambda: scope_of("/pull/notes/1", signing.headers("GET", "/pull/notes/1")),
                ),
                "with edges": (
                    whole,
                    lambda: scope_of("/pull/open/1", [(b"origin", ORIGIN.encode())]),
                ),
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, (app, make) in ways.items():
                    seconds[name].append(await cost(app, [make() for _ in range(requests)]))
        await nonces.close()
    per = {name: statistics.median(each) for name, each in seconds.items()}
    for name, each in per.items():
        print(f"{name:12} {each * 1e6:7.0f} µs of processor a pull of 1 KB")
    ratios = {
        "signed / unsigned": per["signed"] / per["unsigned"],
        "with edges / without": per["with edges"] / per["unsigned"],
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} (wanted at most {WANTED[name]})")
    return int(any(ratio > WANTED[name] for name, ratio in ratios.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=640)
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.rounds, options.requests)))
