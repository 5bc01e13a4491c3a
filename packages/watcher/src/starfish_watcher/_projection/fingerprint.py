"""Tell the code of one projection from that of another, though both have the same name.

The fingerprint covers the functions that make the state, with everything they close over or name:
their bytecode and constants, defaults, closures, global functions, classes and values, followed from
one to the next. The standard library and installed packages count by name and version, but for the
package of the projection itself. A value whose content cannot be told (an open file, a lock) has no
fingerprint: such a projection is not cached, which costs a replay and never gives a wrong state.

A class is looked at once in a process, before its first fold, and again when event types were
registered since.
"""

from __future__ import annotations

import logging
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, cast

import msgspec
from blake3 import blake3

from starfish_watcher._model.event_types import known_types, registrations

__all__ = ("fingerprint_of",)

_SCALARS: Final = (type(None), bool, int, float, complex, str, bytes, type(...))
_MAX_PARTS: Final = 20_000
_IGNORED: Final = frozenset(
    {
        *("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__"),
        *("__firstlineno__", "__static_attributes__", "__parameters__", "__orig_bases__"),
        *("__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__"),
        *("__match_args__", "__slots__", "__annotate__", "__annotations_cache__", "__hash__"),
        *("__annotate_func__", "__classdictcell__", "__type_params__", "__static_attributes__"),
    }
)


class _UnknownContentError(Exception):
    """A value whose content cannot be told."""


_of_classes: Final[weakref.WeakKeyDictionary[type[Any], tuple[int, bytes | None]]] = (
    weakref.WeakKeyDictionary()
)
"""With the event types that were known then: they decide which payloads a projection sees."""


def fingerprint_of(projection: object) -> bytes | None:
    """32 bytes that are equal for equal code and equal values; ``None`` where that is unknown."""
    kind = type(projection)
    plain = not getattr(projection, "__dict__", None)
    known = registrations()
    if plain and (kept := _of_classes.get(kind)) is not None and kept[0] == known:
        return kept[1]
    try:
        found = _Walk(projection).digest()
    except (_UnknownContentError, RecursionError):
        found = None
    if plain:
        _of_classes[kind] = known, found
    return found


