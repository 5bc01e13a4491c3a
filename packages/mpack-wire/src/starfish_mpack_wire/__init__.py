"""Fetch, push and clone content-addressed history as one verified pack."""
