"""The version is the distribution's, the core needs the standard library only, Windows may import."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import starfish_disk
from starfish_disk import errors
from starfish_disk.errors import DiskError


def test_the_version_is_the_distributions() -> None:
    assert starfish_disk.__version__ == importlib.metadata.version("starfish-disk")


def test_every_error_has_the_one_base_and_may_be_copied() -> None:
    kinds = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]

    assert len(kinds) == len([name for name in errors.__all__ if name.endswith("Error")])
    for kind in kinds:
        assert issubclass(kind, DiskError)
        error = (
            kind("path", "reason") if kind is not errors.NewerLayoutError else kind("path", 3, 2)
        )  # type: ignore[call-arg, arg-type]
        assert str(error.own_copy()) == str(error)
        assert str(error).startswith("path: ")


def test_the_core_imports_only_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import starfish_disk;"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "['starfish_disk']"


def test_where_a_primitive_is_missing_importing_works_and_the_first_use_says_so() -> None:
    program = """
import os, sys
import asyncio, concurrent.futures, logging, sqlite3, threading  # as they are on this system
for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
sys.modules["fcntl"] = None
sys.platform = "win32"
import starfish_disk
from starfish_disk.errors import UnsupportedError
uses = (
    lambda: starfish_disk.replace_file("x", b""),
    lambda: starfish_disk.make_folder("x"),
    lambda: starfish_disk.hold_lock("x", timeout_s=0).__enter__(),
    lambda: starfish_disk.SafeFolder("."),
    lambda: starfish_disk.SqliteFile("x", application_id=1, layouts=[[]]).connect(),
)
for use in uses:
    try:
        use()
    except UnsupportedError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 5
