"""Names that travel on the wire: paths, JSON fields, headers.

Client and server index untyped JSON with these, so that a rename is one edit and a typo an
``ImportError``.
"""

from __future__ import annotations

__all__ = (
    "AUTHOR_PUBKEY_FIELD",
    "AUTHOR_SIGNATURE_FIELD",
    "BASE_HASH_FIELD",
    "COLLECTIONS_FIELD",
    "CORS_ALLOW_HEADERS",
    "CURRENT_HASH_FIELD",
    "DATA_FIELD",
    "ERROR_FIELD",
    "HASH_FIELD",
    "HEADER_ACCEPT",
    "HEADER_AUTHORIZATION",
    "HEADER_CONTENT_TYPE",
    "HEADER_ETAG",
    "HEADER_IF_NONE_MATCH",
    "HEADER_NONCE",
    "HEADER_PUB",
    "HEADER_RETRY_AFTER",
    "HEADER_SIG",
    "HEADER_TS",
    "LIST_PATH_PREFIX",
    "PARQUET_MIME_TYPE",
    "PARQUET_MIME_TYPES",
    "PULL_PATH_PREFIX",
    "PUSH_PATH_PREFIX",
    "TIMESTAMP_FIELD",
    "TS_FIELD",
    "VERSION_FIELD",
)

PULL_PATH_PREFIX = "/pull/"
"""Before a document key, the path that reads it."""
PUSH_PATH_PREFIX = "/push/"
"""Before a document key, the path that writes it; what follows is the key an author signs."""
LIST_PATH_PREFIX = "/list/"
"""Before a prefix of document keys, the path that enumerates them."""

DATA_FIELD = "data"
"""The document itself, in requests, answers and stored documents."""
BASE_HASH_FIELD = "baseHash"
"""In a push: the hash of the document it was made from, or null for a new one."""
CURRENT_HASH_FIELD = "currentHash"
"""In a conflict: the hash that the server holds."""
HASH_FIELD = "hash"
"""64 lowercase hex digits, or the empty string for a document never written."""
TIMESTAMP_FIELD = "timestamp"
"""In answers: milliseconds since the epoch."""
TS_FIELD = "ts"
"""In stored documents and appended elements: milliseconds since the epoch."""
VERSION_FIELD = "v"
"""In stored documents: the layout's version, 1."""
COLLECTIONS_FIELD = "collections"
"""In batch, bundle and config answers: members by collection name."""
ERROR_FIELD = "error"
"""In refusals: a stable code or a sentence."""
AUTHOR_PUBKEY_FIELD = "authorPubkey"
"""Ed25519 public key of the author, 64 lowercase hex digits."""
AUTHOR_SIGNATURE_FIELD = "authorSignature"
"""Ed25519 signature of the author, base64."""

HEADER_ACCEPT = "Accept"
"""Media types that a client takes (RFC 9110, section 12.5.1)."""
HEADER_AUTHORIZATION = "Authorization"
"""The credential: ``Bearer`` with a token, or a capability."""
HEADER_CONTENT_TYPE = "Content-Type"
"""Media type of a body."""
HEADER_ETAG = "ETag"
"""Of an answer: the document's hash in double quotes."""
HEADER_IF_NONE_MATCH = "If-None-Match"
"""Of a pull: the entity tag that the client has already; the same version is answered with 304."""
HEADER_RETRY_AFTER = "Retry-After"
"""Of a refusal: seconds after which to try again."""

HEADER_SIG = "X-Starfish-Sig"
"""Signature of a request, base64."""
HEADER_TS = "X-Starfish-Ts"
"""The sender's clock, milliseconds since the epoch."""
HEADER_NONCE = "X-Starfish-Nonce"
"""base64 of 16 random bytes; taken once."""
HEADER_PUB = "X-Starfish-Pub"
"""The sender's key, where the certificate names no subject."""

CORS_ALLOW_HEADERS = [
    HEADER_AUTHORIZATION,
    HEADER_CONTENT_TYPE,
    HEADER_SIG,
    HEADER_TS,
    HEADER_NONCE,
    HEADER_PUB,
    "X-Requested-With",
]
"""Headers that a browser of another origin must be allowed to send."""

PARQUET_MIME_TYPE = "application/vnd.apache.parquet"
"""Media type of a Parquet file."""
PARQUET_MIME_TYPES = (PARQUET_MIME_TYPE, "application/x-parquet", "application/octet-stream")
"""Media types that Parquet files are sent with."""
