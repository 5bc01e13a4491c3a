"""Packages of files as evidence: an append-only event log, content by hash, proof of both."""
