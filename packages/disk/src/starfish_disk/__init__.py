"""What a store needs of a disk: durable files, SQLite files, group commit, safe folders."""

from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.durable import (
    NewFile,
    create_file,
    hold_lock,
    make_folder,
    new_file,
    remove_file,
    replace_file,
    sweep_leftovers,
    sync_file,
    sync_folder,
)
from starfish_disk.errors import DiskError
from starfish_disk.place import Place
from starfish_disk.safe_folder import SafeFolder
from starfish_disk.sqlite_batches import GroupCommit, SnapshotReads
from starfish_disk.sqlite_file import SqliteFile

__all__ = (
    "BatchThread",
    "Call",
    "DiskError",
    "GroupCommit",
    "NewFile",
    "Place",
    "SafeFolder",
    "SnapshotReads",
    "SqliteFile",
    "create_file",
    "hold_lock",
    "make_folder",
    "new_file",
    "remove_file",
    "replace_file",
    "sweep_leftovers",
    "sync_file",
    "sync_folder",
)

__version__ = "0.1.0"
