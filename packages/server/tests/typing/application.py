"""Read by a type checker, never run: configuration, authentication, application."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

from fastapi import FastAPI

from starfish_server.app import create_app
from starfish_server.auth import (
    AuthResult,
    Presenter,
    RoleResolver,
    TokenFile,
    TokenRecord,
    create_token_role_resolver,
)
from starfish_server.config import (
    PathTemplate,
    config_warnings,
    load_config,
    parse_config,
    validate_config,
)
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.memory import MemoryObjectStore

config = load_config(Path("starfish.json"))
assert_type(config, SyncConfig)
assert_type(parse_config({}), SyncConfig)
assert_type(config_warnings(config), list[str])
validate_config(config)

template = PathTemplate.parse("notes/{note}")
assert_type(template.expand({"note": "1"}), str)
assert_type(template.match("notes/1"), dict[str, str] | None)
assert_type(template.last_parameter, str | None)

tokens = TokenFile("tokens.json")
assert_type(tokens.create("ada", roles=["staff"]), str)
assert_type(tokens.identify("sft_"), TokenRecord | None)
assert_type(tokens.revoke("ada"), bool)
resolver: RoleResolver = create_token_role_resolver(tokens)
assert_type(AuthResult("ada").roles, Sequence[str])
assert_type(AuthResult(None).presenter, Presenter | None)
assert_type(create_app(config, store=MemoryObjectStore(), role_resolver=resolver), FastAPI)
