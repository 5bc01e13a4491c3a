// Run in the peer's environment: documents, conflict and merge, append, blobs, batch.
import { AppendLogCursor, StarfishClient, SyncManager } from "@drakkar.software/starfish-client";
import { computeHash } from "@drakkar.software/starfish-protocol";
import { createHash, generateKeyPairSync } from "node:crypto";

const client = new StarfishClient({ baseUrl: process.argv[2] });
const seen = {};

// One key only of U+E000 and above: this peer sorts keys by code points, not UTF-16 units.
const odd = { n: [1.0, -0, 1e-6, 1e-7, 1e21, 2 ** 53 - 1], s: "é\u2028😀", "😀": 1 };
const pushed = await client.push("/push/notes/js-odd", odd, null);
const pulled = await client.pull("/pull/notes/js-odd");
seen.hashes_agree = pushed.hash === pulled.hash && pushed.hash === (await computeHash(odd));

const paths = { client, pullPath: "/pull/notes/js", pushPath: "/push/notes/js" };
const ada = new SyncManager(paths);
const ben = new SyncManager(paths);
await ada.push({ title: "hello", by: { ada: 1 } });
await ben.push({ title: "mine", by: { ben: 2 } });
seen.merged = (await client.pull("/pull/notes/js")).data;

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const hex = (key, part) => Buffer.from(key.export({ format: "jwk" })[part], "base64url").toString("hex");
const signer = { edPubHex: hex(publicKey, "x"), edPrivHex: hex(privateKey, "d") };
await client.appendAnonymous("/push/inbox/js", { n: "signed" }, signer);
const inbox = new AppendLogCursor({ client, pullPath: "/pull/inbox/js", verifyAuthor: true });
seen.signed = (await inbox.pull()).map((element) => element.data.n);

for (let n = 0; n < 3; n++) await client.append("/push/log/js", { n });
const log = new AppendLogCursor({ client, pullPath: "/pull/log/js" });
seen.log = (await log.pull()).map((element) => element.data.n);
seen.tail = (await client.pull("/pull/log/js", { last: 2 })).map((element) => element.data.n);

const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index % 256);
const blob = await client.pushBlob("/push/photos/js", bytes, "image/png");
const back = await client.pullBlob("/pull/photos/js");
const digest = createHash("sha256").update(bytes).digest("hex");
seen.blob = Buffer.from(back.data).equals(Buffer.from(bytes)) && blob.hash === digest && back.hash === digest;

const batch = await client.batchPullMany("notes", [{ identity: "js" }, { identity: "js-none" }]);
seen.batch = batch.map((entry) => entry.hash !== "");

console.log(JSON.stringify(seen));
