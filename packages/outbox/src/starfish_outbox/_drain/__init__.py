"""Sending entries: lanes, attempts, rests, one pass and a run of passes."""
