"""Warnings: what may be served but is probably not meant."""

from typing import Any

import pytest

from starfish_server.config._likely_mistakes import config_warnings
from starfish_server.config._validate import validate_config
from starfish_server.config.schema import CollectionConfig, SyncConfig

GOOD = {
    "name": "notes",
    "storagePath": "notes/{identity}/{note}",
    "readRoles": ["self"],
    "writeRoles": ["self"],
}
APPEND = {"type": "by_timestamp"}
RULE = {"windowMs": 1, "maxRequests": 1}


def warnings_of(*collections: dict[str, Any]) -> list[str]:
    config = SyncConfig(collections=[CollectionConfig.model_validate(each) for each in collections])
    validate_config(config)
    return config_warnings(config)


def test_a_private_collection_of_each_caller_raises_no_warning() -> None:
    assert warnings_of(GOOD) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"writeRoles": ["public"]}, "writeRoles: 'public' lets anybody write"),
        ({"storagePath": "notes/{user}"}, "readRoles: 'self' never holds"),
        ({"storagePath": "notes/{user}"}, "writeRoles: 'self' never holds"),
        ({"fieldPermissions": {"a": {"writeRoles": ["self"]}}, "storagePath": "notes/{user}"},
         "fieldPermissions.a.writeRoles: 'self' never holds"),
        ({"readRoles": []}, "readRoles: nobody may pull"),
        ({"writeRoles": []}, "writeRoles: nobody may push"),
        ({"readRoles": ["public"]}, "readRoles: 'public' shows every identity"),
        ({"pullOnly": True}, "writeRoles: no effect"),
        ({"pullOnly": True, "objectSchema": {"type": "object"}}, "objectSchema: no effect"),
        ({"pushOnly": True}, "readRoles: no effect"),
        ({"pushOnly": True, "cacheDurationMs": 5}, "cacheDurationMs: no effect"),
        ({"cacheDurationMs": 5}, "cacheDurationMs: a client goes on showing"),
        ({"maxBodyBytes": 100_000_000}, "maxBodyBytes: 100000000 bytes"),
        ({"rateLimit": {"push": RULE}, "pullOnly": True}, "rateLimit.push: no effect"),
        ({"rateLimit": {"pull": RULE}, "pushOnly": True}, "rateLimit.pull: no effect"),
        ({"rateLimit": {"list": RULE}}, "rateLimit.list: no effect"),
        ({"allowedMimeTypes": ["application/json", "image/png"]}, "allowedMimeTypes: "),
        ({"bundle": "all"}, "bundle: 'all' has one member"),
        ({"bundle": "all", "pushOnly": True}, "bundle: no effect"),
        ({"appendOnly": APPEND, "ttlMs": 5}, "ttlMs: an appendOnly document expires"),
        ({"appendOnly": {**APPEND, "allowFull": False}, "forceFullFetch": True}, "forceFullFetch"),
        ({"appendOnly": APPEND, "writeRoles": ["public"]}, "appendOnly.maxItems: anybody"),
    ],
)  # fmt: skip
def test_a_likely_mistake_is_pointed_out_once(fields: dict[str, Any], said: str) -> None:
    warnings = [text for text in warnings_of({**GOOD, **fields}) if said in text]

    assert len(warnings) == 1
    assert warnings[0].startswith("collections[0].")


def test_a_server_of_nothing_is_pointed_out() -> None:
    assert warnings_of() == ["collections: there are none, so the server serves nothing"]
