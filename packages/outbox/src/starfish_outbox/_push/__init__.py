"""Pushing documents to a Starfish server; needs the extra `http`."""
