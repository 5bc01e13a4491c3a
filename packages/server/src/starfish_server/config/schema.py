"""What a server serves, as pydantic models.

Every field is accepted by its Python name and by its camelCase alias. A field that is not known
here is refused: some of them, misspelt, would leave a collection open. What spans fields or
collections is checked in `starfish_server.config._validate`, which lists every problem at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

__all__ = (
    "AppendOnlyConfig",
    "CapabilitiesConfig",
    "CollectionConfig",
    "CollectionRateLimitConfig",
    "ConfigEndpointOptions",
    "CorsConfig",
    "EncryptionMode",
    "FieldPermission",
    "IdentityRestriction",
    "JwtConfig",
    "NamespaceConfig",
    "RateLimitBucket",
    "RateLimitConfig",
    "RateLimitDimension",
    "RateLimitRule",
    "SyncConfig",
)

EncryptionMode = Literal["none", "delegated"]
"""``delegated``: the client encrypts; the server stores what it is given and never looks inside."""
RateLimitBucket = Literal["identity", "ip", "identity+ip"]
"""Whom a counter belongs to."""


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class AppendOnlyConfig(_Model):
    """A collection whose documents only grow."""

    type: Literal["by_timestamp"] = "by_timestamp"
    """Order of the elements: their ``ts``, strictly increasing."""
    field: str = "items"
    """Name of the array in a pull's ``data``."""
    persist: bool = True
    """``False`` stores nothing: a push raises the write event and is told live to readers."""
    max_items: int | None = Field(default=None, gt=0)
    """Most elements of one document; ``None`` for no bound."""
    chunk_size: int | None = Field(default=None, gt=0)
    """Elements in a stored segment; ``None`` for the default. One that grows large is closed earlier."""
    require_author_signature: bool = True
    """Whether each element must carry its author's signature."""
    allow_full: bool = True
    """Whether a pull may ask for everything with ``full=true``."""
    max_pull_limit: int | None = Field(default=None, gt=0)
    """Most of the newest elements that one pull may ask for; ``None`` for no bound."""
    max_checkpoint_age_ms: int | None = Field(default=None, gt=0)
    """Oldest ``checkpoint`` a pull may name, before now."""


class RateLimitDimension(_Model):
    """One counter's window, within a rule that counts identities and addresses apart."""

    window_ms: int | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, gt=0)


class RateLimitRule(_Model):
    """How many requests of one action are allowed; absent fields are inherited."""

    window_ms: int | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, gt=0)
    bucket: RateLimitBucket | None = None
    identity: RateLimitDimension | None = None
    ip: RateLimitDimension | None = None


class CollectionRateLimitConfig(_Model):
    """How many requests a collection takes, for all its actions or for each."""

    window_ms: int | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, gt=0)
    bucket: RateLimitBucket | None = None
    push: RateLimitRule | None = None
    pull: RateLimitRule | None = None
    list: RateLimitRule | None = None


class RateLimitConfig(_Model):
    """What the limits of collections inherit; limits nothing by itself."""

    window_ms: int = Field(gt=0)
    max_requests: int = Field(gt=0)


class FieldPermission(_Model):
    """Who may see or change one top-level field of ``data``; ``None`` adds no restriction."""

    read_roles: list[str] | None = None
    write_roles: list[str] | None = None


class IdentityRestriction(_Model):
    """Callers who are kept out, or the only ones who are let in, whatever their roles."""

    mode: Literal["deny", "allow"]
    """``deny`` keeps these callers out; ``allow`` keeps everybody else out. A denial wins."""
    identities: list[str] = Field(min_length=1)
    actions: list[Literal["pull", "push", "list"]] | None = None
    """``None`` for all of them."""


class CapabilitiesConfig(_Model):
    """Whether and how callers sign in with capability certificates."""

    enabled: bool = True
    allow_anonymous: bool = True
    """Whether a request without a credential may use ``public`` collections."""
    public_hosts: list[str] = Field(default_factory=list, max_length=8)
    """The hosts by which clients know this server, such as ``sync.example``, with a port that is not
    that of the scheme; signatures hold for these alone. None lets requests to loopback through."""
    trusted_issuers: list[str] | None = None
    """User ids whose certificates give the roles ``cap:…`` and ``device:root``; ``None`` gives them to
    everybody who makes a key."""
    max_cap_lifetime_seconds: int | None = Field(default=None, gt=0)
    """Longest validity of a certificate; ``None`` for no bound."""
    require_signed_blobs: bool = False
    """Whether uploads of bytes must be signed over their bytes; existing clients sign them over nothing."""


class JwtConfig(_Model):
    """Callers with the JSON Web Tokens of an identity provider."""

    issuer: str = Field(min_length=1)
    """``iss`` of every token."""
    audience: str = Field(min_length=1)
    """One of ``aud`` of every token."""
    keys: str = Field(min_length=1)
    """Where the provider publishes its keys (JWKS): an https address, or the path of a file."""
    algorithms: list[str] = Field(default_factory=lambda: ["RS256", "ES256", "EdDSA", "Ed25519"])
    """Signatures that are taken; never a shared secret."""
    roles_claim: str = "roles"
    identity_claim: str = "sub"
    scope_claim: str | None = None
    """Claim that lists globs over document keys; ``None`` for tokens that reach every document."""


