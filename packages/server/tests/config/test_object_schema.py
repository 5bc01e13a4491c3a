"""JSON Schemas: whatever is wrong with one is told at start-up, and nothing is fetched."""

from typing import Any

import pytest
from jsonschema_rs import ValidationError

from starfish_server.config._object_schema import compile_object_schema
from starfish_server.errors import ConfigError


def test_a_schema_judges_data() -> None:
    validator = compile_object_schema(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": {"pair": {"prefixItems": [{"type": "string"}, {"$ref": "#/$defs/age"}]}},
            "$defs": {"age": {"minimum": 0}},
        }
    )

    validator.validate({"pair": ["ada", 36]})
    with pytest.raises(ValidationError) as caught:
        validator.validate({"pair": ["ada", -1]})
    assert caught.value.instance_path == ["pair", 1]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objct"}, r"\['type'\]: \"objct\" is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, r"\['properties'\]\['a'\]\['minimum'\]"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"$ref": "#/$defs/nobody"}, "does not exist"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "Retrieval is disabled"),
        ({"properties": {"a": {"$ref": "file:///etc/hostname"}}}, "Retrieval is disabled"),
        ({"$dynamicRef": "http://127.0.0.1:9/schema.json"}, "is not present"),
        ({"$id": "http://127.0.0.1:9/", "$ref": "other.json"}, "Retrieval is disabled"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "it must be"),
        ({"$schema": 7}, "it must be"),
        ({"const": {1, 2}}, "cannot be read"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compile_object_schema(schema)


def test_a_schema_too_deep_to_compile_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"properties": {"a": schema}}

    with pytest.raises(ConfigError, match="cannot be read"):
        compile_object_schema(schema)
