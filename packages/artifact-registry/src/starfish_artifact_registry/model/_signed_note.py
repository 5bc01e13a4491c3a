"""Signed notes (C2SP ``signed-note``): a text, and lines that say who signed it.

::

    the text, which ends in a newline

    — example.org/log Zm9v…

Each line names a key and holds, in base64, four bytes that identify it and the signature. Rule 1: a
signature counts only for a key that the caller brought; lines of unknown keys are kept and mean
nothing. Rule 2: Ed25519 signatures (type 1) are over the text, cosignatures of witnesses (type 4,
``cosignature/v1``) over their time and the text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self

from starfish_artifact_registry.errors import CheckpointError
from starfish_artifact_registry.model._checkpoint import ed25519_of, key_bytes
from starfish_artifact_registry.model._moment import from_ms, to_ms

__all__ = ("NoteKey", "NoteSignature", "SignedNote", "cosign_note", "note_key_of", "sign_note")

_SIGNER: Final = 1
_WITNESS: Final = 4
_NAME: Final = re.compile(r"[^\s+]{1,255}")
_LINE: Final = re.compile(r"— ([^\s+]{1,255}) ([A-Za-z0-9+/]{8,200}={0,2})")
_MAX_BYTES: Final = 64 * 1024
_MAX_SIGNATURES: Final = 100


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that may have signed a note.

    Examples:
        >>> key = NoteKey("example.org/log", bytes(32))
        >>> NoteKey.parse(str(key)) == key
        True
    """

    name: str
    """Of the signer, by convention a URL without its scheme; without white space and plus signs."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    is_witness: bool = False
    """Whether it makes cosignatures, which hold their time."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise CheckpointError(
                f"{self.name!r:.80} is not a name of a key: it must have 1 to 255 characters, "
                "none of them white space or a plus sign"
            )
        if len(self.public_key) != 32:
            raise CheckpointError(f"a public key is 32 bytes, not {len(self.public_key)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key as tools of transparency logs write it: ``name+hash+base64``.

        Raises:
            CheckpointError: it is not such a text, or its hash is of another key.
        """
        name, _, rest = text.partition("+")
        digits, _, encoded = rest.partition("+")
        data = _decoded(encoded)
        if data is None or len(data) != 33 or data[0] not in {_SIGNER, _WITNESS}:
            raise CheckpointError(
                f"{text!r:.120} is not a key of a note; it must be name+8 hex digits+base64 of "
                "an Ed25519 key"
            )
        key = cls(name, data[1:], data[0] == _WITNESS)
        if key.key_id.hex() != digits:
            raise CheckpointError(f"{text!r:.120} has the hash of another key")
        return key

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.name}+{self.key_id.hex()}+{_encoded(self._typed())}"

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before each signature of this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed()).digest()[:4]

    def _typed(self) -> bytes:
        return bytes([_WITNESS if self.is_witness else _SIGNER]) + self.public_key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line below a note."""

    name: str
    """Of the key."""
    key_id: bytes
    """Four bytes that identify the key."""
    signature: bytes
    """What the key made; for a witness eight bytes of time and 64 of the signature."""

    def __str__(self) -> str:
        """The line."""
        return f"— {self.name} {_encoded(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and its signatures."""

    text: str
    """Ends in a newline."""
    signatures: tuple[NoteSignature, ...]
    """In the order of the lines; not checked."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a note; no signature is checked.

        Raises:
            CheckpointError: it is not a signed note.
        """
        if len(data) > _MAX_BYTES:
            raise CheckpointError(f"a signed note has at most {_MAX_BYTES} bytes")
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"not a signed note: {error}") from error
        text, separator, lines = whole.rpartition("\n\n")
        if not separator or not lines.endswith("\n") or _has_control(whole):
            raise CheckpointError(
                "not a signed note: it must be a text, an empty line and lines of signatures"
            )
        signatures = tuple(_signature(line) for line in lines.removesuffix("\n").split("\n"))
        if len(signatures) > _MAX_SIGNATURES:
            raise CheckpointError(f"a signed note has at most {_MAX_SIGNATURES} signatures")
        return cls(f"{text}\n", signatures)

    def encode(self) -> bytes:
        """Give the bytes that `decode` reads."""
        lines = "".join(f"{signature}\n" for signature in self.signatures)
        return f"{self.text}\n{lines}".encode()

    def signers(self, keys: Collection[NoteKey]) -> dict[NoteKey, datetime | None]:
        """Which of these keys signed it; for a witness, when.

        Raises:
            CheckpointError: a line names one of the keys, and its signature is wrong.
            ImportError: the extra ``signing`` is not installed.
        """
        found: dict[NoteKey, datetime | None] = {}
        for key in keys:
            for line in self.signatures:
                if (line.name, line.key_id) == (key.name, key.key_id):
                    found[key] = self._verified(line, key)
        return found

    def check(self, keys: Collection[NoteKey], *, quorum: int | None = None) -> None:
        """Return if enough of these keys signed it.

        Args:
            keys: the keys that are trusted.
            quorum: how many of them; ``None`` for all.

        Raises:
            CheckpointError: fewer did, or a signature is wrong.
            ImportError: the extra ``signing`` is not installed.
        """
        needed = len(set(keys)) if quorum is None else quorum
        found = self.signers(keys)
        if not found or len(found) < needed:
            raise CheckpointError(
                f"the note is signed by {len(found)} of the {len(set(keys))} keys, "
                f"not by the {max(needed, 1)} that are needed"
            )

    def with_signatures(self, other: SignedNote) -> Self:
        """The same note with the signatures of both, such as what a witness sent back.

        Raises:
            CheckpointError: the other is a note of another text.
        """
        if other.text != self.text:
            raise CheckpointError("the two notes have different texts")
        new = [line for line in other.signatures if line not in self.signatures]
        return replace(self, signatures=(*self.signatures, *new))

    def _verified(self, line: NoteSignature, key: NoteKey) -> datetime | None:
        from cryptography.exceptions import InvalidSignature

        message, signature = self.text.encode(), line.signature
        seconds = int.from_bytes(signature[:8])
        if key.is_witness:
            message, signature = _cosigned(self.text, seconds), signature[8:]
        try:
            ed25519_of().Ed25519PublicKey.from_public_bytes(key.public_key).verify(
                signature, message
            )
            moment = from_ms(seconds * 1000) if key.is_witness else None
        except (InvalidSignature, ValueError) as error:
            raise CheckpointError(f"the signature of {key.name} is wrong") from error
        return moment