class CorsConfig(_Model):
    """Which pages of other origins may use the server from a browser."""

    origins: list[str]
    """Each ``scheme://host`` or ``scheme://host:port``; ``*`` alone for every one."""


def _cors(value: object) -> object:
    """``allowOrigins`` is another name of ``origins``."""
    if isinstance(value, dict) and "allowOrigins" in value and "origins" not in value:
        given = dict(cast("dict[str, object]", value))
        given["origins"] = given.pop("allowOrigins")
        return given
    return value  # pyright: ignore[reportUnknownVariableType]  # a model looks at it next


def _append_only(value: object) -> object:
    """``true`` is a log with every default, ``false`` none."""
    if value is True:
        return AppendOnlyConfig()
    return None if value is False else value


def _rate_limit(value: object) -> object:
    """``true`` limits pushes with inherited values, ``false`` limits nothing."""
    if value is True:
        return CollectionRateLimitConfig()
    return None if value is False else value


class CollectionConfig(_Model):
    """A family of documents under one path template.

    Examples:
        >>> notes = CollectionConfig(
        ...     name="notes", storagePath="notes/{identity}", readRoles=["self"], writeRoles=["self"]
        ... )
        >>> notes.storage_path, notes.max_body_bytes
        ('notes/{identity}', 1048576)
    """

    name: str = Field(min_length=1)
    storage_path: str = Field(min_length=1)
    """Key of a document, with ``{parameters}``: ``notes/{identity}/{note}``."""
    read_roles: list[str] = Field(default_factory=list)
    """Any of these may pull and list; nobody when empty. ``public`` needs no identity, ``self``
    wants the ``{identity}`` parameter to be the caller."""
    write_roles: list[str] = Field(default_factory=list)
    """Any of these may push; nobody when empty."""
    encryption: EncryptionMode = "none"
    max_body_bytes: int = Field(default=1_048_576, gt=0)
    """Most bytes of a push's body."""
    rate_limit: Annotated[CollectionRateLimitConfig | None, BeforeValidator(_rate_limit)] = None
    """Also ``true`` for pushes limited by the defaults of the server, and ``false`` for no limit."""
    cache_duration_ms: int | None = Field(default=None, gt=0)
    """How long a client may reuse a pull, as ``Cache-Control``."""
    object_schema: dict[str, Any] | None = None
    """JSON Schema that pushed ``data`` must satisfy."""
    allowed_mime_types: list[str] = Field(default_factory=lambda: ["application/json"])
    """Content types of a push, wildcards allowed; without ``application/json`` the collection
    holds bytes."""
    pull_only: bool | None = None
    push_only: bool | None = None
    force_full_fetch: bool | None = None
    """A hint to clients, passed on by ``/config``."""
    bundle: str | None = Field(default=None, min_length=1)
    """Collections with one bundle name and one path are pulled together."""
    append_only: Annotated[AppendOnlyConfig | None, BeforeValidator(_append_only)] = None
    """Also ``true`` for a log with every default, and ``false`` for none."""
    ttl_ms: int | None = Field(default=None, gt=0)
    """Age at which a document reads as never written."""
    field_permissions: dict[str, FieldPermission] | None = None
    """By top-level field name."""
    listable: bool | None = None
    """Whether ``/list`` enumerates the last path parameter."""
    root_only: bool | None = None
    """Whether only the root device of a user may use it, beside the roles."""
    keyring_path: str | None = Field(default=None, min_length=1)
    """Key of the keyring beside a document; ``<storagePath>/_keyring`` when left out."""
    restrictions: list[IdentityRestriction] | None = None
    """For this collection, beside those of the server and the namespace."""
    trusted_issuers: list[str] | None = None
    """As in `CapabilitiesConfig`, for this collection."""
    deletable: bool | None = None
    """Whether ``DELETE /push/<path>`` removes a document, for those who may push it."""
    unconditional_deletes: bool | None = None
    """Whether a removal may leave out which version it means; for ``deletable`` collections."""

    @property
    def is_binary(self) -> bool:
        """Whether documents are bytes rather than JSON."""
        return "application/json" not in self.allowed_mime_types


class ConfigEndpointOptions(_Model):
    """Who may read ``/config``."""

    auth: Literal["public", "role-filtered"]
    """``public`` shows every collection to anybody, ``role-filtered`` those a caller may use."""


class NamespaceConfig(_Model):
    """Collections under their own path prefix and their own keys."""

    collections: list[CollectionConfig]
    restrictions: list[IdentityRestriction] | None = None
    """For every collection of the namespace."""


class SyncConfig(_Model):
    """Everything that one server serves."""

    version: Literal[1] = 1
    collections: list[CollectionConfig]
    namespaces: dict[str, NamespaceConfig] | None = None
    rate_limit: RateLimitConfig | None = None
    """What the limits of collections inherit; limits nothing by itself."""
    server_rate_limit: RateLimitConfig | None = None
    """Requests that one caller may send to the whole server, on whichever route."""
    restrictions: list[IdentityRestriction] | None = None
    """For every collection of the server, those of namespaces included."""
    capabilities: CapabilitiesConfig | None = None
    """Callers with capability certificates; ``None`` takes none."""
    jwt: JwtConfig | None = None
    """Callers with tokens of an identity provider, in ``starfish-server run``; ``None`` takes none."""
    cors: Annotated[CorsConfig | None, BeforeValidator(_cors)] = None
    """Pages of other origins; ``None`` lets none in."""
