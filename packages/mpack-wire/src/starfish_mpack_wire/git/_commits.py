"""A commit of git as a commit of ours, and back to the same bytes.

Parts that our record has no field for are in its metadata:

* ``git.id``: the SHA-1 that the commit had.
* ``git.header``: its header lines behind ``tree`` and ``parent``: author, committer, encoding, signature.
* ``git.trees``: a JSON object of the folders whose trees are odd (see ``_trees``): path to SHA-1, ``""`` for the top one.
* ``git.raw``: the whole commit in base64, only where the others do not give its bytes again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import cast

from starfish_mpack_wire._model.records import CommitRecord

__all__ = (
    "GIT_ID",
    "fields_of",
    "git_bytes_of",
    "native_bytes_of",
    "odd_trees_of",
)

GIT_ID, GIT_HEADER, GIT_TREES, GIT_RAW = "git.id", "git.header", "git.trees", "git.raw"
BRANCH = "git"
"""Git does not know on which branch a commit was made, so all have the same word here."""
PERSON = re.compile(rb"(author|committer) (.*) (-?\d+) ([+-]\d{2,4})", re.DOTALL)
NAMED = re.compile(r"(.*?)\s*<([^<>]*)>\s*", re.DOTALL)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fields_of(raw: bytes, git_id: str, odd_trees: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a commit of ours that come from one of git: all but its snapshot and parents.

    Args:
        raw: the commit of git.
        git_id: its SHA-1.
        odd_trees: path to SHA-1 of the folders whose trees are odd.
    """
    header, _, message = raw.partition(b"\n\n")
    lines = header.split(b"\n")
    rest = [line for line in lines if not line.startswith((b"tree ", b"parent "))]
    encoding = next((line[9:] for line in rest if line.startswith(b"encoding ")), b"utf-8")
    people = {
        match[1]: match for match in (PERSON.fullmatch(line) for line in rest) if match is not None
    }
    author, committer = people.get(b"author"), people.get(b"committer")
    metadata = {GIT_ID: git_id}
    if odd_trees:
        metadata[GIT_TREES] = json.dumps(dict(odd_trees), sort_keys=True, ensure_ascii=False)
    text = _decoded(message, encoding)
    try:
        metadata[GIT_HEADER] = b"\n".join(rest).decode()
        parents = [line for line in lines if line.startswith(b"parent ")]
        again = _joined(lines, metadata[GIT_HEADER], text)
        kept = again == raw and len(set(parents)) == len(parents)
    except UnicodeError:
        kept = False
        metadata.pop(GIT_HEADER, None)
    if not kept:
        metadata[GIT_RAW] = base64.b64encode(raw).decode()
    return {
        "branch": BRANCH,
        "message": text,
        "author": _decoded(author[2], encoding) if author else "unknown",
        "committed_at": _iso_time(committer),
        "metadata": metadata,
    }


def git_bytes_of(record: CommitRecord, tree: str, parents: Sequence[str]) -> bytes | None:
    """The bytes of a commit that came from git, with this tree and these parents.

    ``None`` when the metadata do not tell them: it did not come from git, or not with these.
    """
    metadata = record.get("metadata", {})
    lines = [f"tree {tree}".encode(), *(f"parent {parent}".encode() for parent in parents)]
    if GIT_RAW in metadata:
        try:
            raw = base64.b64decode(metadata[GIT_RAW], validate=True)
        except ValueError:
            return None
        header = raw.partition(b"\n\n")[0].split(b"\n")
        named = [line for line in header if line.startswith((b"tree ", b"parent "))]
        # A parent that git names twice stands once in our record.
        return raw if list(dict.fromkeys(named)) == lines else None
    if GIT_HEADER not in metadata:
        return None
    return _joined(lines, metadata[GIT_HEADER], record["message"])


def native_bytes_of(record: CommitRecord, tree: str, parents: Sequence[str]) -> bytes:
    """The bytes of a commit that was made here."""
    named = NAMED.fullmatch(record["author"])
    name, address = (named[1], named[2]) if named else (record["author"], "")
    person = re.sub(r"[\x00-\x1f\x7f<>]", " ", name).strip() or "unknown"
    address = re.sub(r"[\x00-\x1f\x7f<>\s]", "", address)
    moment = datetime.fromisoformat(record["committed_at"])
    offset = moment.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    line = f"{person} <{address}> {int(moment.timestamp())} {zone}"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"author {line}", f"committer {line}", "", record["message"]]
    return "\n".join(lines).encode()


def odd_trees_of(record: CommitRecord) -> dict[str, str]:
    """Return the folders of a commit whose trees are odd: path to SHA-1."""
    text = record.get("metadata", {}).get(GIT_TREES)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {path: str(sha) for path, sha in cast("dict[str, object]", found).items()}


def _joined(lines: Sequence[bytes], header: str, message: str) -> bytes:
    first = [line for line in lines if line.startswith((b"tree ", b"parent "))]
    return b"\n".join([*first, header.encode()]) + b"\n\n" + message.encode()


def _decoded(data: bytes, encoding: bytes) -> str:
    for name in ("utf-8", encoding.decode("ascii", "replace"), "latin-1"):
        try:
            return data.decode(name)
        except (UnicodeError, LookupError, ValueError):
            continue
    return data.decode("latin-1")


def _iso_time(committer: re.Match[bytes] | None) -> str:
    """The time of a commit, to the second; 1970 where no calendar has it, the header keeps it."""
    if committer is None:
        return EPOCH.isoformat()
    seconds, zone = int(committer[3]), committer[4].decode()
    sign = -1 if zone[0] == "-" else 1
    hours, minutes = int(zone[1:3]), int(zone[3:5] or 0)
    offset = UTC
    if hours < 24 and minutes < 60:
        offset = timezone(sign * timedelta(hours=hours, minutes=minutes))
    try:
        return (EPOCH + timedelta(seconds=seconds)).astimezone(offset).isoformat()
    except (OverflowError, ValueError):
        return EPOCH.isoformat()
