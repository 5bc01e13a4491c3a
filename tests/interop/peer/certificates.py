"""Run in the peer's environment: devices, members, public links and revocation, each request signed."""

import asyncio
import json
import sys

import httpx
from starfish_identities.cap_mint import mint_device_cap
from starfish_identities.pairing import generate_device_keys
from starfish_sdk import (
    AppendLogCursor,
    ConflictError,
    StarfishClient,
    StarfishHttpError,
    SyncManager,
)
from starfish_sdk.events import subscribe_changes
from starfish_sharing.cap_mint import mint_member_cap, scopes
from starfish_sharing.public_link import create_public_link, parse_public_link

from starfish_protocol.cap import user_id_from_pub_hex
from starfish_protocol.revocation import build_revocation_list

EVERYTHING = {"ops": ["read", "list", "write"], "paths": ["**"], "collections": ["*"]}


class Provider:
    def __init__(self, cap: dict, keys: dict, *, is_link: bool = False) -> None:
        self.context = {"cap": cap, "dev_ed_priv_hex": keys["edPriv"]}
        if is_link:
            self.context["pub_hex"] = keys["edPub"]

    async def get_cap(self) -> dict:
        return self.context


class Signer:
    """Signs documents with the key that signs the requests."""

    def __init__(self, keys: dict) -> None:
        self.keys = keys

    async def get_signer(self) -> dict:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.keys["edPriv"]))

        async def sign(message: bytes) -> bytes:
            return key.sign(message)

        return {"dev_ed_pub_hex": self.keys["edPub"], "sign": sign}


def subject(keys: dict) -> dict:
    return {
        "edPubHex": keys["edPub"],
        "kemPubHex": keys["kemPub"],
        "userIdHex": user_id_from_pub_hex(keys["edPub"]),
    }


async def status_of(call) -> int:
    try:
        await call
    except StarfishHttpError as error:
        return error.status
    return 200


async def signed_get(client: StarfishClient, url: str, target: str) -> httpx.Response:
    headers = await client._auth_headers("GET", target, None)
    async with httpx.AsyncClient(base_url=url) as http:
        return await http.get(target, headers=headers)


async def events_of(client: StarfishClient, url: str, target: str, count: int) -> list[str]:
    headers = await client._auth_headers("GET", target, None)
    keys: list[str] = []
    async for event in subscribe_changes(url=url + target, headers=headers):
        keys.append(event["key"])
        if len(keys) == count:
            break
    return keys


async def shared(url: str, root: dict, guest: dict, reader: dict, settings: str) -> dict:
    """The reach of a visitor with a link and of a member."""
    seen: dict = {}
    link = create_public_link(root["edPriv"], root["edPub"], "notes", scopes.read_only("notes"))
    cap = parse_public_link(link.fragment).cap
    async with StarfishClient(url, cap_provider=Provider(cap, guest, is_link=True)) as visitor:
        seen["link_reads"] = (await visitor.pull("/pull/notes/1")).data["title"]
        seen["link_writes"] = await status_of(visitor.push("/push/notes/1", {}, None))
        seen["link_elsewhere"] = await status_of(visitor.pull("/pull/log/hall", last=1))
    member = mint_member_cap(
        root["edPriv"], root["edPub"], subject(reader), "notes", scopes.writer("notes")
    )
    async with StarfishClient(url, cap_provider=Provider(member, reader)) as friend:
        await friend.push("/push/notes/2", {"title": "from a friend"}, None)
        seen["member_reads"] = (await friend.pull("/pull/notes/2")).data["title"]
        seen["member_elsewhere"] = await status_of(friend.pull(f"/pull/{settings}"))
    return seen


async def main(url: str) -> dict:
    seen: dict = {}
    root, phone, guest, reader = (generate_device_keys() for _ in range(4))
    me = user_id_from_pub_hex(root["edPub"])

    def device(keys: dict) -> dict:
        return mint_device_cap(root["edPriv"], root["edPub"], subject(keys), EVERYTHING)

    lost = device(phone)
    async with (
        StarfishClient(url, cap_provider=Provider(device(root), root)) as laptop,
        StarfishClient(url, cap_provider=Provider(lost, phone)) as mobile,
    ):
        settings = f"users/{me}/settings"
        await laptop.push(f"/push/{settings}", {"theme": "dark"}, None)
        seen["own_device_reads"] = (await mobile.pull(f"/pull/{settings}")).data
        try:
            await mobile.push(f"/push/{settings}", {"theme": "light"}, "0" * 64)
        except ConflictError:
            seen["conflict"] = True
        ada = SyncManager(laptop, "/pull/notes/1", "/push/notes/1", signer=Signer(root))
        ben = SyncManager(mobile, "/pull/notes/1", "/push/notes/1", signer=Signer(phone))
        await ada.push({"title": "hello", "by": {"laptop": 1}})
        await ben.push({"title": "mine", "by": {"phone": 2}})
        seen["merged"] = (await laptop.pull("/pull/notes/1")).data
        await laptop.push("/push/notes/1/_keyring", {"epochs": {}}, None)
        pulled = await laptop.pull("/pull/notes/1", with_keyring=True)
        seen["keyring"] = pulled.keyring.data

        for number in range(3):
            await laptop.append("/push/log/hall", {"n": number})
        log = AppendLogCursor(mobile, "/pull/log/hall", verify_author=True)
        seen["log"] = [element["data"]["n"] for element in await log.pull()]
        batch = await laptop.batch_pull_many("notes", [{"id": "1"}, {"id": "none"}])
        seen["batch"] = [entry["data"].get("title") for entry in batch]
        blob = await laptop.push_blob("/push/photos/1", b"\x89PNG", "image/png")
        seen["blob"] = (await mobile.pull_blob("/pull/photos/1")).hash == blob.hash
        listed = await signed_get(laptop, url, "/list/notes")
        seen["listed"] = listed.json()["items"]
        target = "/events?collections=notes&since=0"
        seen["events"] = sorted(set(await events_of(mobile, url, target, 2)))

        headers = await laptop._auth_headers("GET", "/pull/notes/1", None)
        async with httpx.AsyncClient(base_url=url) as http:
            copies = [http.get("/pull/notes/1", headers=headers) for _ in range(12)]
            answers = await asyncio.gather(*copies)
            seen["copies"] = (
                sorted({a.status_code for a in answers}),
                sum(a.status_code == 200 for a in answers),
            )

        seen |= await shared(url, root, guest, reader, settings)
        async with StarfishClient(url) as nobody:
            seen["anonymous"] = await status_of(nobody.pull("/pull/notes/1"))

        entry = {"sub": phone["edPub"], "exp": lost["exp"]}
        taken_back = build_revocation_list(root["edPub"], root["edPriv"], 1, [], [entry])
        async with httpx.AsyncClient(base_url=url) as http:
            seen["list"] = (await http.post("/revocations", json=taken_back)).json()["ok"]
        await asyncio.sleep(1)  # until the other worker knows
        seen["revoked"] = [await status_of(mobile.pull("/pull/notes/1")) for _ in range(6)]
        seen["other_device"] = await status_of(laptop.pull("/pull/notes/1"))
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1]))))
