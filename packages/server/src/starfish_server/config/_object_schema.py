"""JSON Schemas of collections: draft 2020-12, compiled once, never fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from starfish_server.errors import ConfigError

__all__ = ("compile_object_schema",)

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def compile_object_schema(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A validator of pushed ``data``.

    A ``$ref`` may point into the schema itself or to the draft's own meta-schemas. Formats are
    annotations, as the draft has it, and refuse nothing.

    Raises:
        ConfigError: the schema is none, is of another draft, or refers to something outside it.

    Examples:
        >>> validator = compile_object_schema({"required": ["title"]})
        >>> [error.message for error in validator.iter_errors({})]
        ['"title" is a required property']
    """
    draft = schema.get("$schema", _DRAFT)
    if not isinstance(draft, str) or draft.removesuffix("#") != _DRAFT:
        raise ConfigError([f"$schema is {draft!r}; it must be {_DRAFT!r}, or no $schema"])
    try:
        return Draft202012Validator(dict(schema), offline=True, validate_formats=False)
    except ValidationError as error:
        place = "".join(f"[{step!r}]" for step in error.instance_path)
        raise ConfigError([f"{place or 'the schema'}: {error.message}"]) from error
    except (ValueError, TypeError) as error:
        raise ConfigError([f"the schema cannot be read: {error}"]) from error
