"""A JSON or TOML file to a configuration that can be served, or every reason why not."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from starfish_server.config import schema
from starfish_server.config._validate import (
    LocatedCollection,
    collection_problems,
    namespace_problems,
    validate_config,
)
from starfish_server.config.schema import CollectionConfig, RateLimitConfig, SyncConfig
from starfish_server.errors import ConfigError

__all__ = ("load_config", "parse_config")

_M = TypeVar("_M", bound=BaseModel)
_FIELDS = sorted(
    {
        field.alias or name
        for model in vars(schema).values()
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
    }
)


def load_config(path: str | Path) -> SyncConfig:
    """Read and check a configuration; a name that ends in ``.toml`` is TOML, any other JSON.

    Raises:
        ConfigError: the file cannot be read, is malformed (with line and column), or describes
            something that cannot be served; every problem is listed.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not UTF-8: byte {error.start} is not legal"]) from error
    try:
        raw = tomllib.loads(text) if path.suffix == ".toml" else _parse_json(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError([f"{path} is not JSON at {place}: {error.msg}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path} is not TOML: {error}"]) from error
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
    except ValueError as error:
        raise ConfigError([f"{path} has a number that cannot be read: {error}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path} is nested too deeply to be a configuration"]) from error
    return parse_config(raw)


def parse_config(raw: object) -> SyncConfig:
    """Check parsed JSON or TOML and make the model of it.

    Raises:
        ConfigError: every problem, those of single fields and those of the whole.

    Examples:
        >>> parse_config({"collections": [{"name": "a"}]})
        Traceback (most recent call last):
            ...
        starfish_server.errors.ConfigError: collections[0].storagePath: Field required
    """
    problems: list[str] = []
    config = _validate(SyncConfig, raw, problems)
    if config is not None:
        validate_config(config)
        return config
    # One broken collection must not hide the problems of the others.
    document = _mapping(raw)
    namespaces = _mapping(document.get("namespaces"))
    defaults = _validate(RateLimitConfig, document.get("rateLimit"), [])
    located = list(_readable("", None, document))
    for name, namespace in namespaces.items():
        located.extend(_readable(f"namespaces.{name}.", name, _mapping(namespace)))
    raise ConfigError(
        [*problems, *namespace_problems(namespaces), *collection_problems(located, defaults)]
    )


def _readable(
    where: str, namespace: str | None, holder: Mapping[str, object]
) -> list[LocatedCollection]:
    """The collections that are well-formed by themselves."""
    raw = holder.get("collections")
    found: list[LocatedCollection] = []
    for index, each in enumerate(cast("list[object]", raw) if isinstance(raw, list) else []):
        collection = _validate(CollectionConfig, each, [])
        if collection is not None:
            found.append(LocatedCollection(f"{where}collections[{index}]", namespace, collection))
    return found


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _validate(model: type[_M], raw: object, problems: list[str]) -> _M | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems.extend(
            f"{_place(each['loc'])}: {_message(each)}"
            for each in error.errors(include_url=False, include_context=False)
        )
        return None


def _message(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        close = difflib.get_close_matches(name, _FIELDS, n=1)
        return f"{name!r} is not a field here" + (f"; did you mean {close[0]!r}?" if close else "")
    return f"{error['msg']}{_refused(error['input'])}"


def _place(location: tuple[int | str, ...]) -> str:
    """``("collections", 2, "storagePath")`` as it is written in the file."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "the configuration"


def _refused(value: object) -> str:
    """The value, when it is short enough to help."""
    if isinstance(value, dict | list):
        return ""
    text = json.dumps(value, default=str)
    return f", not {text}" if len(text) <= 80 else f", not {text[:77]}..."


def _parse_json(text: str) -> object:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(
                    [f"key {key!r} appears twice in one object; each may appear once"]
                )
            found[key] = value
        return found

    def no_constant(name: str) -> object:
        raise ConfigError([f"{name} is not a JSON number"])

    return json.loads(text, object_pairs_hook=without_duplicates, parse_constant=no_constant)
