"""Configurations that the published server takes are taken with the same meaning, or refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from starfish_server.config import config_warnings, parse_config
from starfish_server.errors import ConfigError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "config.json").read_text())
CASES: list[dict[str, Any]] = VECTORS["cases"]
# Taken here with a warning, or with a meaning that is documented in docs/configuration.md.
TAKEN_HERE = {
    "no readRoles": "readRoles: nobody may pull",
    "listable, last segment fixed": "",
    "namespace without collections": "namespaces.acme.collections: there are none",
}
# Refused here, with the reason.
REFUSED_HERE = {
    "rateLimit: true without a global one: silently no limit": "has no windowMs",
    "unknown member is ignored": "'foo' is not a field here",
    "namespace 'list'": "hides the server's own /list",
    "namespace 'events'": "hides the server's own /events",
    "namespace 'config'": "hides the server's own /config",
}


def of(case: dict[str, Any]) -> dict[str, Any]:
    collection = {**VECTORS["base"], **case["collection"]}
    return {"version": 1, "collections": [collection], **case["top"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["means"])
def test_a_case_of_the_vectors(case: dict[str, Any]) -> None:
    means = case["means"]
    is_refused_there = "refused" in case["peer"] or bool(case["peer"]["errors"])
    if means in REFUSED_HERE or (is_refused_there and means not in TAKEN_HERE):
        with pytest.raises(ConfigError) as refusal:
            parse_config(of(case))
        said = " ".join(refusal.value.problems)
        assert REFUSED_HERE.get(means, "") in said
        return
    config = parse_config(of(case))
    if means in TAKEN_HERE:
        assert TAKEN_HERE[means] in " ".join(config_warnings(config))
        return
    (collection,) = config.collections
    dumped = collection.model_dump(by_alias=True, exclude_none=True, mode="json")
    for name, value in case["peer"]["normal"].items():
        expected = None if value is None else dict(value) if isinstance(value, dict) else value
        assert dumped.get(name) == expected, name


def test_the_number_of_cases() -> None:
    assert len(CASES) == 48
    assert (TAKEN_HERE.keys() | REFUSED_HERE.keys()) <= {case["means"] for case in CASES}


def test_the_same_in_toml(tmp_path: Path) -> None:
    from starfish_server.config import load_config

    path = tmp_path / "starfish.toml"
    path.write_text("""
[capabilities]
publicHosts = ["sync.example"]
[cors]
origins = ["https://app.example"]
[rateLimit]
windowMs = 60000
maxRequests = 10
[[restrictions]]
mode = "deny"
identities = ["mallory"]
[[collections]]
name = "log"
storagePath = "log/{identity}"
readRoles = ["self"]
writeRoles = ["self"]
appendOnly = true
rateLimit = true
rootOnly = true
""")

    config = load_config(path)

    assert config.collections[0].append_only is not None
    assert config.collections[0].rate_limit is not None
    assert config.capabilities is not None
    assert config.cors is not None
    assert config.cors.origins == ["https://app.example"]


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ({"capabilities": {"publicHosts": ["a b"]}}, "capabilities.publicHosts: public host 'a b'"),
        ({"capabilities": {"publicHosts": ["h"] * 9}}, "capabilities.publicHosts"),
        ({"capabilities": {"trustedIssuers": ["x"]}}, "capabilities.trustedIssuers[0]: 'x' is not"),
        ({"cors": {"origins": ["app.example"]}}, "cors.origins: origin 'app.example'"),
        ({"cors": {"allowOrigins": ["*", "https://a"]}}, "cors.origins: origins *"),
        (
            {"namespaces": {"revocations": {"collections": []}}},
            "hides the server's own /revocations",
        ),
    ],
    ids=str,
)
def test_what_the_server_needs_is_checked(top: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_config({"collections": [], **top})

    assert said in " ".join(refusal.value.problems)


@pytest.mark.parametrize("field", ["readRoles", "writeRoles"])
def test_roles_that_anybody_can_give_themselves_are_pointed_out(field: str) -> None:
    collection = {**VECTORS["base"], field: ["cap:read:*"]}

    open_ = config_warnings(parse_config({"collections": [collection], "capabilities": {}}))
    trusting = config_warnings(
        parse_config({"collections": [collection], "capabilities": {"trustedIssuers": ["0" * 32]}})
    )

    said = f"collections[0].{field}: 'cap:read:*' is anybody's who makes a key"
    assert any(warning.startswith(said) for warning in open_)
    assert not any(warning.startswith(said) for warning in trusting)
