"""A commit of git as a commit of ours, and back to the same bytes.

What our record has no field for is in its metadata:

* ``git.id``: the SHA-1 that the commit had.
* ``git.header``: its header lines behind ``tree`` and ``parent``: author, committer, encoding, signature.
* ``git.modes``: a JSON object of the files that are no plain ones: path to mode, ``100755`` for programs, ``120000`` for
  links (the file then holds where the link leads), ``160000 <id>`` for submodules, which have no file.
* ``git.raw``: the whole commit in base64, only where the others do not give its bytes again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import cast

from starfish_mpack_wire.records import CommitRecord

__all__ = (
    "GIT_ID",
    "GIT_MODES",
    "fields_of",
    "git_bytes_of",
    "modes_of",
    "native_bytes_of",
)

GIT_ID, GIT_HEADER, GIT_MODES, GIT_RAW = "git.id", "git.header", "git.modes", "git.raw"
BRANCH = "git"
"""Git does not know on which branch a commit was made, so all have the same word here."""
PERSON = re.compile(rb"(author|committer) (.*) (-?\d+) ([+-]\d{2,4})", re.DOTALL)
NAMED = re.compile(r"(.*?)\s*<([^<>]*)>\s*", re.DOTALL)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fields_of(raw: bytes, git_id: str, modes: Mapping[str, str]) -> dict[str, object]:
    """What a commit of ours takes from one of git: all but its snapshot and parents."""
    header, _, message = raw.partition(b"\n\n")
    lines = header.split(b"\n")
    rest = [line for line in lines if not line.startswith((b"tree ", b"parent "))]
    encoding = next((line[9:] for line in rest if line.startswith(b"encoding ")), b"utf-8")
    people = {
        match[1]: match for match in (PERSON.fullmatch(line) for line in rest) if match is not None
    }
    author, committer = people.get(b"author"), people.get(b"committer")
    metadata = {GIT_ID: git_id}
    if modes:
        metadata[GIT_MODES] = json.dumps(modes, sort_keys=True, ensure_ascii=False)
    text = _decoded(message, encoding)
    try:
        metadata[GIT_HEADER] = b"\n".join(rest).decode()
        kept = _joined(lines, metadata[GIT_HEADER], text) == raw
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
        return raw if named == lines else None
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


def modes_of(record: CommitRecord) -> dict[str, str]:
    """The files of a commit that are no plain ones: path to mode."""
    text = record.get("metadata", {}).get(GIT_MODES)
    if text is None:
        return {}
    try:
        modes = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(modes, dict):
        return {}
    return {path: str(mode) for path, mode in cast("dict[str, object]", modes).items()}


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
