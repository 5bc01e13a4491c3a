"""The main job, end to end, on real input: the project's own pages.

Every page is written while the server is down, waits in an outbox, and arrives when the server
starts; two people edit one page; a list of all pages is one GET; the server is killed in the
middle of a burst of writes, and nothing that it acknowledged is gone. Then the pages are kept as
evidence: a byte that is changed has a name, and the derived tables are made again.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import evidence
import httpx

from starfish_outbox import DrainProgress, OutboxQueue, SqliteOutbox, drain_outbox
from starfish_outbox.http import PushSender
from starfish_protocol.hash import compute_hash
from starfish_protocol.merge import deep_merge

ROOT = Path(__file__).parents[2]
BURST_WRITERS = 8
KILL_AFTER_WRITES = 200


@dataclass
class Server:
    """The service as a process of its own, so that it can be killed."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return at once; `wait_until_healthy` tells when it answers."""
        script = Path(__file__).parent / "service.py"
        command = [sys.executable, str(script), "--data", str(self.data), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as a power cut would: nothing is flushed, no handler runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Acknowledged:
    """The versions that the server said it stored: the newest hash of each page."""

    hashes: dict[str, str] = field(default_factory=dict)


def page_files() -> list[Path]:
    """Each Markdown page of the project."""
    return sorted(
        [
            ROOT / "README.md",
            *(ROOT / "docs").rglob("*.md"),
            *(ROOT / "packages").glob("*/README.md"),
        ]
    )


def read_pages() -> dict[str, dict[str, Any]]:
    """Each page as a document; its path, with `:` for `/`, names it."""
    pages = {}
    for file in page_files():
        text = file.read_text()
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), file.name)
        pages[str(file.relative_to(ROOT)).replace("/", ":")] = {"title": title, "text": text}
    return pages


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def say(text: str) -> None:
    print(text, flush=True)


