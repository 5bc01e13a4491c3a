"""Path templates: ``notes/{identity}/{note}`` names a family of document keys.

Rule 1: a segment holds at most one parameter. With two, ``{a}.{b}``, different parameters would
give one key, and a check of one of them would say nothing about whose document it is.
Rule 2: template text and parameter values use one small alphabet. Keys with any other character
are free for the server's own records and never meet a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from starfish_server.errors import ConfigError, InvalidKeyError

__all__ = ("PARAMETER_VALUE", "PathTemplate", "namespaced_key", "unsafe_key_reason")

PARAMETER_VALUE = re.compile(r"[A-Za-z0-9._:@-]+")
"""What a path parameter may be, to be matched in full."""

_ALPHABET = "A-Z a-z 0-9 . _ : @ -"
_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEGMENT = re.compile(r"(?P<before>[^{}]*)(?:\{(?P<name>[^{}]*)\}(?P<after>[^{}]*))?")
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def unsafe_key_reason(key: str) -> str | None:
    """Why a key must not reach a store; ``None`` when it may.

    Examples:
        >>> unsafe_key_reason("notes/ada/1")
        >>> unsafe_key_reason("notes/a..b")
        "it contains '..'"
    """
    if ".." in key:
        return "it contains '..'"
    if not key or "//" in key or key[0] == "/" or key[-1] == "/":
        return "it has an empty segment"
    if "." in key.split("/"):
        return "it has the segment '.'"
    if _CONTROL.search(key):
        return "it contains a control character"
    return None


def namespaced_key(namespace: str | None, key: str) -> str:
    """Where a document of a namespace is stored; author signatures use the key without it.

    Examples:
        >>> namespaced_key("acme", "notes/1"), namespaced_key(None, "notes/1")
        ('acme/notes/1', 'notes/1')
    """
    return key if namespace is None else f"{namespace}/{key}"


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A compiled template; equal when the text is.

    Examples:
        >>> notes = PathTemplate.parse("notes/{identity}/{note}")
        >>> notes.parameters
        ('identity', 'note')
        >>> notes.expand({"identity": "ada", "note": "1"})
        'notes/ada/1'
        >>> notes.match("notes/ada/1")
        {'identity': 'ada', 'note': '1'}
        >>> notes.list_prefix({"identity": "ada"})
        'notes/ada/'
    """

    text: str
    """The template as it was written."""
    parameters: tuple[str, ...]
    """Parameter names from left to right."""
    _pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Compile a template.

        Raises:
            ConfigError: the text is not a template; every problem is listed.
        """
        problems = list(_problems(text))
        if problems:
            raise ConfigError(problems)
        names = tuple(_PARAMETER.findall(text))
        return cls(text, names, re.compile(_pattern_of(text)))

    @property
    def last_parameter(self) -> str | None:
        """The parameter that a listing enumerates, ``None`` when there is none."""
        return self.parameters[-1] if self.parameters else None

    @property
    def list_path(self) -> str:
        """Template text of the whole segments before the last parameter: what ``/list/`` takes."""
        return self.text[: self.text.rfind("{")].rpartition("/")[0]

    def expand(self, params: Mapping[str, str]) -> str:
        """The key of the document with these parameters; others than its own are ignored.

        Raises:
            InvalidKeyError: a parameter is missing or has a character that is not allowed, or the
                key would be unsafe.
        """
        key = self._fill(self.text, params)
        reason = unsafe_key_reason(key)
        if reason is not None:
            raise InvalidKeyError(key, reason)
        return key

    def match(self, key: str) -> dict[str, str] | None:
        """The parameters of a key, ``None`` when it is not of this family.

        The only parameters that `expand` turns into this key.
        """
        found = self._pattern.fullmatch(key)
        return None if found is None else found.groupdict()

    def list_prefix(self, params: Mapping[str, str]) -> str:
        """What every key with these parameters begins with: all before the last parameter.

        Keys of other families may begin so too: `match` tells.

        Raises:
            InvalidKeyError: there is no parameter to enumerate, or `expand` would refuse ``params``.
        """
        if not self.parameters:
            raise InvalidKeyError(self.text, "a path without a parameter has nothing to list")
        prefix = self._fill(self.text[: self.text.rfind("{")], params)
        # The prefix usually ends inside or before a segment, so a letter stands for the rest.
        reason = unsafe_key_reason(f"{prefix}x")
        if reason is not None:
            raise InvalidKeyError(prefix, reason)
        return prefix

    def overlaps(self, other: PathTemplate) -> bool:
        """Whether one key could belong to both.

        Examples:
            >>> PathTemplate.parse("a/{x}").overlaps(PathTemplate.parse("a/b"))
            True
            >>> PathTemplate.parse("a/{x}").overlaps(PathTemplate.parse("a/{x}/{y}"))
            False
        """
        ours, theirs = self.text.split("/"), other.text.split("/")
        return len(ours) == len(theirs) and all(map(_segments_overlap, ours, theirs))

    def prefixed(self, namespace: str | None) -> PathTemplate:
        """The same family within a namespace."""
        return self if namespace is None else PathTemplate.parse(f"{namespace}/{self.text}")

    @staticmethod
    def _fill(text: str, params: Mapping[str, str]) -> str:
        def value_of(found: re.Match[str]) -> str:
            value = params.get(found[1])
            if value is None:
                raise InvalidKeyError(text, f"parameter {found[1]!r} is missing")
            if PARAMETER_VALUE.fullmatch(value) is None:
                raise InvalidKeyError(value, f"parameter {found[1]!r} may hold only {_ALPHABET}")
            return value

        return _PARAMETER.sub(value_of, text)


def _problems(text: str) -> Iterator[str]:
    if not text:
        yield "the path is empty; give at least one segment"
        return
    for segment in text.split("/"):
        problem = _segment_problem(segment)
        if problem is not None:
            yield f"segment {segment!r} of {text!r} {problem}"
    names = _PARAMETER.findall(text)
    for index, name in enumerate(names):
        if _PARAMETER_NAME.fullmatch(name) is None:
            yield (
                f"parameter {name!r} of {text!r} is not a name; "
                "it must be a letter or _, then letters, digits or _"
            )
        if name in names[:index]:
            yield f"parameter {name!r} of {text!r} appears twice; each name may appear once"


def _segment_problem(segment: str) -> str | None:
    if not segment:
        return "is empty; remove the extra '/'"
    found = _SEGMENT.fullmatch(segment)
    if found is None:
        return "is malformed; it must be text with at most one {parameter}"
    literal = found["before"] + (found["after"] or "")
    if literal and PARAMETER_VALUE.fullmatch(literal) is None:
        return f"may hold only {_ALPHABET}"
    if segment == "." or ".." in segment:
        return "is unsafe; it must be a name without '..'"
    return None


def _pattern_of(text: str) -> str:
    parts = _PARAMETER.split(text)
    return "".join(
        f"(?P<{part}>{PARAMETER_VALUE.pattern})" if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )


def _segments_overlap(ours: str, theirs: str) -> bool:
    if "{" not in ours and "{" not in theirs:
        return ours == theirs
    one, other = _tokens(ours), _tokens(theirs)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(one) and j == len(other):
            return True
        if i == len(one) or j == len(other) or not _share_a_character(one[i], other[j]):
            continue
        # After one character a parameter may be over or go on, a letter is always over.
        for k in (i, i + 1) if one[i] is None else (i + 1,):
            for m in (j, j + 1) if other[j] is None else (j + 1,):
                if (k, m) not in seen:
                    seen.add((k, m))
                    todo.append((k, m))
    return False


def _tokens(segment: str) -> list[str | None]:
    """The letters of a segment, ``None`` where a parameter stands for one or more of them."""
    parts = _PARAMETER.split(segment)
    return [token for index, part in enumerate(parts) for token in ((None,) if index % 2 else part)]


def _share_a_character(one: str | None, other: str | None) -> bool:
    # The letters of a template are all of the alphabet that a parameter may use.
    return one is None or other is None or one == other
