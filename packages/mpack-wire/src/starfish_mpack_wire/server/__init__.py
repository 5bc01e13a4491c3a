"""The server: repositories in rows, packs in object storage, the calls of the wire over HTTP.

Needs the extra ``server``, and ``postgres`` for rows in PostgreSQL.
"""

try:
    from starfish_mpack_wire.server._app import (
        create_app,
        create_repo,
        create_token,
        list_tokens,
        open_rows,
        prepare_data,
        revoke_token,
    )
    from starfish_mpack_wire.server._options import WireOptions
    from starfish_mpack_wire.server._repos import Repo, Repos, TokenEntry, Tokens
    from starfish_mpack_wire.server._routes import create_wire_router
    from starfish_mpack_wire.server._rows import WireRows
except ImportError as error:
    if error.name is not None and error.name.startswith("starfish"):
        raise
    message = (
        "starfish_mpack_wire.server needs the extra server: "
        'pip install --find-links dist "starfish-mpack-wire[server]"'
    )
    raise ImportError(message) from error

__all__ = (
    "Repo",
    "Repos",
    "TokenEntry",
    "Tokens",
    "WireOptions",
    "WireRows",
    "create_app",
    "create_repo",
    "create_token",
    "create_wire_router",
    "list_tokens",
    "open_rows",
    "prepare_data",
    "revoke_token",
)
