"""What the command line is pointed at: a store, a configuration and projections."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from starfish_projection._definition import Projection
from starfish_projection._sources import RebuildConfig
from starfish_projection._store import ListStore
from starfish_projection.errors import SetupError

__all__ = ("ProjectionSetup", "load_setup")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionSetup:
    """Everything a rebuild works on, as the application that serves it has it."""

    store: ListStore
    config: RebuildConfig
    """A `starfish_server.config.schema.SyncConfig`."""
    projections: Sequence[Projection]
    """All projections that write these lists, as given to the plugin."""
    target_prefixes: Sequence[str] = ()
    """Beginnings of the keys of lists whose projections have a target function."""
    max_items: int | None = None
    """As given to the plugin."""
    pieces_above_bytes: int | None = 64 * 1024
    """As given to the plugin."""


async def load_setup(reference: str) -> ProjectionSetup:
    """The setup under ``module:attribute``, or what the function there returns.

    Raises:
        SetupError: nothing of the kind is there; what a module raises while it is imported comes
            through as it is.
    """
    module_name, separator, attribute = reference.partition(":")
    if not separator or not module_name or not attribute:
        raise SetupError(reference, "has no module and attribute")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module of that name that imports a missing one is the module's fault, not the name's.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise SetupError(
            reference, f"names the module {error.name!r}, which is not there"
        ) from error
    found = cast("object", getattr(module, attribute, None))
    if callable(found):
        found = found()
    if inspect.isawaitable(found):
        found = await found
    if not isinstance(found, ProjectionSetup):
        raise SetupError(reference, f"gives {type(found).__name__}")
    return found
