"""What the OpenAPI document says of each collection.

FastAPI derives descriptions from the signatures of endpoints; these have none, since one endpoint
answers all paths. So each operation is described here as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starfish_server.config.schema import AppendOnlyConfig
from starfish_server.documents._json_shapes import is_list, is_object
from starfish_server.requests._json_body import MAX_DEPTH
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.routes._lists import DEFAULT_LIMIT, MAX_LIMIT

__all__ = ("Operation", "operations")

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "integer", "minimum": 0, "description": "Milliseconds since the epoch."}
_HASH: Schema = {
    "type": "string",
    "pattern": "^([0-9a-f]{64})?$",
    "description": "SHA-256 of the canonical JSON; empty for a document never written.",
}
_OBJECT: Schema = {"type": "object"}
# PARAMETER_VALUE without "..", which no key may have, and without "." alone.
_PARAMETER: Schema = {
    "type": "string",
    "pattern": r"^\.?[A-Za-z0-9_:@-]+(\.[A-Za-z0-9_:@-]+)*\.?$",
}
_AUTHOR: Schema = {
    "authorPubkey": {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "Ed25519 public key.",
    },
    "authorSignature": {"type": "string", "minLength": 1, "description": "Base64."},
}
_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "A stable code or a sentence."}},
}
_REFUSALS = {
    400: "The path, the query or the body is refused; `error` says why.",
    401: "No identity, or credentials that were refused.",
    403: "Not allowed to this caller.",
    404: "There is nothing.",
    408: "The body did not arrive in time.",
    409: "The stored state does not allow it.",
    412: "`If-Match` or `If-None-Match` does not hold.",
    413: "The body is too large.",
    415: "The content type is not allowed here.",
    416: "The range is outside of the content.",
    428: "Neither `baseHash` nor `If-Match` names a version.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The storage or the role resolver does not answer.",
}
_READ = (400, 401, 403, 429, 503)
_WRITE = (400, 401, 403, 408, 413, 415, 429, 503)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    responses: dict[int | str, dict[str, Any]]
    extra: dict[str, Any]
    """``parameters`` and ``requestBody``."""

    @property
    def operation_id(self) -> str:
        """Unique within one router."""
        words = "".join(c if c.isalnum() else "_" for c in self.path)
        return f"{self.method.lower()}{words}"


def operations(
    collections: Sequence[ServedCollection],
    namespaces: Sequence[str],
    *,
    has_config: bool,
    max_documents: int,
) -> Iterator[Operation]:
    """Every operation of a router."""
    for namespace in (None, *namespaces):
        prefix = "" if namespace is None else f"/{namespace}"
        members = [each for each in collections if each.namespace == namespace]
        yield _health(prefix)
        if has_config:
            yield _config(prefix)
        if members:
            yield _batch(prefix, members, max_documents)
        bundles: dict[str, list[ServedCollection]] = {}
        for collection in members:
            if not collection.config.push_only and collection.config.bundle is None:
                yield _pull(prefix, collection)
            elif not collection.config.push_only:
                bundles.setdefault(collection.config.storage_path, []).append(collection)
            yield from _writes(prefix, collection)
            if collection.config.listable:
                yield _list(prefix, collection)
        for path, bundle in bundles.items():
            yield _bundle(prefix, path, bundle)


def _pull(prefix: str, collection: ServedCollection) -> Operation:
    config = collection.config
    if config.is_binary:
        types: Schema = {mime_type: {"schema": {}} for mime_type in config.allowed_mime_types}
        responses = _responses(
            "The bytes.", None, (*_READ, 404, 416), headers=_ETAG | _ACCEPT_RANGES, content=types
        )
        responses[206] = {"description": "The part that `Range` asks for.", "content": types}
        query: list[dict[str, Any]] = []
    elif config.append_only is not None:
        field = {config.append_only.field: {"type": "array", "items": _element(collection)}}
        data = {"type": "object", "required": [*field], "properties": field}
        responses = _responses("The elements.", _pulled(data), _READ, headers=_ETAG)
        query = _append_bounds(config.append_only)
    else:
        responses = _responses(
            "The document.", _pulled(_stored_data(collection)), _READ, headers=_ETAG
        )
        query = []
    responses[304] = {"description": "The client has this version already."}
    return Operation(
        "GET",
        f"{prefix}/pull/{collection.template.text}",
        f"pull {collection.name}",
        f"Read a document of {collection.name}",
        collection.name,
        responses,
        {"parameters": [*_path_parameters(collection.template.parameters), *query]},
    )


def _writes(prefix: str, collection: ServedCollection) -> Iterator[Operation]:
    if not collection.config.pull_only:
        yield _push(prefix, collection)
    if collection.config.deletable:
        yield _delete(prefix, collection)


def _push(prefix: str, collection: ServedCollection) -> Operation:
    config = collection.config
    written = _record({"hash": _HASH, "timestamp": _TIME})
    statuses = _WRITE if config.is_binary else (*_WRITE, 409)
    if config.is_binary:
        content: Schema = {mime_type: {"schema": {}} for mime_type in config.allowed_mime_types}
    else:
        body = _append_body(collection) if config.append_only else _push_body(collection)
        content = {"application/json": {"schema": body}}
    return Operation(
        "POST",
        f"{prefix}/push/{collection.template.text}",
        f"push {collection.name}",
        f"Append to a document of {collection.name}"
        if config.append_only
        else f"Write a document of {collection.name}",
        collection.name,
        _responses("It is stored.", written, statuses),
        {
            "parameters": _path_parameters(collection.template.parameters),
            "requestBody": {
                "required": True,
                "description": f"At most {config.max_body_bytes} bytes, nested at most {MAX_DEPTH} deep.",
                "content": content,
            },
        },
    )


def _delete(prefix: str, collection: ServedCollection) -> Operation:
    removed = _record({"hash": {"const": ""}, "timestamp": _TIME})
    # OpenAPI has no words for "one of the two", so a request by `If-Match` alone is not described.
    base_hash = _query(
        "baseHash", _HASH, "Hash of the version to remove; `If-Match` may name it too."
    )
    base_hash["required"] = not collection.config.unconditional_deletes
    return Operation(
        "DELETE",
        f"{prefix}/push/{collection.template.text}",
        f"delete {collection.name}",
        f"Remove a document of {collection.name}",
        collection.name,
        _responses("It reads as never written.", removed, (400, 401, 403, 409, 412, 428, 429, 503)),
        {
            "parameters": [
                *_path_parameters(collection.template.parameters),
                base_hash,
            ]
        },
    )


def _list(prefix: str, collection: ServedCollection) -> Operation:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    page = _record({"items": {"type": "array", "items": _TEXT}, "hasMore": {"type": "boolean"}})
    path = collection.template.list_path
    return Operation(
        "GET",
        f"{prefix}/list/{path}",
        f"list {collection.name}",
        f"Enumerate {{{collection.template.last_parameter}}} of {collection.name}",
        collection.name,
        _responses("A page.", page, _READ),
        {
            "parameters": [
                *_path_parameters(collection.template.parameters[:-1]),
                _query("limit", limit, "Most items of the page."),
                _query("after", _PARAMETER, "The last item of the page before."),
            ]
        },
    )


def _bundle(prefix: str, path: str, members: Sequence[ServedCollection]) -> Operation:
    entries = {
        each.name: _record({"data": _stored_data(each), "hash": _HASH}, _AUTHOR) for each in members
    }
    answer = _record({"collections": {"type": "object", "properties": entries}, "timestamp": _TIME})
    responses = _responses("What the caller may read of the members.", answer, _READ, headers=_ETAG)
    responses[304] = {"description": "The client has these versions already."}
    bundle = members[0].config.bundle
    parameters = members[0].template.parameters
    return Operation(
        "GET",
        f"{prefix}/pull/{path}",
        f"pull bundle {bundle}",
        f"Read the documents of the bundle {bundle}",
        str(bundle),
        responses,
        {"parameters": _path_parameters(parameters)},
    )


def _batch(prefix: str, members: Sequence[ServedCollection], max_documents: int) -> Operation:
    pulled = [each for each in members if not each.config.push_only]
    sets = {each.name: _parameter_sets(each.template.parameters) for each in pulled}
    entry = {"anyOf": [_pulled(_OBJECT), _ERROR]}
    answer = _record(
        {
            "collections": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": entry},
            }
        }
    )
    listed = {
        "name": "collections",
        "in": "query",
        "required": True,
        "style": "form",
        "explode": False,
        "description": "Names, with commas between.",
        "schema": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "pattern": "^[^,]+$"},
        },
    }
    return Operation(
        "GET",
        f"{prefix}/batch/pull",
        "batch pull",
        f"Read up to {max_documents} documents",
        "batch",
        _responses("An answer for each document, in order.", answer, (400, 503)),
        {
            "parameters": [
                listed,
                _json_query("params", sets, _parameter_sets(()), "Sets of path parameters."),
                _json_query("appendParams", {}, _append_params(), "Bounds, one for each set."),
            ]
        },
    )


def _health(prefix: str) -> Operation:
    answer = _record({"ok": {"const": True}, "ts": _TIME})
    return Operation(
        "GET",
        f"{prefix}/health",
        "health",
        "Tell that the server answers",
        "server",
        _responses("It does.", answer, ()),
        {},
    )


def _config(prefix: str) -> Operation:
    collection = {
        "type": "object",
        "required": ["name", "maxBodyBytes", "encryption", "allowedMimeTypes"],
        "properties": {"name": _TEXT},
    }
    answer = _record({"collections": {"type": "array", "items": collection}})
    return Operation(
        "GET",
        f"{prefix}/config",
        "config",
        "Describe the collections",
        "server",
        _responses("Those that the caller may know.", answer, (503,)),
        {},
    )


_ETAG: Schema = {"ETag": {"schema": _TEXT, "description": "For `If-None-Match`."}}
_ACCEPT_RANGES: Schema = {"Accept-Ranges": {"schema": _TEXT}}


def _responses(
    description: str,
    schema: Schema | None,
    refusals: Sequence[int],
    *,
    headers: Schema | None = None,
    content: Schema | None = None,
) -> dict[int | str, dict[str, Any]]:
    success: dict[str, Any] = {
        "description": description,
        "content": content or {"application/json": {"schema": schema}},
    }
    if headers is not None:
        success["headers"] = headers
    responses: dict[int | str, dict[str, Any]] = {200: success}
    for status in sorted(refusals):
        responses[status] = {
            "description": _REFUSALS[status],
            "content": {"application/json": {"schema": _ERROR}},
        }
        if status == 429:
            responses[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return responses


def _record(properties: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, **(optional or {})},
    }


def _pulled(data: Schema) -> Schema:
    return _record({"data": data, "hash": _HASH, "timestamp": _TIME}, _AUTHOR)


def _object_schema(collection: ServedCollection) -> Schema:
    """The collection's own schema, without references: they would lead nowhere in OpenAPI."""
    schema = collection.config.object_schema
    if schema is None:
        return _OBJECT
    inlined = _inlined(schema, schema, ())
    return {k: v for k, v in inlined.items() if k not in {"$schema", "$id", "$defs"}}


