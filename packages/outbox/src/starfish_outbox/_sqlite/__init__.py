"""Queues as rows of one SQLite file that several processes may share."""
