"""A collection as it is served: everything that can be worked out once, at start-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jsonschema_rs import Draft202012Validator

from starfish_server.config._object_schema import compile_object_schema
from starfish_server.config._path_template import (
    PARAMETER_VALUE,
    PathTemplate,
    namespaced_key,
    unsafe_key_reason,
)
from starfish_server.config.schema import CollectionConfig, IdentityRestriction
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
    keyring: PathTemplate | None = None
    """Of the keyring beside a document; ``None`` where there is none to ask for."""
    restrictions: tuple[IdentityRestriction, ...] = ()
    """Of the server, the namespace and the collection."""

    @classmethod
    def compile(
        cls,
        config: CollectionConfig,
        namespace: str | None,
        restrictions: Sequence[IdentityRestriction] = (),
    ) -> ServedCollection:
        """Work out what requests will need.

        Args:
            config: of the collection.
            namespace: that it belongs to.
            restrictions: of the server and the namespace.

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
            keyring=_keyring(config),
            restrictions=(*restrictions, *(config.restrictions or ())),
        )

    @property
    def name(self) -> str:
        """The collection's name within its namespace."""
        return self.config.name

    def admits(self, identity: str | None, action: str) -> bool:
        """Whether no restriction keeps a caller out: a denial wins, then each allowance must name them."""
        applicable = [
            each for each in self.restrictions if each.actions is None or action in each.actions
        ]
        named = [identity is not None and identity in each.identities for each in applicable]
        return all(
            is_named if each.mode == "allow" else not is_named
            for each, is_named in zip(applicable, named, strict=True)
        )

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


def _keyring(config: CollectionConfig) -> PathTemplate | None:
    if config.is_binary or config.append_only is not None or config.bundle is not None:
        return None
    return PathTemplate.parse(config.keyring_path or f"{config.storage_path}/_keyring")


def _cache_control(config: CollectionConfig, *, answers_differ: bool) -> str | None:
    if config.cache_duration_ms is None:
        return None
    scope = "public" if "public" in config.read_roles and not answers_differ else "private"
    return f"{scope}, max-age={config.cache_duration_ms // 1000}"
