// Run in the peer's environment: take over a queue that another implementation wrote, and add to it.
import { createOutboxQueue, drainOutbox } from "@drakkar.software/starfish-outbox";

let text = process.argv[2];
const cache = {
  getItem: async () => text,
  setItem: async (_key, value) => { text = value; },
  removeItem: async () => { text = null; },
};
const queue = createOutboxQueue(cache);
await queue.hydrate("outbox.ada");
const taken = queue.get();
const sent = [];
await drainOutbox(queue, async (entry) => {
  if (entry.id === "refused") throw new Error("refused");
  sent.push(entry.id);
}, { maxAttempts: 1 });
queue.enqueue("from-js", { path: "notes/1", body: { text: "é😀" } }, 1700000000000);
await new Promise((resolve) => setTimeout(resolve, 50));
console.log(JSON.stringify({ taken, sent, text }));
