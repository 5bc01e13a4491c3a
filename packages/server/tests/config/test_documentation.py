"""The pages name every field with its default, and every option of the command line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from starfish_server.cli._app import build_app
from starfish_server.config import schema

DOCS = Path(__file__).parents[4] / "docs"
MODELS = {
    name: model
    for name, model in vars(schema).items()
    if name in schema.__all__ and isinstance(model, type) and issubclass(model, BaseModel)
}
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]*)`|required) \|", re.MULTILINE)


def page(name: str) -> str:
    if not (DOCS / name).exists():
        pytest.skip("the package is not in its workspace, where the pages are")
    return (DOCS / name).read_text()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_table_of_a_model_has_exactly_its_fields_and_defaults(name: str) -> None:
    section = page("configuration.md").partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    section = section.partition("\n## ")[0]

    assert dict(ROW.findall(section)) == {
        field.alias: ""
        if field.is_required()
        else json.dumps(field.get_default(call_default_factory=True))
        for field in MODELS[name].model_fields.values()
    }


def test_no_section_describes_a_model_that_is_gone() -> None:
    assert set(re.findall(r"^### (\w+)$", page("configuration.md"), re.MULTILINE)) == set(MODELS)


def command_line() -> Any:
    return typer.main.get_command(build_app())


def options_of(command: Any) -> set[str]:
    found = {option for param in command.params for option in param.opts if option[:2] == "--"}
    for name, sub in getattr(command, "commands", {}).items():
        found.add(name)
        found |= options_of(sub)
    return found - {"--help", "--version", "--install-completion", "--show-completion"}


def test_every_command_and_option_is_described() -> None:
    text = page("operation.md")

    missing = {name for name in options_of(command_line()) if name not in text}
    assert missing == set()


def test_every_option_that_is_described_exists() -> None:
    described = set(re.findall(r"`(--[a-z-]+)", page("operation.md")))

    assert described <= options_of(command_line())


def test_every_default_of_run_is_described() -> None:
    text = page("operation.md").partition("## run")[2].partition("## check-config")[0]
    described = dict(re.findall(r"^\| `(--[a-z-]+)[^`]*` \| `([^`]*)` \|", text, re.MULTILINE))
    run = command_line().commands["run"]
    defaults = {param.opts[0]: str(param.default) for param in run.params}

    assert described == {option: defaults[option] for option in described}
    assert len(described) >= 8
