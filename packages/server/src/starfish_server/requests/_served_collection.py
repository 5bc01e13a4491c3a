"""A collection as it is served: everything that can be worked out once, at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jsonschema_rs import Draft202012Validator

from starfish_server.config._object_schema import compile_object_schema
from starfish_server.config._path_template import (
    PARAMETER_VALUE,
    PathTemplate,
    namespaced_key,
    unsafe_key_reason,
)
from starfish_server.config.schema import CollectionConfig
from starfish_server.errors import InvalidKeyError
from starfish_server.storage.keys import MAX_KEY_BYTES

__all__ = ("ServedCollection", "check_params")


@dataclass(frozen=True, slots=True)
class ServedCollection:
    """One collection of one namespace."""

    config: CollectionConfig
    namespace: str | None
    template: PathTemplate
    """Of the push path; a member of a bundle has its name as last segment."""
    validator: Draft202012Validator | None
    cache_control: str | None
    read_roles: frozenset[str]
    write_roles: frozenset[str]
    hidden_fields: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Who may see a field, for fields that not everybody may."""
    guarded_fields: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Who may change a field, likewise."""

    @classmethod
    def compile(cls, config: CollectionConfig, namespace: str | None) -> ServedCollection:
        """Work out what requests will need.

        Raises:
            ConfigError: the path or the schema is none.
        """
        suffix = "" if config.bundle is None else f"/{config.name}"
        permissions = (config.field_permissions or {}).items()
        hidden = {n: frozenset(p.read_roles) for n, p in permissions if p.read_roles is not None}
        guarded = {n: frozenset(p.write_roles) for n, p in permissions if p.write_roles is not None}
        schema = config.object_schema
        return cls(
            config=config,
            namespace=namespace,
            template=PathTemplate.parse(config.storage_path + suffix),
            validator=None if schema is None else compile_object_schema(schema),
            cache_control=_cache_control(config, answers_differ=bool(hidden)),
            read_roles=frozenset(config.read_roles),
            write_roles=frozenset(config.write_roles),
            hidden_fields=hidden,
            guarded_fields=guarded,
        )

    @property
    def name(self) -> str:
        """The collection's name within its namespace."""
        return self.config.name

    def store_key(self, document_key: str) -> str:
        """Where a document is stored."""
        return namespaced_key(self.namespace, document_key)


def check_params(document_key: str, params: Mapping[str, str]) -> None:
    """Refuse what cannot be the key of a document.

    Raises:
        InvalidKeyError: a parameter or the key as a whole.
    """
    for value in params.values():
        if PARAMETER_VALUE.fullmatch(value) is None:
            raise InvalidKeyError(value, "a parameter may hold only A-Z a-z 0-9 . _ : @ -")
    reason = unsafe_key_reason(document_key)
    if reason is not None:
        raise InvalidKeyError(document_key, reason)
    if len(document_key) > MAX_KEY_BYTES:
        raise InvalidKeyError(document_key, f"a key has at most {MAX_KEY_BYTES} bytes")


def _cache_control(config: CollectionConfig, *, answers_differ: bool) -> str | None:
    if config.cache_duration_ms is None:
        return None
    scope = "public" if "public" in config.read_roles and not answers_differ else "private"
    return f"{scope}, max-age={config.cache_duration_ms // 1000}"
