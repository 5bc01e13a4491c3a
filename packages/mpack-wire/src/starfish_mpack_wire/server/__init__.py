"""The server: repositories in rows, packs in object storage, the calls of the wire over HTTP.

Needs the extra ``server``, and ``postgres`` for rows in PostgreSQL.
"""

try:
    from starfish_mpack_wire.server._app import (
        create_app,
        create_repo,
        create_token,
        open_rows,
        prepare_data,
    )
    from starfish_mpack_wire.server._options import WireOptions
    from starfish_mpack_wire.server._repos import Repo, Repos, Tokens
    from starfish_mpack_wire.server._routes import create_wire_router
    from starfish_mpack_wire.server._rows import WireRows
except ImportError as error:
    if error.name is not None and error.name.startswith("starfish"):
        raise
    message = (
        "starfish_mpack_wire.server needs the extra server: "
        'pip install "starfish-mpack-wire[server]"'
    )
    raise ImportError(message) from error

__all__ = (
    "Repo",
    "Repos",
    "Tokens",
    "WireOptions",
    "WireRows",
    "create_app",
    "create_repo",
    "create_token",
    "create_wire_router",
    "open_rows",
    "prepare_data",
)
