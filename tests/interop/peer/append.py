"""Run in the peer's environment: append-only collections."""

import asyncio
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starfish_sdk import AppendLogCursor, StarfishClient, StarfishHttpError


async def status_of(call) -> int:
    try:
        await call
    except StarfishHttpError as error:
        return error.status
    return 200


async def main(url: str) -> dict:
    seen: dict = {}
    async with StarfishClient(url) as client:
        log = AppendLogCursor(client, "/pull/log/hall")
        for number in range(3):
            last = await client.append("/push/log/hall", {"n": number})
        seen["first"] = [element["data"]["n"] for element in await log.pull()]
        checkpoint = log.items[1]["ts"]
        await client.append("/push/log/hall", {"n": 3})
        seen["second"] = [element["data"]["n"] for element in await log.pull()]
        tail = await client.pull("/pull/log/hall", last=2)
        seen["tail"] = [element["data"]["n"] for element in tail]
        since = await client.pull("/pull/log/hall", since=checkpoint)
        seen["since"] = [element["data"]["n"] for element in since]
        tails = await client.batch_pull_many_append(
            "log",
            [
                {"params": {"room": "hall"}, "options": {"last": 1}},
                {"params": {"room": "attic"}, "options": {"last": 1}},
            ],
        )
        seen["batch_tails"] = [[element["data"]["n"] for element in items] for items in tails]
        seen["stale_ts"] = await status_of(
            client.append("/push/log/hall", {"n": 4}, ts=last.timestamp - 1)
        )
        seen["unsigned"] = await status_of(client.append("/push/inbox/ada", {"n": 0}))
        key = Ed25519PrivateKey.generate()
        signer = {
            "edPubHex": key.public_key().public_bytes_raw().hex(),
            "edPrivHex": key.private_bytes_raw().hex(),
        }
        await client.append_anonymous("/push/inbox/ada", {"n": "signed"}, signer)
        inbox = AppendLogCursor(client, "/pull/inbox/ada", verify_author=True)
        seen["signed"] = [element["data"]["n"] for element in await inbox.pull()]
        seen["unbounded"] = await status_of(client.pull("/pull/log/hall", append_field="items"))
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1]))))
