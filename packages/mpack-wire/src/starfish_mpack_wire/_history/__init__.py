"""Decisions over a history: which commits to send, what a pack holds, which commits to offer. Nothing here does I/O."""
