"""The format of an export: one file of JSON lines that any program can read.

The first line names the format and its version, the last one counts the documents and holds the
SHA-256 of every line before it, so that a file that was cut off or changed is noticed. Between them
stand the documents: a line each, with its ``text``; or, for bytes and for long texts, a line with
``parts`` and after it so many lines with ``base64``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from starfish_disk.durable import NewFile
from starfish_server.maintenance._errors import DamagedSourceError, MissingError

__all__ = ("PART_BYTES", "ExportReader", "ExportWriter", "ExportedValue")

FORMAT = "starfish-server-export"
VERSION = 1
PART_BYTES = 768 * 1024
"""Bytes of one part, and the length from which on a text is kept in parts."""
_LONGEST_LINE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExportedValue:
    """One value of an export; its body is read while the file stands at it."""

    key: str
    content_type: str
    hash: str | None
    written_at: int
    expires_at: int | None
    size: int
    pieces: Iterator[bytes] = field(compare=False)
    """The body, in order."""


class ExportWriter:
    """Writes an export into a file in the making.

    Args:
        file: published by the caller, after `end`.
    """

    def __init__(self, file: NewFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.documents = 0
        """Values written so far."""
        self._line({"format": FORMAT, "version": VERSION})

    def value(self, head: dict[str, Any], body: bytes) -> None:
        """Add a value that is in memory."""
        if len(body) <= PART_BYTES:
            try:
                self._line({**head, "text": body.decode()})
            except UnicodeDecodeError:
                pass
            else:
                self.documents += 1
                return
        self.begin(head, len(body))
        for start in range(0, len(body), PART_BYTES):
            self.part(body[start : start + PART_BYTES])

    def begin(self, head: dict[str, Any], size: int) -> None:
        """Add a value whose parts follow."""
        self._line({**head, "parts": -(-size // PART_BYTES)})
        self.documents += 1

    def part(self, piece: bytes) -> None:
        """Add one part of the last value."""
        self._line({"base64": base64.b64encode(piece).decode()})

    def end(self) -> None:
        """Add the last line."""
        self._line({"documents": self.documents, "sha256": self._digest.hexdigest()})

    def _line(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)


class ExportReader:
    """Reads an export; it is checked as a whole before the first value is given out.

    Args:
        path: of the file.

    Raises:
        MissingError: there is not a file.
        DamagedSourceError: it is not an export, was cut off, or was changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise MissingError(f"{path}: there is not a file here")
        self.documents = self._checked()
        """How many values there are."""

    def values(self) -> Generator[ExportedValue]:
        """Each value in turn; the body of one must be read before the next is asked for."""
        with self._path.open("rb") as file:
            number = 1
            file.readline(_LONGEST_LINE)
            for _ in range(self.documents):
                number += 1
                fields = self._parsed(file.readline(_LONGEST_LINE), number)
                parts = fields.get("parts", 0)
                yield self._value(fields, file, number)
                number += parts

    def _value(self, fields: dict[str, Any], file: IO[bytes], number: int) -> ExportedValue:
        def parts() -> Generator[bytes]:
            for at in range(fields["parts"]):
                line = self._parsed(file.readline(_LONGEST_LINE), number + at + 1)
                try:
                    yield base64.b64decode(line["base64"], validate=True)
                except (KeyError, TypeError, binascii.Error, ValueError) as error:
                    raise self._damaged(number + at + 1, "it holds no base64") from error

        try:
            text = fields.get("text")
            body = [] if text is None else [text.encode()]
            return ExportedValue(
                key=_text(fields["key"]),
                content_type=_text(fields["contentType"]),
                hash=None if fields["hash"] is None else _text(fields["hash"]),
                written_at=_number(fields["writtenAt"]),
                expires_at=None if fields["expiresAt"] is None else _number(fields["expiresAt"]),
                size=_number(fields["size"]),
                pieces=iter(body) if text is not None else parts(),
            )
        except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
            raise self._damaged(number, "it is not a value of an export") from error

    def _checked(self) -> int:
        digest = hashlib.sha256()
        documents = number = 0
        last: bytes | None = None
        with self._path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if number == 1:
                    self._check_head(line)
                if last is not None:
                    digest.update(last)
                    documents += self._is_value(last, number - 1)
                last = line
        end = {} if last is None else self._parsed(last, number)
        if "sha256" not in end:
            raise self._damaged(number, "the last line is missing: the export was cut off")
        if end["sha256"] != digest.hexdigest() or end.get("documents") != documents:
            raise self._damaged(number, "the file is not as it was written: its SHA-256 differs")
        return documents

    def _check_head(self, line: bytes) -> None:
        head = self._parsed(line, 1)
        if head.get("format") != FORMAT:
            raise self._damaged(1, f"it is not an export: the first line must name {FORMAT!r}")
        if head.get("version") != VERSION:
            raise self._damaged(
                1, f"version {head.get('version')!r} is not known here; it must be {VERSION}"
            )

    def _is_value(self, line: bytes, number: int) -> bool:
        return number > 1 and not line.startswith(b'{"base64"')

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        if not line.endswith(b"\n"):
            raise self._damaged(number, "the line is cut off, or longer than any of an export")
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise self._damaged(number, "it is not JSON") from error
        if not isinstance(fields, dict):
            raise self._damaged(number, "it is not a JSON object")
        return cast("dict[str, Any]", fields)

    def _damaged(self, number: int, reason: str) -> DamagedSourceError:
        return DamagedSourceError(f"{self._path}, line {number}", reason)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


OnProgress = Callable[[int, int | None], None]
"""Told how many values are done, and of how many where that is known."""
