"""Work on a store as a whole: backup, restore, export, import, compaction, verification."""

__all__ = ()
