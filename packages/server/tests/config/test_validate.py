"""What no single field shows: every problem has its place and names the allowed values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_server.config._path_template import PathTemplate, namespaced_key
from starfish_server.config._validate import ROUTE_WORDS, located_collections, validate_config
from starfish_server.config.schema import CollectionConfig, NamespaceConfig, SyncConfig
from starfish_server.errors import ConfigError


def collection(name: str = "notes", path: str = "notes/{note}", **fields: Any) -> CollectionConfig:
    return CollectionConfig.model_validate({
        "name": name, "storagePath": path, "readRoles": ["staff"], "writeRoles": ["staff"], **fields,
    })  # fmt: skip


def problems_of(
    *collections: CollectionConfig, **namespaces: list[CollectionConfig]
) -> tuple[str, ...]:
    config = SyncConfig(
        collections=list(collections),
        namespaces={name: NamespaceConfig(collections=each) for name, each in namespaces.items()},
    )
    try:
        validate_config(config)
    except ConfigError as error:
        return error.problems
    return ()


APPEND = {"type": "by_timestamp"}
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"pullOnly": True},
    {"pushOnly": True},
    {"listable": True},
    {"objectSchema": {"type": "object"}},
    {"fieldPermissions": {"title": {"readRoles": ["staff"], "writeRoles": []}}},
    {"appendOnly": APPEND},
    {"appendOnly": {**APPEND, "persist": False}, "pushOnly": True},
    {"appendOnly": {**APPEND, "persist": False}, "readRoles": []},
    {"appendOnly": APPEND, "objectSchema": {"type": "object"}},
    {"appendOnly": APPEND, "encryption": "delegated"},
    {"allowedMimeTypes": ["image/png"]},
    {"allowedMimeTypes": ["image/*", "application/vnd.api+json"]},
    {"allowedMimeTypes": ["*/*"]},
    {"encryption": "delegated"},
    {"bundle": "all"},
    {"rateLimit": {"windowMs": 1000, "maxRequests": 1}},
    {"rateLimit": {"windowMs": 1000, "push": {"maxRequests": 1}, "maxRequests": 9}},
    {"rateLimit": {"push": {"maxRequests": 1, "windowMs": 1000}}},
    {"rateLimit": {"push": {"windowMs": 1000, "identity": {"maxRequests": 1},
                            "ip": {"maxRequests": 9}}}},
]  # fmt: skip


@pytest.mark.parametrize("fields", ACCEPTED, ids=str)
def test_a_collection_that_makes_sense_is_accepted(fields: dict[str, Any]) -> None:
    assert problems_of(collection(**fields)) == ()


JPEG = {"allowedMimeTypes": ["image/jpeg"]}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"pullOnly": True, "pushOnly": True}, "pushOnly: the collection is also pullOnly"),
    ({"name": "a,b"}, "name: 'a,b' is not a name"),
    ({"name": "a/b"}, "name: 'a/b' is not a name"),
    ({"name": ".."}, "name: '..' is not a name"),
    ({"storagePath": "notes/{note"}, "storagePath: segment '{note'"),
    ({"readRoles": [""]}, "readRoles[0]: ''"),
    ({"writeRoles": ["a", " b"]}, "writeRoles[1]: ' b'"),
    ({"readRoles": ["a\x00"]}, "readRoles[0]: 'a\\x00'"),
    ({"allowedMimeTypes": []}, "allowedMimeTypes: the list is empty"),
    ({"allowedMimeTypes": ["json"]}, "allowedMimeTypes[0]: 'json'"),
    ({"allowedMimeTypes": ["*/png"]}, "allowedMimeTypes[0]"),
    ({"allowedMimeTypes": ["Image/PNG"]}, "allowedMimeTypes[0]"),
    ({"allowedMimeTypes": ["text/plain; charset=utf-8"]}, "allowedMimeTypes[0]"),
    ({"objectSchema": {"type": "objct"}}, "objectSchema: ['type']: \"objct\""),
    ({"objectSchema": {"$ref": "http://127.0.0.1:9/a"}}, "objectSchema: the schema: Resource"),
    ({"objectSchema": {}, **JPEG}, "objectSchema: a binary collection"),
    ({"objectSchema": {}, "encryption": "delegated"}, "objectSchema: a collection with encryption"),
    ({"fieldPermissions": {}, **JPEG}, "fieldPermissions: a binary collection"),
    ({"fieldPermissions": {}, "encryption": "delegated"}, "fieldPermissions: a collection with"),
    ({"fieldPermissions": {}, "appendOnly": APPEND}, "fieldPermissions: elements of an appendOnly"),
    ({"fieldPermissions": {"": {}}}, "fieldPermissions: a field name is empty"),
    ({"fieldPermissions": {"a": {"readRoles": [""]}}}, "fieldPermissions.a.readRoles[0]"),
    ({"bundle": "all", **JPEG}, "bundle: a binary collection"),
    ({"appendOnly": APPEND, **JPEG}, "appendOnly: elements are JSON"),
    ({"appendOnly": APPEND, "bundle": "all"}, "appendOnly: a bundle is pulled whole"),
    ({"appendOnly": {**APPEND, "field": ""}}, "appendOnly.field: the name is empty"),
    ({"appendOnly": {**APPEND, "persist": False}, "pullOnly": True, "readRoles": []},
     "appendOnly.persist: false with pullOnly"),
    ({"appendOnly": {**APPEND, "persist": False}, "pushOnly": True, "listable": True},
     "appendOnly.persist: false stores nothing that could be listed"),
    ({"listable": True, "storagePath": "settings"}, "listable: 'settings' has nothing"),
    ({"listable": True, "bundle": "all"}, "listable: members of bundle 'all'"),
    ({"rateLimit": {}}, "rateLimit: push counted by identity has no windowMs"),
    ({"rateLimit": True}, "rateLimit: push counted by identity has no windowMs"),
    ({"rateLimit": {"push": {"bucket": "ip", "ip": {"windowMs": 1, "maxRequests": 1}}}},
     "rateLimit: push has both bucket and identity or ip"),
    ({"appendOnly": {**APPEND, "persist": False, "maxItems": 1}}, "appendOnly.maxItems: nothing"),
    ({"rootOnly": True, "readRoles": ["public"]}, "rootOnly: a collection with the role"),
    ({"keyringPath": "keys/{other}"}, "keyringPath: {other} is not a parameter"),
    ({"keyringPath": "keys/{note"}, "keyringPath: segment '{note'"),
    ({"keyringPath": "keys", **JPEG}, "keyringPath: a keyring stands beside single JSON"),
    ({"trustedIssuers": ["ada"]}, "trustedIssuers[0]: 'ada' is not a user id"),
    ({"rateLimit": {"push": {"windowMs": 1}}}, "rateLimit: push counted by identity has no maxReq"),
    ({"rateLimit": {"push": {"maxRequests": 1}}}, "has no windowMs"),
    ({"rateLimit": {"list": {}}}, "rateLimit: list counted by identity has no windowMs"),
    ({"rateLimit": {"bucket": "ip", "windowMs": 1, "maxRequests": 1,
                    "push": {"identity": {"maxRequests": 2}}}}, "push.identity has no effect"),
    ({"rateLimit": {"bucket": "identity+ip", "push": {"windowMs": 1, "identity": {"maxRequests": 2},
                                                      "ip": {}}}}, "push counted by ip has no maxReq"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_collection_that_cannot_be_served_is_refused_once(
    fields: dict[str, Any], said: str
) -> None:
    fields = dict(fields)
    name, path = fields.pop("name", "notes"), fields.pop("storagePath", "notes/{note}")

    problems = [text for text in problems_of(collection(name, path, **fields)) if said in text]
    assert len(problems) == 1
    assert problems[0].startswith("collections[0].")


def test_one_name_is_one_collection_but_each_namespace_has_its_own_names() -> None:
    (problem,) = problems_of(collection("a", "a/{x}"), collection("a", "b/{x}"))
    assert problem.startswith("collections[1].name: 'a' is the name of collections[0] too")

    assert problems_of(collection("a", "a/{x}"), acme=[collection("a", "a/{x}")]) == ()


def test_two_collections_never_share_a_document() -> None:
    (problem,) = problems_of(collection("a", "notes/{x}"), collection("b", "notes/today"))

    assert "'notes/today' can be the same document as 'notes/{x}' of collections[0]" in problem


def test_a_namespace_and_the_root_never_share_a_document() -> None:
    (problem,) = problems_of(collection("a", "acme/notes/{x}"), acme=[collection("b", "notes/{y}")])

    assert problem.startswith("namespaces.acme.collections[0].storagePath: 'acme/notes/{y}'")


def test_members_of_a_bundle_share_their_path_and_keep_their_own_documents() -> None:
    profile = collection("profile", "users/{identity}", bundle="user")
    settings = collection("settings", "users/{identity}", bundle="user")

    assert problems_of(profile, settings) == ()
    problems = problems_of(profile, settings, collection("docs", "users/{identity}/{doc}"))
    assert [
        "'users/{identity}/{doc}' can be the same document as" in text for text in problems
    ] == [
        True,
        True,
    ]


def test_a_bundle_has_one_path() -> None:
    problems = problems_of(
        collection("a", "users/{x}", bundle="user"), collection("b", "people/{x}", bundle="user")
    )

    assert [problem for problem in problems if "a bundle must have one path" in problem]


def test_one_list_path_lists_one_collection() -> None:
    (problem,) = problems_of(
        collection("meta", "notes/{note}/meta", listable=True),
        collection("body", "notes/{id}/body", listable=True),
    )

    assert problem.startswith("collections[1].listable: /list/notes would list collections[0]")


@pytest.mark.parametrize("name", [*sorted(ROUTE_WORDS), "", "a b", "a/b", "..", ".", "ä"])
def test_a_namespace_is_a_path_segment_of_its_own(name: str) -> None:
    problems = problems_of(**{name: [collection()]})

    assert len(problems) == 1
    assert problems[0].startswith(f"namespaces.{name}: ")


PATHS = st.lists(
    st.sampled_from(["a", "b", "{x}", "a{x}", "{x}b", "acme"]), min_size=1, max_size=3
).map(lambda parts: "/".join(part.replace("x", f"x{i}") for i, part in enumerate(parts)))
VALUES = st.sampled_from(["a", "b", "ab", "aab", "acme"])


@given(
    st.lists(PATHS, max_size=4),
    st.lists(PATHS, max_size=3),
    st.sampled_from([None, "b"]),
    st.fixed_dictionaries({f"x{i}": VALUES for i in range(3)}),
    st.fixed_dictionaries({f"x{i}": VALUES for i in range(3)}),
)
def test_in_an_accepted_configuration_a_key_names_one_collection(
    root: list[str], inner: list[str], bundle: str | None, first: dict[str, str], second: dict[str, str]
) -> None:  # fmt: skip
    config = SyncConfig(
        collections=[
            collection(f"r{i}", path, bundle=bundle if i < 2 else None)
            for i, path in enumerate(root)
        ],
        namespaces={
            "acme": NamespaceConfig(
                collections=[collection(f"n{i}", path) for i, path in enumerate(inner)]
            )
        },
    )
    try:
        validate_config(config)
    except ConfigError:
        return

    owners: dict[str, str] = {}
    for located in located_collections(config):
        path = located.config.storage_path
        path = f"{path}/{located.config.name}" if located.config.bundle else path
        for params in (first, second):
            key = namespaced_key(located.namespace, PathTemplate.parse(path).expand(params))
            assert owners.setdefault(key, located.where) == located.where


def test_a_thousand_collections_are_checked_against_each_other() -> None:
    many = [collection(f"c{i}", f"c{i}/{{identity}}/{{doc}}") for i in range(1000)]

    assert problems_of(*many) == ()
    assert len(problems_of(*many, collection("last", "c500/{a}/{b}"))) == 1