def _inlined(value: Any, root: Schema, within: tuple[str, ...]) -> Any:
    """A schema with each ``$ref`` replaced; where one leads into itself, anything goes."""
    if is_list(value):
        return [_inlined(each, root, within) for each in value]
    if not is_object(value):
        return value
    others = {k: _inlined(v, root, within) for k, v in value.items() if k != "$ref"}
    target = value.get("$ref")
    if not isinstance(target, str):
        return others
    if target in within or not target.startswith("#"):
        return others
    found: Any = root
    for step in target[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        found = found.get(name, {}) if is_object(found) else {}
    referred = _inlined(found, root, (*within, target))
    return {"allOf": [referred], **others} if others else referred


def _stored_data(collection: ServedCollection) -> Schema:
    """What a pull may show: a valid document, a part of one, or nothing."""
    if collection.config.object_schema is None or collection.hidden_fields:
        return _OBJECT
    return {"anyOf": [_object_schema(collection), {"type": "object", "maxProperties": 0}]}


def _push_body(collection: ServedCollection) -> Schema:
    base_hash = {
        "type": ["string", "null"],
        "description": "Hash of the version that this one was made from; null for a new document.",
    }
    return {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "object", **_object_schema(collection)},
            "baseHash": base_hash,
            **_AUTHOR,
        },
        "dependentRequired": {
            "authorPubkey": ["authorSignature"],
            "authorSignature": ["authorPubkey"],
        },
    }


