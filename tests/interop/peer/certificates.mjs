// Run in the peer's environment: a device pair, a public link and revocation, each request signed.
import { AppendLogCursor, StarfishClient, SyncManager } from "@drakkar.software/starfish-client";
import { signCapCert, userIdFromPubHex, buildRevocationList } from "@drakkar.software/starfish-protocol";
import { generateKeyPairSync, randomBytes } from "node:crypto";

const baseUrl = process.argv[2];
const seen = {};
const hex = (key, part) => Buffer.from(key.export({ format: "jwk" })[part], "base64url").toString("hex");
const keys = () => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const kem = generateKeyPairSync("x25519");
  return { pub: hex(publicKey, "x"), priv: hex(privateKey, "d"), kem: hex(kem.publicKey, "x") };
};
const root = keys(), phone = keys(), guest = keys();
const now = Math.floor(Date.now() / 1000);

async function mint(kind, scope, subject) {
  const cap = {
    v: 1, kind, iss: root.pub, issUserId: await userIdFromPubHex(root.pub), scope,
    nbf: now, exp: now + 3600, nonce: randomBytes(16).toString("base64"),
    ...(subject ? { sub: subject.pub, subKem: subject.kem } : {}),
  };
  return signCapCert(cap, root.priv);
}
const all = { ops: ["read", "list", "write"], paths: ["**"], collections: ["*"] };
const client = (cap, holder, link = false) => new StarfishClient({
  baseUrl,
  capProvider: { getCap: async () => ({ cap, devEdPrivHex: holder.priv, ...(link ? { pubHex: holder.pub } : {}) }) },
});
const status = (call) => call.then(() => 200, (error) => error.status ?? String(error));

const lost = await mint("device", all, phone);
const laptop = client(await mint("device", all, root), root);
const mobile = client(lost, phone);
const me = await userIdFromPubHex(root.pub);
await laptop.push(`/push/users/${me}/settings`, { theme: "dark" }, null);
seen.own_device_reads = (await mobile.pull(`/pull/users/${me}/settings`)).data;
const paths = { pullPath: "/pull/notes/js", pushPath: "/push/notes/js" };
await new SyncManager({ client: laptop, ...paths }).push({ title: "hello", by: { laptop: 1 } });
await new SyncManager({ client: mobile, ...paths }).push({ title: "mine", by: { phone: 2 } });
seen.merged = (await laptop.pull("/pull/notes/js")).data;
for (let n = 0; n < 3; n++) await laptop.append("/push/log/js", { n });
const log = new AppendLogCursor({ client: mobile, pullPath: "/pull/log/js", verifyAuthor: true });
seen.log = (await log.pull()).map((element) => element.data.n);
const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index % 256);
const blob = await laptop.pushBlob("/push/photos/js", bytes, "image/png");
seen.blob = (await mobile.pullBlob("/pull/photos/js")).hash === blob.hash;
const batch = await laptop.batchPullMany("notes", [{ id: "js" }, { id: "js-none" }]);
seen.batch = batch.map((entry) => entry.data.title ?? null);

const scope = { ops: ["read", "list"], paths: ["notes/**", "!notes/_members"], collections: ["notes"] };
const visitor = client(await mint("audience", scope), guest, true);
seen.link_reads = (await visitor.pull("/pull/notes/js")).data.title;
seen.link_writes = await status(visitor.push("/push/notes/js", {}, null));

const list = await buildRevocationList({
  issEdPubHex: root.pub, issEdPrivHex: root.priv, generation: 1, revoked: [],
  revokedSubjects: [{ sub: phone.pub, exp: lost.exp }],
});
const headers = { "content-type": "application/json" };
const told = await fetch(`${baseUrl}/revocations`, { method: "POST", headers, body: JSON.stringify(list) });
seen.list = (await told.json()).ok;
await new Promise((resolve) => setTimeout(resolve, 1000));
seen.revoked = await status(mobile.pull("/pull/notes/js"));
seen.other_device = await status(laptop.pull("/pull/notes/js"));

console.log(JSON.stringify(seen));
