"""What spans the fields of a collection, or several collections: every problem, not just the first.

A problem names the place as it is written in the file, the value, and the allowed values. What may be
served but is probably not meant is in `starfish_server.config._likely_mistakes`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from starfish_http.callers.capabilities import check_public_hosts
from starfish_http.middleware import Cors
from starfish_server.config._object_schema import compile_object_schema
from starfish_server.config._path_template import PARAMETER_VALUE, PathTemplate
from starfish_server.config._rate_limits import ACTIONS, limits_of_action
from starfish_server.config.schema import (
    AppendOnlyConfig,
    CapabilitiesConfig,
    CollectionConfig,
    RateLimitConfig,
    SyncConfig,
)
from starfish_server.errors import ConfigError

__all__ = (
    "ROUTE_WORDS",
    "LocatedCollection",
    "collection_problems",
    "located_collections",
    "namespace_problems",
    "validate_config",
)

ROUTE_WORDS = frozenset(
    {
        "pull",
        "push",
        "list",
        "batch",
        "health",
        "ready",
        "config",
        "events",
        "revocations",
        "metrics",
        "docs",
        "redoc",
        "openapi.json",
    }
)
"""First segments of the server's own paths, which no namespace may take."""

_USER_ID = re.compile(r"[0-9a-f]{32}")
_MIME_TYPE = re.compile(r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")


@dataclass(frozen=True, slots=True)
class LocatedCollection:
    """A collection and where it is written."""

    where: str
    """``collections[2]`` or ``namespaces.acme.collections[0]``."""
    namespace: str | None
    config: CollectionConfig


def validate_config(config: SyncConfig) -> None:
    """Check everything that the models alone cannot see.

    Raises:
        ConfigError: the configuration cannot be served; every problem is listed.
    """
    problems = [
        *namespace_problems(config.namespaces or ()),
        *_server_problems(config),
        *collection_problems(located_collections(config), config.rate_limit),
    ]
    if problems:
        raise ConfigError(problems)


def located_collections(config: SyncConfig) -> list[LocatedCollection]:
    """Every collection, those of the root first."""
    located = [
        LocatedCollection(f"collections[{index}]", None, collection)
        for index, collection in enumerate(config.collections)
    ]
    for name, namespace in (config.namespaces or {}).items():
        located.extend(
            LocatedCollection(f"namespaces.{name}.collections[{index}]", name, collection)
            for index, collection in enumerate(namespace.collections)
        )
    return located


def namespace_problems(names: Iterable[str]) -> Iterator[str]:
    """Names that cannot be a path segment, or that hide one of the server's own."""
    for name in names:
        if not _is_segment(name):
            yield (
                f"namespaces.{name}: {name!r} is not a path segment; "
                "it may hold only A-Z a-z 0-9 . _ : @ - without '..'"
            )
        elif name in ROUTE_WORDS:
            yield (
                f"namespaces.{name}: {name!r} hides the server's own /{name}; "
                f"it must be any name but {', '.join(sorted(ROUTE_WORDS))}"
            )


def _server_problems(config: SyncConfig) -> Iterator[str]:
    if config.cors is not None:
        try:
            Cors(config.cors.origins)
        except ValueError as error:
            yield f"cors.origins: {error}"
    if config.capabilities is not None:
        yield from _capability_problems(config.capabilities)


def _capability_problems(config: CapabilitiesConfig) -> Iterator[str]:
    try:
        check_public_hosts(config.public_hosts)
    except ValueError as error:
        yield f"capabilities.publicHosts: {error}"
    for index, user_id in enumerate(config.trusted_issuers or ()):
        if _USER_ID.fullmatch(user_id) is None:
            yield f"capabilities.trustedIssuers[{index}]: {_not_a_user(user_id)}"


def collection_problems(
    collections: Sequence[LocatedCollection], defaults: RateLimitConfig | None = None
) -> Iterator[str]:
    """Everything wrong with these collections, each alone and all together.

    Args:
        collections: to look at.
        defaults: of the server, that their rate limits inherit.
    """
    templates: list[tuple[LocatedCollection, PathTemplate]] = []
    for located in collections:
        config = located.config
        try:
            template = PathTemplate.parse(config.storage_path)
        except ConfigError as error:
            for problem in error.problems:
                yield f"{located.where}.storagePath: {problem}"
        else:
            templates.append((located, template))
            if config.listable and not template.parameters:
                yield (
                    f"{located.where}.listable: {config.storage_path!r} has nothing to enumerate; "
                    "storagePath must have a {parameter}"
                )
        for field, problem in _problems_alone(config, defaults):
            yield f"{located.where}.{field}: {problem}"
    yield from _duplicate_names(collections)
    yield from _bundle_problems(collections)
    yield from _overlaps(templates)
    yield from _ambiguous_listings(templates)


def _problems_alone(
    config: CollectionConfig, defaults: RateLimitConfig | None
) -> Iterator[tuple[str, str]]:
    if not _is_segment(config.name):
        yield (
            "name",
            f"{config.name!r} is not a name; it may hold only A-Z a-z 0-9 . _ : @ - without '..'",
        )
    if config.pull_only and config.push_only:
        yield "pushOnly", "the collection is also pullOnly; remove one of the two"
    yield from _deletable_problems(config)
    yield from _role_problems("readRoles", config.read_roles)
    yield from _role_problems("writeRoles", config.write_roles)
    yield from _mime_type_problems(config.allowed_mime_types)
    yield from _opaque_content_problems(config)
    if config.object_schema is not None:
        try:
            compile_object_schema(config.object_schema)
        except ConfigError as error:
            for problem in error.problems:
                yield "objectSchema", problem
    yield from _field_permission_problems(config)
    if config.append_only is not None:
        yield from _append_only_problems(config, config.append_only)
    yield from _rate_limit_problems(config, defaults)
    yield from _root_and_keyring_problems(config)


def _root_and_keyring_problems(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    if config.root_only and "public" in {*config.read_roles, *config.write_roles}:
        yield (
            "rootOnly",
            "a collection with the role 'public' is everybody's; remove one of the two",
        )
    for index, user_id in enumerate(config.trusted_issuers or ()):
        if _USER_ID.fullmatch(user_id) is None:
            yield f"trustedIssuers[{index}]", _not_a_user(user_id)
    if config.keyring_path is None:
        return
    if config.is_binary or config.append_only is not None or config.bundle is not None:
        yield "keyringPath", "a keyring stands beside single JSON documents only; remove it"
    try:
        template = PathTemplate.parse(config.keyring_path)
        own = PathTemplate.parse(config.storage_path)
    except ConfigError as error:
        for problem in error.problems:
            yield "keyringPath", problem
        return
    for name in template.parameters:
        if name not in own.parameters:
            yield "keyringPath", f"{{{name}}} is not a parameter of {config.storage_path!r}"


def _not_a_user(user_id: str) -> str:
    return f"{user_id!r} is not a user id; it must be 32 lowercase hex digits"


def _deletable_problems(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    if config.deletable and config.pull_only:
        yield "deletable", "a pullOnly collection takes no writes; remove one of the two"
    if config.deletable and config.append_only is not None:
        yield "deletable", "documents of an appendOnly collection only grow; remove one of the two"
    if config.unconditional_deletes and not config.deletable:
        yield "unconditionalDeletes", "nothing can be removed; deletable must be true as well"


def _role_problems(field: str, roles: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, role in enumerate(roles):
        if not role or role != role.strip() or not role.isprintable():
            yield (
                f"{field}[{index}]",
                f"{role!r} is not a role; it must be text without outer spaces",
            )


def _mime_type_problems(mime_types: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not mime_types:
        yield "allowedMimeTypes", "the list is empty; it must hold at least one type"
    for index, mime_type in enumerate(mime_types):
        if _MIME_TYPE.fullmatch(mime_type) is None:
            yield (
                f"allowedMimeTypes[{index}]",
                f"{mime_type!r} is not a content type; it must be lower-case type/subtype, type/* or */*",
            )


def _opaque_content_problems(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    """The server looks into what it cannot read."""
    for holds, kind in (
        (config.is_binary, "a binary collection (allowedMimeTypes without 'application/json')"),
        (config.encryption == "delegated", "a collection with encryption 'delegated'"),
    ):
        if holds and config.object_schema is not None:
            yield "objectSchema", f"{kind} has no fields to check; remove one of the two"
        if holds and config.field_permissions is not None:
            yield "fieldPermissions", f"{kind} has no fields to guard; remove one of the two"
    if config.is_binary and config.bundle is not None:
        yield "bundle", "a binary collection cannot be part of a JSON answer; remove one of the two"


def _field_permission_problems(config: CollectionConfig) -> Iterator[tuple[str, str]]:
    if config.field_permissions is not None and config.append_only is not None:
        yield (
            "fieldPermissions",
            "elements of an appendOnly collection are stored and pulled whole; remove one of the two",
        )
    for name, permission in (config.field_permissions or {}).items():
        if not name:
            yield (
                "fieldPermissions",
                "a field name is empty; it must name a top-level field of data",
            )
        where = f"fieldPermissions.{name}"
        yield from _role_problems(f"{where}.readRoles", permission.read_roles or ())
        yield from _role_problems(f"{where}.writeRoles", permission.write_roles or ())


def _append_only_problems(
    config: CollectionConfig, append_only: AppendOnlyConfig
) -> Iterator[tuple[str, str]]:
    if config.is_binary:
        yield "appendOnly", "elements are JSON; allowedMimeTypes must hold 'application/json'"
    if config.bundle is not None:
        yield "appendOnly", "a bundle is pulled whole, an appendOnly collection in pages"
    if not append_only.field:
        yield "appendOnly.field", "the name is empty; it must be a name such as 'items'"
    if not append_only.persist:
        if append_only.max_items is not None:
            yield "appendOnly.maxItems", "nothing is stored that could be counted: persist is false"
        if config.pull_only:
            yield "appendOnly.persist", "false with pullOnly does nothing at all"
        if config.listable:
            yield "appendOnly.persist", "false stores nothing that could be listed"


def _rate_limit_problems(
    config: CollectionConfig, defaults: RateLimitConfig | None
) -> Iterator[tuple[str, str]]:
    if config.rate_limit is None:
        return
    limited = False
    for action in ACTIONS:
        try:
            limited = bool(limits_of_action(config.rate_limit, action, defaults)) or limited
        except ConfigError as error:
            limited = True
            for problem in error.problems:
                yield "rateLimit", f"{problem}; each counter must have windowMs and maxRequests"
    if not limited:
        yield "rateLimit", "nothing is limited; it must have windowMs and maxRequests"


def _duplicate_names(collections: Sequence[LocatedCollection]) -> Iterator[str]:
    first: dict[tuple[str | None, str], str] = {}
    for located in collections:
        taken = first.setdefault((located.namespace, located.config.name), located.where)
        if taken != located.where:
            yield (
                f"{located.where}.name: {located.config.name!r} is the name of {taken} too; "
                "each name must belong to one collection"
            )


def _bundle_problems(collections: Sequence[LocatedCollection]) -> Iterator[str]:
    first: dict[tuple[str | None, str], LocatedCollection] = {}
    for located in collections:
        config = located.config
        if config.bundle is None:
            continue
        if config.listable:
            yield (
                f"{located.where}.listable: members of bundle {config.bundle!r} share their path, "
                "so a listing could not tell them apart; remove one of the two"
            )
        other = first.setdefault((located.namespace, config.bundle), located)
        if other.config.storage_path != config.storage_path:
            yield (
                f"{located.where}.storagePath: {config.storage_path!r} is not the path of bundle "
                f"{config.bundle!r}, which has {other.config.storage_path!r} in {other.where}; "
                "a bundle must have one path"
            )


def _overlaps(templates: Sequence[tuple[LocatedCollection, PathTemplate]]) -> Iterator[str]:
    """Two collections that one document could belong to."""
    by_length: dict[int, list[tuple[LocatedCollection, PathTemplate]]] = defaultdict(list)
    reported: set[tuple[str, str]] = set()
    for located, template in templates:
        for key in _keys_taken(located, template):
            same_length = by_length[key.text.count("/")]
            for other, other_key in same_length:
                pair = (other.where, located.where)
                if pair in reported or _may_share(other, located) or not key.overlaps(other_key):
                    continue
                reported.add(pair)
                yield (
                    f"{located.where}.storagePath: {key.text!r} can be the same document "
                    f"as {other_key.text!r} of {other.where} ({other.config.name!r}); "
                    "paths must differ in a fixed segment or in length"
                )
            same_length.append((located, key))


def _keys_taken(located: LocatedCollection, template: PathTemplate) -> Iterator[PathTemplate]:
    """A member of a bundle is pulled under the bundle's path and kept under its own name."""
    if located.namespace is not None and not _is_segment(located.namespace):
        return
    yield template.prefixed(located.namespace)
    config = located.config
    if config.bundle is not None and _is_segment(config.name):
        member = PathTemplate.parse(f"{config.storage_path}/{config.name}")
        yield member.prefixed(located.namespace)


def _is_segment(name: str) -> bool:
    return PARAMETER_VALUE.fullmatch(name) is not None and ".." not in name and name != "."


def _may_share(one: LocatedCollection, other: LocatedCollection) -> bool:
    return one is other or (
        one.config.bundle is not None
        and one.config.bundle == other.config.bundle
        and one.namespace == other.namespace
    )


def _ambiguous_listings(
    templates: Sequence[tuple[LocatedCollection, PathTemplate]],
) -> Iterator[str]:
    """Two collections that one ``/list`` path would enumerate."""
    listed: list[tuple[LocatedCollection, PathTemplate, PathTemplate]] = []
    for located, template in templates:
        if not located.config.listable or not template.parameters:
            continue
        # A letter stands for the listed parameter, so that an empty path has a segment.
        path = PathTemplate.parse(f"{template.list_path}/x".removeprefix("/"))
        for other, other_template, other_path in listed:
            if (
                located.namespace == other.namespace
                and path.overlaps(other_path)
                and not template.overlaps(other_template)
            ):
                yield (
                    f"{located.where}.listable: /list/{template.list_path} would list "
                    f"{other.where} ({other.config.name!r}) too; only one of them can be listable"
                )
        listed.append((located, template, path))