def show_progress(progress: DrainProgress) -> None:
    done, total = progress.done, progress.total
    bar = "#" * (30 * done // max(total, 1))
    if sys.stdout.isatty() or done == total:
        end = "\n" if done == total else "\r"
        print(f"   [{bar:<30}] {done}/{total}", end=end, flush=True)


async def wait_until_healthy(client: httpx.AsyncClient) -> None:
    for _ in range(900):
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise SystemExit("the server does not answer /health")


async def pull(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(f"/pull/{path}")
    answer.raise_for_status()
    return dict(answer.json())


async def push(
    client: httpx.AsyncClient, path: str, data: object, base_hash: str | None
) -> httpx.Response:
    return await client.post(f"/push/{path}", json={"data": data, "baseHash": base_hash})


async def queue_while_offline(
    queue: OutboxQueue, sender: PushSender, pages: dict[str, dict[str, Any]]
) -> None:
    for name, page in pages.items():
        await queue.enqueue(name, {"path": f"pages/{name}", "body": page, "baseHash": None})
    say(f"1. The server is down. {len(pages)} pages are queued on disk.")
    result = await drain_outbox(queue, sender)
    say(f"   A first attempt: {result.sent} sent, {len(queue.pending())} still queued, none lost.")


async def edit_together(client: httpx.AsyncClient, path: str) -> str:
    base = await pull(client, path)
    ada = {**base["data"], "reviewed_by": {"ada": "reads well"}}
    ben = {**base["data"], "reviewed_by": {"ben": "add an example"}}
    (await push(client, path, ada, base["hash"])).raise_for_status()
    refused = await push(client, path, ben, base["hash"])
    say(
        f"   Ada's edit is stored. Ben's is refused: {refused.status_code} {refused.json()['error']}."
    )
    current = await pull(client, path)
    merged = deep_merge(ben, current["data"])
    stored = await push(client, path, merged, current["hash"])
    stored.raise_for_status()
    say(f"   Ben merges and pushes again: {merged['reviewed_by']}")
    return str(stored.json()["hash"])


async def burst_until_killed(
    server: Server, client: httpx.AsyncClient, acknowledged: Acknowledged
) -> int:
    """Write as fast as the server answers, and kill it between two of its answers."""
    writes = 0

    async def writer(number: int) -> None:
        nonlocal writes
        name, base, revision = f"burst:{number}", None, 0
        while True:
            data = {"title": name, "text": f"revision {revision}"}
            try:
                answer = await push(client, f"pages/{name}", data, base)
            except httpx.TransportError:
                return
            base = acknowledged.hashes[name] = str(answer.raise_for_status().json()["hash"])
            revision += 1
            writes += 1
            if writes == KILL_AFTER_WRITES:
                server.kill()

    await asyncio.gather(*(writer(number) for number in range(BURST_WRITERS)))
    return writes


async def missing_after_restart(client: httpx.AsyncClient, acknowledged: Acknowledged) -> list[str]:
    """Pages whose stored version is not the acknowledged one, nor one written right after it."""
    missing = []
    for name, expected in acknowledged.hashes.items():
        document = await pull(client, f"pages/{name}")
        if document["hash"] != compute_hash(document["data"]):
            missing.append(f"{name} (damaged)")
        elif document["hash"] != expected and not _is_next_revision(
            name, document["data"], expected
        ):
            missing.append(name)
    return missing


def _is_next_revision(name: str, data: dict[str, Any], acknowledged: str) -> bool:
    # A write can be stored and its answer lost with the process: then one revision more is there.
    if not name.startswith("burst:"):
        return False
    revision = int(data["text"].split()[1])
    return acknowledged == compute_hash({"title": name, "text": f"revision {revision - 1}"})


@asynccontextmanager
async def outbox(path: Path) -> AsyncIterator[OutboxQueue]:
    storage = SqliteOutbox(path)
    queue: OutboxQueue = OutboxQueue(storage)
    await queue.hydrate("outbox.demo")
    try:
        yield queue
    finally:
        await storage.close()


async def story(folder: Path) -> None:
    began = time.perf_counter()
    pages = read_pages()
    server = Server(folder, free_port())
    acknowledged = Acknowledged()
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
            outbox(folder / "outbox.sqlite") as queue,
        ):
            sender = PushSender(client)
            await queue_while_offline(queue, sender, pages)

            server.start()
            await wait_until_healthy(client)
            say(f"2. The server is up on {client.base_url}. The outbox drains:")
            result = await drain_outbox(queue, sender, on_progress=show_progress)
            for name, page in pages.items():
                acknowledged.hashes[name] = compute_hash(page)
            if result.sent != len(pages) or queue.get():
                raise SystemExit(f"not everything was sent: {result}")

            say("3. Two people edit README.md at once.")
            acknowledged.hashes["README.md"] = await edit_together(client, "pages/README.md")

            contents = await pull(client, "contents")
            say(
                f"4. The table of contents, kept by the projection, in one GET ({contents['hash'][:12]}…):"
            )
            for entry in contents["data"]["items"]:
                say(f"   {entry['value']['words']:>6} words  {entry['value']['title']}")

            writes = await burst_until_killed(server, client, acknowledged)
            say(
                f"5. The server was killed with SIGKILL while {BURST_WRITERS} clients wrote; {writes} writes were acknowledged."
            )

            server.start()
            await wait_until_healthy(client)
            missing = await missing_after_restart(client, acknowledged)
            listed = {entry["id"] for entry in (await pull(client, "contents"))["data"]["items"]}
            missing += sorted(
                f"{name} (in the list)" for name in acknowledged.hashes.keys() - listed
            )
    finally:
        server.kill()
    if missing:
        raise SystemExit(f"LOST: {missing}")
    say(
        f"   Started again: all {len(acknowledged.hashes)} documents are there, byte for byte, and in the list."
    )
    await evidence.chapter(
        folder / "evidence", lambda text: say(text if text[0] == " " else f"6. {text}"),
        pages=page_files(), root=ROOT,
    )  # fmt: skip
    say("7. The project's own history travels as one pack.")
    script = Path(__file__).parent / "history.py"
    told = await asyncio.create_subprocess_exec(sys.executable, script, ROOT, folder / "history")
    if await told.wait():
        raise SystemExit("the history did not arrive")
    say(
        f"\nDone in {time.perf_counter() - began:.1f} s: {len(pages)} pages queued offline and delivered, 1 conflict merged, "
        f"{writes} writes acknowledged before the kill, 0 lost."
    )


def keep_serving(folder: Path) -> None:
    """Let a person look at the outcome in the console, until Ctrl-C."""
    server = Server(folder, free_port())
    server.start()
    say(f"The console: http://127.0.0.1:{server.port}/console (Ctrl-C ends it)")
    try:
        if server.process is not None:
            server.process.wait()
    except KeyboardInterrupt:
        say("")
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="serve the outcome afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="starfish-demo-") as temporary:
        asyncio.run(story(Path(temporary)))
        if arguments.keep:
            keep_serving(Path(temporary))


if __name__ == "__main__":
    main()
