"""Every cap of the package, its default and why.

A cap bounds what a peer can make this side read, allocate or compute; none is a matter of taste.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Limits",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on what a peer may send. All sizes are bytes.

    Examples:
        >>> Limits(max_wants=1).max_wants
        1
    """

    max_wants: int = 256
    """Commits or branches that one fetch may ask for: each is a start of a walk."""
    max_haves: int = 1024
    """Commits that one fetch may offer; a client's list grows with the logarithm of its history."""
    max_shallow: int = 4096
    """Commits that a client may hold without their parents; deeper fetches merge them."""
    max_depth: int = 1_000_000
    """Steps that a shallow fetch may ask for; more than any history has is a mistake."""
    max_path_prefixes: int = 256
    """Prefixes that a partial fetch may name: each path of each snapshot is compared with them."""
    max_wanted_blobs: int = 10_000
    """Single blobs that one request may ask for."""
    max_message_bytes: int = 16 * 1024 * 1024
    """A request or an answer other than a pack: 100,000 refs and room to spare."""
    max_ref_updates: int = 100_000
    """Refs that one push may make, move or delete, all in one transaction."""

    max_pack_bytes: int = 16 * 1024**3
    """A pack as it is stored; larger histories travel in several."""
    max_commits: int = 1_000_000
    """Commits of one pack; each is 36 bytes of index."""
    max_snapshots: int = 1_000_000
    """Snapshots of one pack; each is 36 bytes of index."""
    max_blobs: int = 5_000_000
    """Blobs of one pack; each is 56 bytes of index."""
    max_foreign_ids: int = 5_000_000
    """Ids of objects that a pack names and does not hold; each is 32 bytes."""
    max_tags: int = 100_000
    """Tags of one pack."""
    max_blob_bytes: int = 4 * 1024**3
    """One blob. Above 1 MiB it is a list of chunks, that pass through memory one by one."""
    max_content_bytes: int = 4 * 1024**3
    """All blobs of a pack together, decompressed, where they are in memory at once."""
    max_unpacked_bytes: int = 64 * 1024**3
    """All blobs of a pack together, decompressed, where they pass through memory one by one."""
    max_group_bytes: int = 64 * 1024**2
    """One group of records, decompressed; a snapshot of 500,000 files is one record."""
    max_records_bytes: int = 1024**3
    """All records of one kind together, decompressed."""
    max_items: int = 1_024
    """Parents of one commit, pairs of its metadata, members of any list or map inside it. Msgpack makes
    room for all members of 1,024 lists in each other on the word of 3 KB: 8 MiB."""
    max_text_bytes: int = 1024**2
    """One text of a commit: message, author or a value of its metadata."""
    requests_per_minute: int = 6000
    """Of one caller, by identity or address; 0 for no limit. A clone is five, a push four."""
    build_wait_ms: int = 20_000
    """How long a fetch waits for its pack before it is told to ask again."""
    url_lifetime_ms: int = 3_600_000
    """How long a signed URL of a public repository works: one slow download."""
    private_url_lifetime_ms: int = 300_000
    """The same of a private one; a download that breaks later asks for a new URL."""
    upload_part_bytes: int = 16 * 1024**2
    """A larger pack is uploaded in parts of so many bytes; one that broke off costs no more than a part."""
    max_upload_parts: int = 10_000
    """Parts of one upload."""
    unpacking_bytes: int = 256 * 1024**2
    """Memory that all unpacking of a server may take for records, by their own claim; others wait. A pack that
    claims more runs alone."""
    max_owner_bytes: int = 0
    """Bytes of all packs that one owner may keep; 0 for no limit."""
    upload_lifetime_ms: int = 3_600_000
    """How long an upload may begin after it was granted."""
    upload_kept_ms: int = 7 * 86_400_000
    """How long uploads that no push took in wait to be taken up again; a server sweeps older ones when it starts."""
    max_boundary_snapshots: int = 64
    """Snapshots whose blobs a fetch leaves out; of more, some are sent that the client holds."""