class _Walk:
    """Feeds everything that decides a projection's result into one hash, each thing once."""

    def __init__(self, projection: object) -> None:
        self._hash = blake3()
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []
        self._parts = 0
        kind = type(projection)
        self._home = _package(kind.__module__)
        self._feed(f"{sys.version_info[:2]}")
        self._class(kind)
        for name, value in sorted(getattr(projection, "__dict__", {}).items()):
            self._feed(name)
            self._value(value)
        for event_type in known_types():
            self._feed(f"event type {event_type.name} {event_type.version}")
            self._value(event_type.cls)
            for version, upcaster in sorted(event_type.upcasters.items()):
                self._feed(str(version))
                self._value(upcaster)

    def digest(self) -> bytes:
        return self._hash.digest()

    def _feed(self, part: str | bytes) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _UnknownContentError
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        self._hash.update(len(data).to_bytes(8))
        self._hash.update(data)

    def _first_time(self, value: object) -> bool:
        """Cycles and shared values: the second time a value counts as a reference to the first."""
        number = self._seen.get(id(value))
        if number is not None:
            self._feed(f"again {number}")
            return False
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        return True

    def _is_home(self, module: str | None) -> bool:
        return module is not None and (_package(module) == self._home or _is_local(module))

    def _value(self, value: Any) -> None:
        kind = cast("Any", type(value))
        if isinstance(value, _SCALARS):
            self._feed(f"{kind.__qualname__} {value!r}")
        elif isinstance(value, Enum):
            self._feed(f"enum {kind.__qualname__}.{value.name}")
            self._value(value.value)
        elif self._first_time(value) and not self._code_value(value):
            self._data(value, kind)

    def _code_value(self, value: Any) -> bool:
        """Feed something that can be called or named; whether it was that."""
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, (staticmethod, classmethod, MethodType)):
            self._feed(type(cast("object", value)).__name__)
            self._value(cast("Any", value).__func__)
        elif isinstance(value, property):
            for each in (value.fget, value.fset, value.fdel):
                self._value(each)
        elif isinstance(value, (BuiltinFunctionType, ModuleType)):
            self._feed(f"named {getattr(value, '__module__', '')}.{value.__name__}")
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, CodeType):
            self._code(value)
        elif isinstance(value, logging.Logger):
            self._feed("logger")
        else:
            return False
        return True

    def _data(self, value: Any, kind: type[Any]) -> None:
        if isinstance(value, (tuple, list)):
            members = list(cast("Any", value))
            self._feed(f"{kind.__name__} {len(members)}")
            for member in members:
                self._value(member)
        elif isinstance(value, (set, frozenset)):
            self._feed(kind.__name__)
            shown = [f"{type(member).__name__} {member!r}" for member in cast("Any", value)]
            if not all(isinstance(member, _SCALARS) for member in cast("Any", value)):
                raise _UnknownContentError
            self._feed(",".join(sorted(shown)))
        elif isinstance(value, Mapping):
            self._feed(kind.__name__)
            for key, member in cast("Any", value).items():
                self._value(key)
                self._value(member)
        elif isinstance(value, re.Pattern):
            self._feed(f"pattern {cast('Any', value).pattern!r} {cast('Any', value).flags}")
        else:
            self._object(value, kind)

    def _object(self, value: Any, kind: type[Any]) -> None:
        names: Iterator[str] | None = None
        if issubclass(kind, msgspec.Struct):
            names = iter(kind.__struct_fields__)
        elif is_dataclass(kind):
            names = (field.name for field in fields(kind))
        elif _has_plain_form(kind) and self._is_home(kind.__module__):
            names = iter(sorted(getattr(value, "__dict__", {})))
        elif kind.__module__ in _KNOWN_BY_REPR:
            self._feed(f"{kind.__qualname__} {value!r}")
            return
        if names is None:
            raise _UnknownContentError
        self._class(kind)
        for name in names:
            self._feed(name)
            self._value(getattr(value, name))

    def _class(self, kind: type[Any]) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._feed(f"class {name}")
        if not self._is_home(kind.__module__):
            self._feed(_version(kind.__module__))
            return
        for base in kind.__mro__[1:]:
            if base is not object:
                self._value(base)
        for member, value in sorted(vars(kind).items()):
            if member not in _IGNORED and not _is_descriptor_of_slot(value):
                self._feed(member)
                self._value(value)

    def _function(self, function: FunctionType) -> None:
        self._feed(f"function {function.__module__}.{function.__qualname__}")
        if not self._is_home(function.__module__):
            self._feed(_version(function.__module__))
            return
        self._code(function.__code__)
        self._value(function.__defaults__)
        self._value(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self._value(cell.cell_contents)
            except ValueError:
                self._feed("empty cell")
        for name in sorted(_names_in(function.__code__)):
            if name in function.__globals__:
                self._feed(name)
                found = function.__globals__[name]
                if isinstance(found, ModuleType) and self._is_home(found.__name__):
                    self._module_members(found, function.__code__)
                else:
                    self._value(found)

    def _module_members(self, module: ModuleType, code: CodeType) -> None:
        self._feed(f"module {module.__name__}")
        for name in sorted(_names_in(code)):
            if name in vars(module):
                self._feed(name)
                self._value(vars(module)[name])

    def _code(self, code: CodeType) -> None:
        self._feed(code.co_code)
        self._feed(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)))
        self._feed(repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags)))
        for constant in code.co_consts:
            self._value(constant)


_KNOWN_BY_REPR: Final = frozenset(
    {"datetime", "decimal", "fractions", "uuid", "pathlib", "types", "typing", "zoneinfo"}
)
"""Modules whose objects show their whole content."""


def _package(module: str) -> str:
    return module.partition(".")[0]


@cache
def _is_local(module: str) -> bool:
    """Whether it is code that is edited in place, not a part of Python or an installed package."""
    package = _package(module)
    if package == "starfish_watcher" or (
        package in sys.stdlib_module_names and package != "__main__"
    ):
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


def _version(module: str | None) -> str:
    return str(getattr(sys.modules.get(_package(module or "")), "__version__", ""))


def _names_in(code: CodeType) -> set[str]:
    """Names that the code, or code inside it, looks up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _has_plain_form(kind: type[Any]) -> bool:
    return kind.__dict__.get("__reduce__") is None and kind.__dict__.get("__slots__") is None


def _is_descriptor_of_slot(value: object) -> bool:
    return type(value).__name__ in ("member_descriptor", "getset_descriptor")
