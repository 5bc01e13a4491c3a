"""The fuzzer's corpus, run without the fuzzer; each finding stays in it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
CORPUS = sorted((FUZZ / "corpus").iterdir())
ACCEPTED = ("whole", "sealed", "section-", "records-", "blobs-")


@pytest.fixture(scope="module")
def check_input():
    return runpy.run_path(str(FUZZ / "fuzz_pack.py"))["check_input"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_an_input_is_accepted_whole_or_refused_with_one_of_three_errors(path, check_input) -> None:
    accepted = check_input(path.read_bytes())

    assert accepted is path.name.startswith(ACCEPTED)
