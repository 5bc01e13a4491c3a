"""A folder whose history is in its ``.mpack`` folder: status, commit, checkout."""

from starfish_mpack_wire.working_tree._name_folding import NameFolding
from starfish_mpack_wire.working_tree._tree import TreeStatus, WorkingTree

__all__ = ("NameFolding", "TreeStatus", "WorkingTree")