def _append_body(collection: ServedCollection) -> Schema:
    required = ["data"]
    append_only = collection.config.append_only
    if append_only is not None and append_only.require_author_signature:
        required += list(_AUTHOR)
    ts = {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "After the latest element's, at most five minutes ahead of the server.",
    }
    return {
        "type": "object",
        "required": required,
        "properties": {
            "data": {"type": "object", **_object_schema(collection)},
            "ts": ts,
            **_AUTHOR,
        },
        "dependentRequired": {
            "authorPubkey": ["authorSignature"],
            "authorSignature": ["authorPubkey"],
        },
    }


def _element(collection: ServedCollection) -> Schema:
    return _record({"ts": _TIME, "data": _object_schema(collection)}, _AUTHOR)


def _append_bounds(append_only: AppendOnlyConfig) -> list[dict[str, Any]]:
    count = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    time = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    full = append_only.allow_full and append_only.max_pull_limit is None
    return [
        _query("checkpoint", time, "Only elements with a larger `ts`."),
        _query("limit", count, "Of those, only so many of the newest."),
        _query("last", count, "The same; `limit` wins."),
        _query(
            "full",
            {"enum": ["true", "false"] if full else ["false"]},
            "All elements; not with another bound.",
        ),
    ]


def _append_params() -> Schema:
    number = {"type": ["integer", "null"], "minimum": 0, "maximum": 10**15 - 1}
    bounds: Schema = dict.fromkeys(("checkpoint", "since", "last", "limit"), number)
    bounds["full"] = {"enum": [False, None]}
    entry: Schema = {"type": ["object", "null"], "properties": bounds}
    return {"type": "array", "items": entry}


def _parameter_sets(names: Sequence[str]) -> Schema:
    # Texts and numbers; everything else counts as not given, and is refused in its own answer.
    anything: Schema = {}
    properties = dict.fromkeys(names, anything)
    entry = {"type": "object", "properties": properties, "additionalProperties": anything}
    return {"type": "array", "items": entry}


def _path_parameters(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _PARAMETER} for name in names]


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _json_query(name: str, properties: Schema, others: Schema, description: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": others}
    return {
        "name": name,
        "in": "query",
        "description": f"{description} By collection.",
        "content": {"application/json": {"schema": schema}},
    }
