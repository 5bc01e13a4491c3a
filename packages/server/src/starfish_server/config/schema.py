"""What a server serves, as pydantic models.

Every field is accepted by its Python name and by its camelCase alias. A field that is not known
here is refused: some of them, misspelt, would leave a collection open. What spans fields or
collections is checked in `starfish_server.config._validate`, which lists every problem at once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

__all__ = (
    "AppendOnlyConfig",
    "CollectionConfig",
    "CollectionRateLimitConfig",
    "ConfigEndpointOptions",
    "EncryptionMode",
    "FieldPermission",
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

    type: Literal["by_timestamp"]
    """Order of the elements: their ``ts``, strictly increasing."""
    field: str = "items"
    """Name of the array in a pull's ``data``."""
    persist: bool = True
    """``False`` stores nothing: a push raises the write event and is told live to readers."""
    max_items: int | None = Field(default=None, gt=0)
    """Most elements of one document; ``None`` for no bound."""
    chunk_size: int | None = Field(default=None, gt=0, le=10_000)
    """Elements in a stored segment; ``None`` for the default."""
    require_author_signature: bool = True
    """Whether each element must carry its author's signature."""
    allow_full: bool = True
    """Whether a pull may ask for everything with ``full=true``."""
    max_pull_limit: int | None = Field(default=None, gt=0)
    """Most elements that one pull may return; ``None`` for no bound."""
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
    """How many requests a caller may send to the whole server."""

    window_ms: int = Field(gt=0)
    max_requests: int = Field(gt=0)


class FieldPermission(_Model):
    """Who may see or change one top-level field of ``data``; ``None`` adds no restriction."""

    read_roles: list[str] | None = None
    write_roles: list[str] | None = None


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
    rate_limit: CollectionRateLimitConfig | None = None
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
    append_only: AppendOnlyConfig | None = None
    ttl_ms: int | None = Field(default=None, gt=0)
    """Age at which a document reads as never written."""
    field_permissions: dict[str, FieldPermission] | None = None
    """By top-level field name."""
    listable: bool | None = None
    """Whether ``/list`` enumerates the last path parameter."""
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


class SyncConfig(_Model):
    """Everything that one server serves."""

    version: Literal[1] = 1
    collections: list[CollectionConfig]
    namespaces: dict[str, NamespaceConfig] | None = None
    rate_limit: RateLimitConfig | None = None
