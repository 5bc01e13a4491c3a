"""The words of every page, message, help text, docstring and comment: the phrases that we do not use.

A sentence names its thing. Each pattern below stands beside the way to say it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHRASES = {
    r"\bwhoever\b": "name the person: the caller, the reader, the owner",
    r"\bwhat (?:is|are|was|were)\b": "name the thing: the stored documents, the reason, the content",
    r"(?<!there )\b(?:is|are|was|were) no\b(?! longer| more| later| earlier| less)": "say: is not a",
    r"\blegal (?:is|are)\b|\b(?:is|are) legal\b": "say: must be, or must be one of",
}
"""Each pattern, and what to write in its place."""


def pages() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.py", "*.md", "*.toml", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    names = listing.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("pattern", PHRASES)
def test_no_page_says_it(pattern: str) -> None:
    phrase = re.compile(pattern, re.IGNORECASE)

    found = [
        f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
        for page in pages()
        if page != Path(__file__)
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if phrase.search(line)
    ]

    assert found == [], f"{PHRASES[pattern]}:\n" + "\n".join(found)


def test_the_patterns_find_what_they_are_for() -> None:
    wrong = ("whoever asks", "what is stored", "x is no address", "legal is: a or b")
    right = ("there is no such file", "it is no longer there", "the caller", "must be one of a, b")

    hits = [any(re.search(p, text, re.IGNORECASE) for p in PHRASES) for text in (*wrong, *right)]

    assert hits == [True] * len(wrong) + [False] * len(right)
