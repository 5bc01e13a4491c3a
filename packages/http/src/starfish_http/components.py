"""A part of a service: its routes, its health, and its pages in the console.

Packages that are composed in one service describe themselves with a `Component`. A page is made of
sections, plain values that say what to show; the console turns them into HTML, so that no component
writes markup and none can break out of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final

from starlette.routing import Router

from starfish_http.callers import Authenticate, Caller
from starfish_http.errors import HttpError, RequestRefusedError

__all__ = (
    "Cell",
    "Component",
    "ComponentError",
    "ComponentFactory",
    "Facts",
    "Link",
    "MaySee",
    "Page",
    "PageRequest",
    "Section",
    "Table",
    "Text",
    "check_sight",
    "everybody",
    "has_role",
    "load_component",
)

_ENTRY_POINTS: Final = "starfish.components"
"""The group under which an installed package names the function that makes its component."""


class ComponentError(HttpError, ValueError):
    """A component that was asked for is not there, or cannot be made from its settings."""


@dataclass(frozen=True, slots=True)
class Link:
    """A way to another page of the same component.

    Examples:
        >>> Link("case 7", "package", {"id": "7"}).page
        'package'
    """

    text: str
    """What to click."""
    page: str
    """`Page.path` of the other page."""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    """What that page is asked for."""


Cell = str | int | Link | None
"""One value of a table or a list of facts; ``None`` shows as a dash."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with values, one below the other."""

    title: str
    rows: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """Each as long as ``columns``."""
    more: Link | None = None
    """The next rows, where there are more."""
    empty: str = "Nothing here yet."
    """The sentence in place of a table without rows."""


@dataclass(frozen=True, slots=True)
class Text:
    """Preformatted text: JSON, a difference, a report."""

    title: str
    text: str


Section = Facts | Table | Text
"""One part of a page."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a page is asked for, and by whom."""

    caller: Caller
    """The same caller that the component's routes would see."""
    query: Mapping[str, str]
    """Query parameters, the last one of each name."""
    file: bytes | None = None
    """A file that somebody dropped on the page, where it takes one."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a component in the console."""

    path: str
    """Last segment of its address: lowercase letters, digits and hyphens."""
    title: str
    show: Callable[[PageRequest], Awaitable[Sequence[Section]]]
    """Gives the sections. It raises `starfish_http.errors.RequestRefusedError` for a caller who may
    not see them, or for a query that cannot be answered."""
    takes_file: str | None = None
    """What to ask for, such as "an outbox file"; ``None`` where the page takes none."""
    is_in_menu: bool = True
    """Whether the menu names it; ``False`` for pages that need a query."""


MaySee = Callable[[Caller], bool]
"""Who may look at the pages of a component."""


def everybody(_caller: Caller) -> bool:
    """Lets everybody look: has to be written out, as `starfish_http.callers.anyone` has."""
    return True


def has_role(role: str) -> MaySee:
    """Lets the callers of one role look.

    Examples:
        >>> may_see = has_role("operator")
        >>> may_see(Caller("ada", ["operator"])), may_see(Caller("ben"))
        (True, False)
    """

    def may_see(caller: Caller) -> bool:
        return role in caller.roles

    return may_see


def check_sight(request: PageRequest, may_see: MaySee) -> None:
    """Refuse a caller who may not look.

    Raises:
        RequestRefusedError: 401 for an anonymous caller, 403 for another one.
    """
    if not may_see(request.caller):
        is_anonymous = request.caller.identity is None and not request.caller.roles
        status, code = (401, "unauthorized") if is_anonymous else (403, "forbidden")
        raise RequestRefusedError(status, code, "You may not look at this page.")


@asynccontextmanager
async def _nothing() -> AsyncGenerator[None]:
    yield


async def _healthy() -> Mapping[str, Any]:
    return {"ok": True}


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a service.

    Examples:
        >>> async def show(request):
        ...     return [Facts("Numbers", [("notes", 3)])]
        >>> notes = Component("notes", "Notes", pages=[Page("overview", "Overview", show)])
        >>> notes.page("overview").title
        'Overview'
    """

    name: str
    """Lowercase letters, digits and hyphens: the first segment of its routes and its pages."""
    title: str
    """Its name for people."""
    router: Router | None = None
    """Its routes, served below ``/<name>``."""
    pages: Sequence[Page] = ()
    """What it shows in the console."""
    running: Callable[[], Any] = _nothing
    """An asynchronous context manager that is open while the service runs."""
    health: Callable[[], Awaitable[Mapping[str, Any]]] = _healthy
    """Whether it can work now: ``{"ok": bool, …}`` with facts beside it."""

    def page(self, path: str) -> Page | None:
        """The page at a path, ``None`` where it has none of that name."""
        return next((page for page in self.pages if page.path == path), None)


ComponentFactory = Callable[[Mapping[str, Any], Authenticate], Component]
"""Makes a component from its settings and the one authenticator of the service."""


def load_component(name: str, settings: Mapping[str, Any], authenticate: Authenticate) -> Component:
    """Make a component of an installed package.

    Args:
        name: under which the package announces it in the group ``starfish.components``.
        settings: its part of the configuration.
        authenticate: knows the callers of the service.

    Raises:
        ComponentError: no installed package announces the name, or the settings are refused.

    Examples:
        >>> load_component("weather", {}, authenticate=None)
        Traceback (most recent call last):
        starfish_http.components.ComponentError: no installed package brings the component 'weather'; ...
    """
    known = entry_points(group=_ENTRY_POINTS)
    if name not in known.names:
        names = ", ".join(sorted(known.names)) or "none"
        raise ComponentError(
            f"no installed package brings the component {name!r}; installed are: {names}"
        )
    make: ComponentFactory = known[name].load()
    try:
        return make(settings, authenticate)
    except (TypeError, ValueError, KeyError) as error:
        raise ComponentError(f"component {name!r} cannot be made: {error}") from error
