"""Bearer tokens in a file that holds only their hashes.

A token is 256 random bits, so its SHA-256 cannot be searched for: a slow key derivation would
protect a guessable secret, which this is not, and would cost every request its milliseconds.

Rule 1: the file changes under a lock, by `starfish_disk.durable.replace_file`; a reader sees the old
or the new. Rule 2: a file that is missing or damaged grants nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starfish_disk.durable import hold_lock, replace_file
from starfish_disk.errors import DiskError
from starfish_http.callers._token_text import (
    DamagedTokensError,
    TokenRecord,
    free_name,
    parse_tokens,
    write_tokens,
)
from starfish_http.errors import TokenFileError
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("TokenFile",)

_LOG = logging.getLogger(__name__)
_IDENTITY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
_LOCK_S = 10.0
"""How long a change waits for another process that changes the file."""
_MAX_TOKEN_LENGTH = 512
_GRANTED_BY_A_SERVER = {"public", "self"}


class TokenFile:
    """The tokens of one file; what other processes change is seen by the next call.

    Reads the JSON that it writes and the lines of earlier registries, which become JSON with the
    first change. The constructor does no I/O.

    Args:
        path: the file; it need not exist before the first `create`.
        clock: what expiry is measured by.

    Examples:
        >>> import tempfile
        >>> tokens = TokenFile(Path(tempfile.mkdtemp()) / "tokens.json")
        >>> token = tokens.create("ada", roles=["staff"])
        >>> tokens.identify(token).identity, tokens.identify("sft_wrong")
        ('ada', None)
        >>> tokens.revoke("ada"), tokens.identify(token)
        (True, None)
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

    def identify(self, token: str, *, look: bool = True) -> TokenRecord | None:
        """The record of a token that is good at this moment; ``None`` for any other text.

        Costs one ``stat``, and reading the file when it has changed. Takes the same time for a
        token that is nearly right as for any other: only hashes are compared, which a caller
        cannot steer.

        Args:
            token: its text.
            look: ``False`` answers as of the last `refresh` and does no I/O.

        Raises:
            TokenFileError: the file cannot be read or is damaged; no token is good until it is
                repaired.
        """
        if len(token) > _MAX_TOKEN_LENGTH:
            return None
        if look:
            self.refresh()
        digest = _hash_of(token)
        found = self._by_hash.get(digest)
        if found is None or not hmac.compare_digest(found.hash, digest):
            return None
        return None if found.is_expired(self._clock.now_ms()) else found

    def has_changed(self) -> bool:
        """Whether the file differs from the one that was read last; one ``stat``.

        Raises:
            TokenFileError: there is no file, or it cannot be looked at.
        """
        return self._stamp() != self._version

    def refresh(self) -> bool:
        """Read the file if it has changed since the last time; a command calls it to check a file.

        Returns:
            Whether it had.

        Raises:
            TokenFileError: it cannot be read or is damaged; no token is good until it is repaired.
        """
        version = self._stamp()
        if version == self._version:
            return False
        try:
            self._by_hash = {record.hash: record for record in self._read()}
        except (OSError, TokenFileError) as error:
            self._forget()
            if isinstance(error, TokenFileError):
                raise
            raise TokenFileError(self._path, error.strerror or str(error)) from error
        self._version = version
        return True

    def records(self) -> list[TokenRecord]:
        """Every token in the file, expired ones included, oldest first; none when there is no file.

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
        namespaces: Sequence[str] | None = None,
        scope_paths: Sequence[str] | None = None,
    ) -> str:
        """Add a token; on disk, in a file of mode 0600, when this returns.

        Args:
            identity: who will present it: 1 to 200 printable ASCII characters.
            roles: what they may be; ``public`` and ``self`` are not for a file to grant.
            name: what it is revoked by; ``None`` for the identity, numbered when taken.
            expires_ms: milliseconds since the epoch from which it is refused.
            pubkey: Ed25519 public key that its presenter signs with, 64 lowercase hex digits.
            namespaces: the only ones it is good for.
            scope_paths: globs over the only keys it reaches, as in `Caller`.

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
                name=free_name(identity, names) if name is None else name,
                identity=identity,
                roles=list(roles),
                hash=_hash_of(token),
                created=self._clock.now_ms(),
                expires=expires_ms,
                pubkey=pubkey,
                namespaces=None if namespaces is None else list(namespaces),
                scope_paths=None if scope_paths is None else list(scope_paths),
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
        for reason in self._problems(record, names):
            raise TokenFileError(self._path, reason)

    def _problems(self, record: TokenRecord, names: set[str]) -> Generator[str]:
        if _IDENTITY.fullmatch(record.identity) is None:
            yield (
                f"identity {record.identity!r:.220} is refused; it must be 1 to 200 printable "
                "ASCII characters without outer spaces"
            )
        if not record.name or not record.name.isprintable():
            yield f"name {record.name!r} is refused; it must be printable text"
        if record.name in names:
            yield f"name {record.name!r} is taken; it must be one that is not listed yet"
        if record.expires is not None and record.expires <= record.created:
            yield f"expiry {record.expires} is in the past; it must be after {record.created}"
        if record.pubkey is not None and re.fullmatch("[0-9a-f]{64}", record.pubkey) is None:
            yield f"public key {record.pubkey!r:.80} is refused; it must be 64 lowercase hex digits"
        yield from _list_problems(record)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            self._forget()
            raise TokenFileError(self._path, error.strerror or str(error)) from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _forget(self) -> None:
        self._by_hash = {}
        self._version = None

    def _read(self) -> list[TokenRecord]:
        with self._path.open("rb") as file:
            raw = file.read()
        if self._path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            _LOG.warning("token file %s is open to others; chmod 600 closes it", self._path)
        try:
            return parse_tokens(raw)
        except DamagedTokensError as error:
            reason = f"damaged in {error}; no token of it is good"
            raise TokenFileError(self._path, reason) from None

    @contextmanager
    def _changing(self) -> Generator[list[TokenRecord]]:
        try:
            # The lock is on a file of its own: the token file itself is replaced.
            with hold_lock(f"{self._path}.lock", timeout_s=_LOCK_S):
                records = self.records()
                before = list(records)
                yield records
                if records != before:
                    replace_file(self._path, write_tokens(records))
        except DiskError as error:
            raise TokenFileError(self._path, error.reason) from error


def _is_plain(text: str) -> bool:
    return bool(text) and text == text.strip() and text.isprintable()


def _hash_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _list_problems(record: TokenRecord) -> Generator[str]:
    for role in record.roles:
        if role in _GRANTED_BY_A_SERVER:
            yield f"role {role!r} is the server's to grant; it must be any other"
        if not _is_plain(role):
            yield f"role {role!r} is refused; it must be text without outer spaces"
    for what, values in (("namespace", record.namespaces), ("scope", record.scope_paths)):
        if values is not None and not values:
            yield f"an empty list of {what}s is refused; leave it out, or name at least one"
        for value in values or ():
            if not _is_plain(value):
                yield f"{what} {value!r} is refused; it must be text without outer spaces"
