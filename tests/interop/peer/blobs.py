"""Run in the peer's environment: binary collections."""

import asyncio
import hashlib
import json
import os
import sys

from starfish_sdk import StarfishClient, StarfishHttpError


async def status_of(call) -> int:
    try:
        await call
    except StarfishHttpError as error:
        return error.status
    return 200


async def main(url: str) -> dict:
    seen: dict = {}
    content = os.urandom(100_000)
    async with StarfishClient(url) as client:
        pushed = await client.push_blob("/push/photos/cat", content, "image/png")
        pulled = await client.pull_blob("/pull/photos/cat")
        seen["same_bytes"] = pulled.data == content
        seen["content_type"] = pulled.content_type
        seen["hash_is_sha256"] = pushed.hash == pulled.hash == hashlib.sha256(content).hexdigest()
        seen["wrong_type"] = await status_of(
            client.push_blob("/push/photos/cat", b"text", "text/plain")
        )
        seen["missing"] = await status_of(client.pull_blob("/pull/photos/dog"))
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1]))))