def note_key_of(name: str, private_key: str, *, is_witness: bool = False) -> NoteKey:
    """The public half of a key, to be given to those who check notes.

    Args:
        name: of the signer.
        private_key: Ed25519 seed (RFC 8032), 64 lowercase hex digits.
        is_witness: whether it is going to cosign.

    Raises:
        ImportError: the extra ``signing`` is not installed.
        ValueError: the key is malformed.
    """
    return NoteKey(name, _private(private_key).public_key().public_bytes_raw(), is_witness)


def sign_note(text: str, *, name: str, private_key: str) -> SignedNote:
    """Sign a text as the log or author that it is of.

    Args:
        text: UTF-8 without control characters, ending in a newline.
        name: of the key.
        private_key: Ed25519 seed (RFC 8032), 64 lowercase hex digits.

    Raises:
        CheckpointError: the text is not one of a note.
        ImportError: the extra ``signing`` is not installed.
        ValueError: the key is malformed.
    """
    if not text.endswith("\n") or _has_control(text):
        raise CheckpointError("the text of a note must end in a newline and be without controls")
    key = note_key_of(name, private_key)
    signature = _private(private_key).sign(text.encode())
    return SignedNote(text, (NoteSignature(name, key.key_id, signature),))


def cosign_note(note: SignedNote, *, name: str, private_key: str, at: datetime) -> SignedNote:
    """Add the signature of a witness (C2SP ``tlog-cosignature``).

    A witness does this only for a tree that is consistent with the newest one that it has signed.

    Args:
        note: a checkpoint.
        name: of the witness.
        private_key: its Ed25519 seed, 64 lowercase hex digits.
        at: when, aware; cut to the second.
    """
    key = note_key_of(name, private_key, is_witness=True)
    seconds = to_ms(at) // 1000
    signature = _private(private_key).sign(_cosigned(note.text, seconds))
    line = NoteSignature(name, key.key_id, seconds.to_bytes(8) + signature)
    return replace(note, signatures=(*note.signatures, line))


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _private(private_key: str) -> Any:
    return ed25519_of().Ed25519PrivateKey.from_private_bytes(key_bytes(private_key, "private key"))


def _signature(line: str) -> NoteSignature:
    match = _LINE.fullmatch(line)
    data = None if match is None else _decoded(match[2])
    if match is None or data is None or len(data) < 5:
        raise CheckpointError(f"{line!r:.120} is not a line of a signature")
    return NoteSignature(match[1], data[:4], data[4:])


def _has_control(text: str) -> bool:
    return any(ord(character) < 32 and character != "\n" for character in text)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _encoded(data) == text else None
