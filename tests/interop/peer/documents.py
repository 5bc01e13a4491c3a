"""Run in the peer's environment: documents, conflict and merge, batch, config."""

import asyncio
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starfish_sdk import ConflictError, StarfishClient, SyncManager
from starfish_sdk.config import fetch_server_config

from starfish_protocol.hash import compute_hash


class Signer:
    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    async def get_signer(self) -> dict:
        async def sign(message: bytes) -> bytes:
            return self.key.sign(message)

        return {"dev_ed_pub_hex": self.key.public_key().public_bytes_raw().hex(), "sign": sign}


async def main(url: str) -> dict:
    seen: dict = {}
    async with StarfishClient(url) as client:
        empty = await client.pull("/pull/notes/ada")
        seen["never_written"] = [empty.data, empty.hash]

        # One key only of U+E000 and above: this peer sorts keys by code points, not UTF-16 units.
        odd = {
            "n": [1.0, -0.0, 1e-6, 1e-7, 1e21, 2**53 - 1],
            "s": "é\u2028😀",
            "😀": 1,
        }
        pushed = await client.push("/push/notes/odd", odd, None)
        pulled = await client.pull("/pull/notes/odd")
        seen["pulled_back"] = pulled.data == odd
        seen["hashes_agree"] = pushed.hash == pulled.hash == compute_hash(odd)

        ada = SyncManager(client, "/pull/notes/ada", "/push/notes/ada")
        ben = SyncManager(client, "/pull/notes/ada", "/push/notes/ada")
        await ada.push({"title": "hello", "by": {"ada": 1}})
        try:
            await client.push("/push/notes/ada", {"title": "stale"}, "0" * 64)
        except ConflictError:
            seen["conflict_on_stale_hash"] = True
        await ben.push({"title": "mine", "by": {"ben": 2}})
        seen["merged"] = (await client.pull("/pull/notes/ada")).data

        signed = SyncManager(
            client, "/pull/notes/sig", "/push/notes/sig", signer=Signer(), verify_author=True
        )
        await signed.push({"title": "signed"})
        await signed.pull()
        seen["signed_author_verified"] = True

        for number in range(2):
            await client.push(f"/push/notes/b{number}", {"title": f"batch {number}"}, None)
        entries = await client.batch_pull_many(
            "notes", [{"identity": "b0"}, {"identity": "b1"}, {"identity": "b2"}]
        )
        seen["batch"] = [entry["data"] for entry in entries]
    config = await fetch_server_config(url)
    seen["config"] = sorted(collection.name for collection in config.collections)
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1]))))
