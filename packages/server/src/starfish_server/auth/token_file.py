"""Bearer tokens in a JSON file that holds only their hashes.

A token is 256 random bits, so its SHA-256 cannot be searched for: a slow key derivation would
protect a guessable secret, which this is not, and would cost every request its milliseconds.

Rule 1: the file changes under a lock, by writing a new one beside it, fsync and rename; a reader
sees the old or the new. Rule 2: a file that is missing or damaged grants nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.auth.errors import TokenFileError
from starfish_server.config.path_template import PARAMETER_VALUE

__all__ = ("TokenFile", "TokenRecord")

_TOKEN = re.compile(r"sft_[A-Za-z0-9_-]{43}")
_Hex256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_GRANTED_BY_THE_SERVER = {"public", "self"}


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One token, without its secret."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str
    """What it is revoked by; unique in its file."""
    identity: str
    """Who presents it."""
    roles: list[str]
    hash: _Hex256
    """SHA-256 of the token's text, lowercase hex."""
    created: int
    """Milliseconds since the epoch."""
    expires: int | None = None
    """Milliseconds since the epoch from which it is refused; ``None`` for never."""
    pubkey: _Hex256 | None = None
    """Ed25519 public key that its presenter signs with, lowercase hex."""

    def is_expired(self, now_ms: int) -> bool:
        """Whether the token is refused at this time."""
        return self.expires is not None and self.expires <= now_ms


@dataclass(frozen=True, slots=True)
class _Content:
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    version: Literal[1]
    tokens: list[TokenRecord]


_CONTENT = TypeAdapter(_Content)


class TokenFile:
    """The tokens of one file; what other processes change is seen after `refresh`.

    The constructor does no I/O.

    Args:
        path: the file; it need not exist before the first `create`.
        clock: what expiry is measured by.

    Examples:
        >>> import tempfile
        >>> tokens = TokenFile(Path(tempfile.mkdtemp()) / "tokens.json")
        >>> token = tokens.create("ada", roles=["staff"])
        >>> tokens.refresh()
        True
        >>> tokens.find(token).identity, tokens.find("sft_wrong")
        ('ada', None)
    """

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        self._path = Path(path)
        self._clock = clock or SystemClock()
        self._version: tuple[int, int, int] | None = None
        self._by_hash: dict[str, TokenRecord] = {}

    @property
    def path(self) -> Path:
        """Where the tokens are kept."""
        return self._path

    def find(self, token: str) -> TokenRecord | None:
        """The record of a token, expired or not, as of the last `refresh`; does no I/O.

        Takes the same time for a token that is nearly right as for any other: only hashes are
        compared, which a caller cannot steer.
        """
        if _TOKEN.fullmatch(token) is None:
            return None
        digest = _hash_of(token)
        found = self._by_hash.get(digest)
        return found if found is not None and hmac.compare_digest(found.hash, digest) else None

    def refresh(self) -> bool:
        """Read the file again if it changed since the last time.

        Returns:
            Whether it changed.

        Raises:
            TokenFileError: it cannot be read or is damaged; no token is valid until it is repaired.
        """
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._version:
                return False
            self._by_hash = {record.hash: record for record in self._read()}
            self._version = version
        except (OSError, TokenFileError) as error:
            self._by_hash = {}
            self._version = None
            if isinstance(error, TokenFileError):
                raise
            raise TokenFileError(self._path, error.strerror or str(error)) from error
        return True

    def records(self) -> list[TokenRecord]:
        """Every token in the file, oldest first; none when there is no file.

        Raises:
            TokenFileError: the file cannot be read or is damaged.
        """
        try:
            return self._read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TokenFileError(self._path, error.strerror or str(error)) from error

    def create(
        self,
        identity: str,
        *,
        roles: Sequence[str] = (),
        name: str | None = None,
        expires_ms: int | None = None,
        pubkey: str | None = None,
    ) -> str:
        """Add a token; on disk when this returns.

        Args:
            identity: who will present it.
            roles: what they may be; ``public`` and ``self`` are not for a file to grant.
            name: what it is revoked by; ``None`` for the identity, numbered when taken.
            expires_ms: milliseconds since the epoch from which it is refused.
            pubkey: Ed25519 public key that its presenter signs with, 64 lowercase hex digits.

        Returns:
            The token. Only its hash is kept, so this is the one time it can be seen.

        Raises:
            TokenFileError: a value is refused, the name is taken, or the file cannot be written;
                the file is as before.
        """
        token = f"sft_{secrets.token_urlsafe(32)}"
        with self._changing() as records:
            names = {record.name for record in records}
            record = TokenRecord(
                name=_free_name(identity, names) if name is None else name,
                identity=identity,
                roles=list(roles),
                hash=_hash_of(token),
                created=self._clock.now_ms(),
                expires=expires_ms,
                pubkey=pubkey,
            )
            self._check(record, names)
            records.append(record)
        return token

    def revoke(self, name: str) -> bool:
        """Remove the token of this name; off the disk when this returns.

        Returns:
            Whether there was one.

        Raises:
            TokenFileError: the file cannot be read, is damaged or cannot be written.
        """
        with self._changing() as records:
            kept = [record for record in records if record.name != name]
            found = len(kept) < len(records)
            records[:] = kept
        return found

    def _check(self, record: TokenRecord, names: set[str]) -> None:
        reason: str | None = None
        if PARAMETER_VALUE.fullmatch(record.identity) is None or ".." in record.identity:
            reason = (
                f"identity {record.identity!r} fits no path; it may hold only A-Z a-z 0-9 . _ : @ -"
            )
        elif not record.name or not record.name.isprintable():
            reason = f"name {record.name!r} is refused; it must be printable text"
        elif record.name in names:
            reason = f"name {record.name!r} is taken; it must be a name that is not listed yet"
        elif record.expires is not None and record.expires <= record.created:
            reason = "the expiry is in the past; it must be a later time"
        elif record.pubkey is not None and re.fullmatch("[0-9a-f]{64}", record.pubkey) is None:
            reason = "the public key is not an Ed25519 key; it must be 64 lowercase hex digits"
        for role in record.roles:
            if role in _GRANTED_BY_THE_SERVER:
                reason = f"role {role!r} is the server's to grant; the file must name another role"
            elif not role or role != role.strip() or not role.isprintable():
                reason = f"role {role!r} is refused; it must be text without outer spaces"
        if reason is not None:
            raise TokenFileError(self._path, reason)

    def _read(self) -> list[TokenRecord]:
        raw = self._path.read_bytes()
        try:
            return _CONTENT.validate_json(raw).tokens
        except ValidationError as error:
            # The message would quote the content; the places are enough to find the mistake.
            places = {".".join(map(str, each["loc"])) or "its text" for each in error.errors()}
            raise TokenFileError(
                self._path, f"damaged in {', '.join(sorted(places))}; no token is valid"
            ) from None

    @contextmanager
    def _changing(self) -> Generator[list[TokenRecord]]:
        try:
            # The lock is on a file of its own: the token file itself is replaced.
            lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                records = self.records()
                before = list(records)
                yield records
                if records != before:
                    self._write(records)
            finally:
                os.close(lock)
        except OSError as error:
            raise TokenFileError(self._path, error.strerror or str(error)) from error

    def _write(self, records: list[TokenRecord]) -> None:
        content = {"version": 1, "tokens": [asdict(record) for record in records]}
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(content, indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _free_name(identity: str, names: set[str]) -> str:
    number, name = 1, identity
    while name in names:
        number += 1
        name = f"{identity}-{number}"
    return name
