// Run in the peer's environment: another user edits a document; prints what the server has then.
import { StarfishClient } from "@drakkar.software/starfish-client";

const { url, key, set, delete: gone } = JSON.parse(process.argv[2]);
const client = new StarfishClient({ baseUrl: url });
const before = await client.pull(`/pull/${key}`);
const document = { ...before.data, ...set };
for (const name of gone) delete document[name];
if (JSON.stringify(document) !== JSON.stringify(before.data)) {
  await client.push(`/push/${key}`, document, before.hash || null);
}
const after = await client.pull(`/pull/${key}`);
console.log(JSON.stringify({ data: after.data, hash: after.hash }));
