"""What a store needs of a disk: durable files, SQLite files, group commit, safe folders."""

from importlib.metadata import version

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

__all__ = (
    "DiskError",
    "NewFile",
    "Place",
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

__version__ = version("starfish-disk")
