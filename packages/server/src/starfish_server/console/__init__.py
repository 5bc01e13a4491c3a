"""Pages about a service for people; needs the extra ``console``."""

from __future__ import annotations

try:
    from starfish_server.console._pages import create_console
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed in tests
    if error.name != "jinja2":
        raise
    raise ImportError(
        "starfish_server.console needs the extra 'console': "
        'pip install --find-links dist "starfish-server[console]"'
    ) from error

__all__ = ("create_console",)
