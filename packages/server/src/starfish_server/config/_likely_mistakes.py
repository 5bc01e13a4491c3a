"""What a configuration may say but probably does not mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from starfish_server.config._path_template import PathTemplate
from starfish_server.config._validate import located_collections
from starfish_server.config.schema import (
    AppendOnlyConfig,
    CollectionConfig,
    CollectionRateLimitConfig,
    SyncConfig,
)
from starfish_server.errors import ConfigError

__all__ = ("config_warnings",)

_LARGE_BODY_BYTES = 64 * 1024 * 1024


def config_warnings(config: SyncConfig) -> list[str]:
    """Likely mistakes of a configuration that `validate_config` accepts, in its order.

    Examples:
        >>> from starfish_server.config.schema import CollectionConfig
        >>> wall = CollectionConfig(
        ...     name="wall", storagePath="wall", readRoles=["public"], writeRoles=["public"]
        ... )
        >>> config_warnings(SyncConfig(collections=[wall]))
        ["collections[0].writeRoles: 'public' lets anybody write without an identity"]
    """
    warnings: list[str] = []
    located = located_collections(config)
    if not located:
        warnings.append("collections: there are none, so the server serves nothing")
    for name, namespace in (config.namespaces or {}).items():
        if not namespace.collections:
            warnings.append(f"namespaces.{name}.collections: there are none")
    members = Counter((each.namespace, each.config.bundle) for each in located)
    trusted = None if config.capabilities is None else config.capabilities.trusted_issuers
    for each in located:
        if trusted is None and each.config.trusted_issuers is None:
            warnings.extend(f"{each.where}.{text}" for text in _self_made_roles(each.config))
        warnings.extend(f"{each.where}.{field}: {text}" for field, text in _warnings(each.config))
        if each.config.bundle is not None and members[each.namespace, each.config.bundle] == 1:
            warnings.append(
                f"{each.where}.bundle: {each.config.bundle!r} has one member; "
                "its documents are pulled inside 'collections' all the same"
            )
    return warnings


def _self_made_roles(config: CollectionConfig) -> Iterator[str]:
    """Rights that everybody has who makes a key and signs a certificate with it."""
    advice = "is anybody's who makes a key; set trustedIssuers"
    for field, roles in _role_lists(config):
        yield from (f"{field}: {role!r} {advice}" for role in roles if role.startswith("cap:"))
    if config.root_only and "self" not in {*config.read_roles, *config.write_roles}:
        yield f"rootOnly: a root device {advice}"


def _warnings(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    yield from _access_warnings(config)
    yield from _unused_warnings(config)
    cached = config.cache_duration_ms is not None and not config.push_only
    if cached and "public" not in config.read_roles:
        yield "cacheDurationMs", "a client goes on showing what it cached after losing its role"
    if config.max_body_bytes > _LARGE_BODY_BYTES:
        yield "maxBodyBytes", f"{config.max_body_bytes} bytes of each push are held in memory"
    if config.append_only is not None:
        yield from _append_only_warnings(config, config.append_only)


def _access_warnings(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    if "public" in config.write_roles and not config.pull_only:
        yield "writeRoles", "'public' lets anybody write without an identity"
    if not config.read_roles and not config.push_only:
        yield "readRoles", "nobody may pull; name a role, or say pushOnly"
    if not config.write_roles and not config.pull_only:
        yield "writeRoles", "nobody may push; name a role, or say pullOnly"
    if "identity" not in _parameters(config):
        for field, roles in _role_lists(config):
            if "self" in roles:
                yield field, f"'self' never holds: {config.storage_path!r} has no {{identity}}"
    if "public" in config.read_roles and "{identity}" in config.storage_path:
        yield "readRoles", "'public' shows every identity's documents to anybody"


def _unused_warnings(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    limited = config.rate_limit or CollectionRateLimitConfig()
    for field, present, useless, why in (
        ("writeRoles", config.write_roles, config.pull_only, "pullOnly"),
        ("objectSchema", config.object_schema, config.pull_only, "pullOnly"),
        ("rateLimit.push", limited.push, config.pull_only, "pullOnly"),
        ("readRoles", config.read_roles, config.push_only and not config.listable, "pushOnly"),
        ("cacheDurationMs", config.cache_duration_ms, config.push_only, "pushOnly"),
        ("bundle", config.bundle, config.push_only, "pushOnly"),
        ("rateLimit.pull", limited.pull, config.push_only, "pushOnly"),
        ("rateLimit.list", limited.list, not config.listable, "not listable"),
    ):
        if present and useless:
            yield field, f"no effect: the collection is {why}"
    if not config.is_binary and len(config.allowed_mime_types) > 1:
        yield (
            "allowedMimeTypes",
            "'application/json' makes this a collection of JSON documents, whatever else is listed",
        )


def _append_only_warnings(
    config: CollectionConfig, append_only: AppendOnlyConfig
) -> Iterator[tuple[str, str]]:
    if config.ttl_ms is not None:
        yield "ttlMs", "an appendOnly document expires as a whole, not element by element"
    if config.force_full_fetch and not append_only.allow_full:
        yield "forceFullFetch", "clients are told to fetch all, which allowFull false refuses"
    if "public" in config.write_roles and append_only.max_items is None and append_only.persist:
        yield "appendOnly.maxItems", "anybody may append, and nothing bounds how much"


def _parameters(config: CollectionConfig) -> tuple[str, ...]:
    try:
        return PathTemplate.parse(config.storage_path).parameters
    except ConfigError:
        return ()


def _role_lists(config: CollectionConfig) -> Iterator[tuple[str, list[str]]]:
    yield "readRoles", config.read_roles
    yield "writeRoles", config.write_roles
    for name, permission in (config.field_permissions or {}).items():
        yield f"fieldPermissions.{name}.readRoles", permission.read_roles or []
        yield f"fieldPermissions.{name}.writeRoles", permission.write_roles or []
