"""Contracts that a store inherits as tests, and a disk that fails on purpose.

Needs the extra ``testing``: ``pip install --find-links dist "starfish-disk[testing]"``. Register the asserts before the
first import: ``pytest.register_assert_rewrite("starfish_disk.testing")``.
"""

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ImportError(
        'starfish_disk.testing needs the extra testing: pip install --find-links dist "starfish-disk[testing]"'
    )

from starfish_disk.testing._faulty_disk import Fault, FaultyDisk, PowerCut
from starfish_disk.testing._fork import ForkContract
from starfish_disk.testing._full_disk import FullDiskContract
from starfish_disk.testing._replaced_file import ReplacedFileContract
from starfish_disk.testing._sqlite_file import SqliteFileContract
from starfish_disk.testing._store import OpenStore, Store, StoreContract

__all__ = (
    "Fault",
    "FaultyDisk",
    "ForkContract",
    "FullDiskContract",
    "OpenStore",
    "PowerCut",
    "ReplacedFileContract",
    "SqliteFileContract",
    "Store",
    "StoreContract",
)
