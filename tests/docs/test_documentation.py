"""Every Python block of the READMEs and of docs/ runs, page by page, and so does every docstring's example."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path
from types import CodeType, ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir())
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "packages").glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
)
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def python_blocks(page: Path) -> list[CodeType]:
    text = page.read_text()
    blocks = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        tree = ast.parse(match[1], str(page))
        ast.increment_lineno(tree, line)
        blocks.append(compile(tree, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    return blocks


async def run_page(blocks: list[CodeType]) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        result = eval(block, namespace)
        if inspect.iscoroutine(result):
            await result


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if FENCE.search(page.read_text())],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    blocks = python_blocks(page)

    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        if any(block.co_flags & inspect.CO_COROUTINE for block in blocks):
            asyncio.run(run_page(blocks))
        else:
            # A script, which may run an event loop of its own.
            namespace: dict[str, object] = {"__name__": "__main__"}
            for block in blocks:
                exec(block, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]

    missing = [target for target in targets if not (page.parent / target).exists()]

    assert missing == []


def public_modules() -> list[ModuleType]:
    modules = []
    for package in PACKAGES:
        root = importlib.import_module(f"starfish_{package.replace('-', '_')}")
        modules.append(root)
        modules += [
            importlib.import_module(info.name)
            for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
            if not info.name.endswith("__main__")
        ]
    return modules


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_the_examples_of_a_docstring_run(module: ModuleType, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)

    assert result.failed == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_a_page_and_stands_in_both_tables(package: str) -> None:
    assert (ROOT / "docs" / f"{package}.md").is_file()
    assert f"(packages/{package})" in (ROOT / "README.md").read_text()
    assert f"({package}.md)" in (ROOT / "docs" / "index.md").read_text()
