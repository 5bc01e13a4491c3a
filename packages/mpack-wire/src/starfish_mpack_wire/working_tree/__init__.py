"""A folder whose history is in its ``.mpack`` folder: status, commit, checkout, merge."""

from starfish_mpack_wire._model.changes import Change, changes_between, text_of_change
from starfish_mpack_wire.working_tree._merging import MergeResult
from starfish_mpack_wire.working_tree._name_folding import NameFolding
from starfish_mpack_wire.working_tree._tree import TreeStatus, WorkingTree

__all__ = (
    "Change",
    "MergeResult",
    "NameFolding",
    "TreeStatus",
    "WorkingTree",
    "changes_between",
    "text_of_change",
)
