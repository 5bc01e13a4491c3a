"""Pages as HTML: templates that escape every value, and the headers that keep them to themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

__all__ = ("asset", "page")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_ASSETS: Final = {
    name: (media_type, files("starfish_server.console").joinpath("static", name).read_bytes())
    for name, media_type in (
        ("console.css", "text/css; charset=utf-8"),
        ("console.js", "text/javascript; charset=utf-8"),
        ("htmx.min.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    )
}


def _when(ms: int | None) -> str:
    """A time in milliseconds, for people."""
    if ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


_environment = Environment(
    loader=PackageLoader("starfish_server.console", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,  # looking for a newer file would block the event loop
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["when"] = _when
for _name in _environment.list_templates(extensions=["html"]):
    _environment.get_template(_name)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page made of a template."""
    root = request.scope.get("root_path", "")
    text = _environment.get_template(template).render(root=root, **values)
    return HTMLResponse(text, status, {**_HEADERS, "cache-control": "no-store"})


def asset(name: str) -> Response | None:
    """A file that pages refer to; ``None`` where there is none of that name."""
    if name not in _ASSETS:
        return None
    media_type, content = _ASSETS[name]
    headers = {**_HEADERS, "cache-control": "max-age=3600"}
    return Response(content, headers=headers, media_type=media_type)
