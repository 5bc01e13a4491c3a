"""A queue as one JSON array under one key of a key/value store, and such a store in files."""
