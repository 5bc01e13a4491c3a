"""The console in a real browser: no error, no other host, no barrier, at each width and in the dark."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(120)]

_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SERVICE = Path(__file__).with_name("browser_service.py")


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    return found


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker's script."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--silent",
        "--ignore-scripts",
        "axe-core@4",
    ]
    if subprocess.run(command, cwd=folder, check=False).returncode != 0:
        pytest.skip("axe-core cannot be had from the npm registry")
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a few documents; its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    data = tmp_path_factory.mktemp("data")
    process = subprocess.Popen([sys.executable, str(_SERVICE), str(data), str(port)])
    try:
        for _ in range(300):
            try:
                httpx.get(f"{base}/health", timeout=2)
                break
            except httpx.TransportError:
                asyncio.run(asyncio.sleep(0.1))
        for number in range(60):
            body = {"data": {"title": f"Page {number}", "text": "word " * number}, "baseHash": None}
            httpx.post(f"{base}/push/pages/{number:02}", json=body).raise_for_status()
        yield base
    finally:
        process.terminate()
        process.wait(20)


class Watched:
    """A page, and what went wrong on it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.wrong: list[str] = []
        page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on(
            "request",
            lambda r: None if r.url.startswith((base, "data:")) else self.wrong.append(r.url),
        )

    async def open(self, path: str) -> None:
        await self.page.goto(self.base + path, wait_until="load")


@asynccontextmanager
async def browsing(
    chromium: str, base: str, *, width: int = 1200, is_dark: bool = False
) -> AsyncIterator[Watched]:
    async with async_playwright() as playwright:
        browser: Browser = await playwright.chromium.launch(
            executable_path=chromium, args=_FLAGS, chromium_sandbox=False
        )
        try:
            context = await browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme="dark" if is_dark else "light",
                bypass_csp=False,
            )
            yield Watched(await context.new_page(), base)
        finally:
            await browser.close()


PAGES = [
    "/",
    "/console",
    "/console/collection?name=pages",
    "/console/document?collection=pages&path=pages/07",
    "/console/feed",
    "/console/api",
    "/console/sign-in",
    "/console/part/demo/overview",
    "/console/collection?name=nowhere",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_without_error_barrier_and_other_host(
    chromium: str, service: str, axe: str, scheme: str
) -> None:
    async with browsing(chromium, service, is_dark=scheme == "dark") as watched:
        found: dict[str, list[str]] = {}
        for path in PAGES:
            await watched.open(path)
            await watched.page.evaluate(axe)
            result = await watched.page.evaluate("axe.run()")
            found[path] = [
                f"{each['id']}: {each['nodes'][0]['html']}"
                for each in result["violations"]
                if each["impact"] in {"serious", "critical"}
            ]

        assert {path: each for path, each in found.items() if each} == {}
        assert [each for each in watched.wrong if "404" not in each] == []


async def test_nothing_is_cut_off_at_400_pixels(chromium: str, service: str) -> None:
    async with browsing(chromium, service, width=400) as watched:
        for path in PAGES:
            await watched.open(path)
            widths = await watched.page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert widths[0] <= widths[1], path


async def test_a_list_grows_in_place_and_the_keyboard_reaches_it(
    chromium: str, service: str
) -> None:
    async with browsing(chromium, service) as watched:
        await watched.open("/console/collection?name=pages")
        rows = watched.page.locator("tbody tr")
        before = await rows.count()
        more = watched.page.get_by_role("link", name="Show more")
        await more.focus()
        await watched.page.keyboard.press("Enter")
        await watched.page.get_by_role("link", name="pages/59").wait_for()

        assert before == 51  # fifty, and the way on
        assert await rows.count() == 60
        assert watched.page.url.endswith("name=pages")
        assert watched.wrong == []


async def test_the_first_tab_stop_skips_to_the_content(chromium: str, service: str) -> None:
    async with browsing(chromium, service) as watched:
        await watched.open("/console")
        await watched.page.keyboard.press("Tab")
        focused = await watched.page.evaluate("document.activeElement.textContent")

        assert focused == "Skip to the content"


async def test_a_write_appears_in_the_feed(chromium: str, service: str) -> None:
    async with browsing(chromium, service) as watched:
        await watched.open("/console/feed")
        await watched.page.get_by_text("Connected.").wait_for()
        async with httpx.AsyncClient(base_url=service) as client:
            body = {"data": {"title": "New", "text": ""}, "baseHash": None}
            name = f"live-{await watched.page.evaluate('Date.now()')}"
            (await client.post(f"/push/pages/{name}", json=body)).raise_for_status()
        await watched.page.get_by_role("link", name=f"pages/{name}").click()
        await watched.page.get_by_role("heading", name=f"pages/{name}").wait_for()

        assert watched.wrong == []


async def test_a_file_that_is_chosen_is_looked_at(
    chromium: str, service: str, tmp_path: Path
) -> None:
    (tmp_path / "some.bin").write_bytes(b"twelve bytes")
    async with browsing(chromium, service) as watched:
        await watched.open("/console/part/demo/overview")
        await watched.page.set_input_files("#file", tmp_path / "some.bin")
        await watched.page.get_by_text("12 bytes").wait_for()

        assert watched.wrong == []
