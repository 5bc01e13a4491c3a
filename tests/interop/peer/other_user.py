"""Run in the peer's environment: another user edits a document; prints what the server has then."""

import asyncio
import json
import sys

from starfish_sdk import StarfishClient


async def main(url: str, key: str, edit: dict) -> dict:
    async with StarfishClient(url) as client:
        before = await client.pull(f"/pull/{key}")
        document = {**before.data, **edit["set"]}
        for name in edit["delete"]:
            document.pop(name, None)
        if document != before.data:
            await client.push(f"/push/{key}", document, before.hash or None)
        after = await client.pull(f"/pull/{key}")
        return {"data": after.data, "hash": after.hash}


told = json.loads(sys.argv[1])
print(json.dumps(asyncio.run(main(told["url"], told["key"], told))))
