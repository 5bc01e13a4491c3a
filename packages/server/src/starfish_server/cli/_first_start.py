"""``starfish-server init`` and ``serve``: a server from nothing.

Rule: the configuration is written last, so a folder with one is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starfish_disk.durable import create_file, make_folder
from starfish_http.callers import TokenFile
from starfish_server.cli._output import say_result, tell
from starfish_server.maintenance._errors import TakenError

__all__ = ("init_folder", "serve_folder")

_CONFIG = """\
# What this server serves. Edit it and start the server again;
# `starfish-server check-config {path}` lists the problems in it.
# Every field is described in docs/configuration.md.
version = 1

# Documents of one person each: readable and writable with a token of that identity.
[[collections]]
name = "notes"
storagePath = "notes/{{identity}}/{{note}}"
readRoles = ["self"]
writeRoles = ["self"]
listable = true
deletable = true

# Documents that everybody with a token of the role "editor" shares.
[[collections]]
name = "shared"
storagePath = "shared/{{document}}"
readRoles = ["editor"]
writeRoles = ["editor"]
listable = true
deletable = true

# Documents that anybody may read, without a token.
[[collections]]
name = "public"
storagePath = "public/{{document}}"
readRoles = ["public"]
writeRoles = ["editor"]
cacheDurationMs = 60000
"""
_IDENTITY = "admin"


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    @property
    def config(self) -> Path:
        return self.root / "starfish.toml"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def make(self) -> str:
        """Make configuration and token.

        Returns:
            The token.
        """
        if self.config.exists():
            raise TakenError(f"{self.config} exists; edit it, or choose another folder")
        make_folder(self.root, mode=0o700)
        token = TokenFile(self.tokens).create(_IDENTITY, roles=["editor"])
        text = _CONFIG.format(path=self.config)
        create_file(self.config, text.encode())
        return token


def init_folder(root: Path, *, as_json: bool) -> None:
    """Make a first configuration and a token.

    Raises:
        TakenError: there is a configuration already.
        DiskError: the folder cannot be written.
    """
    folder = _Folder(root)
    token = folder.make()
    result = {
        "config": str(folder.config),
        "tokens": str(folder.tokens),
        "identity": _IDENTITY,
        "token": token,
    }
    text = (
        f"configuration: {folder.config}\n"
        f"tokens: {folder.tokens}\n"
        f"token of {_IDENTITY}, shown this once: {token}\n"
        f"next: starfish-server serve {root}"
    )
    say_result("init", result, text, as_json=as_json)


def serve_folder(root: Path, *, host: str, port: int, workers: int, access_log: bool) -> int:
    """Serve a folder, and make a configuration and a token where there is none.

    Returns:
        The exit status.

    Raises:
        StarfishError: a file of the folder does not let it start.
        DiskError: the folder cannot be written.
    """
    from starfish_server.cli._run import RunOptions, run

    folder = _Folder(root)
    token = None
    if not folder.config.exists():
        token = folder.make()
        tell(f"made {folder.config}; edit it as you like")
        tell(f"token of {_IDENTITY}, shown this once: {token}")

    def announce(url: str) -> None:
        print(f"listening on {url}", flush=True)  # noqa: T201
        for line in _request_to_try(url, token).splitlines():
            tell(line)

    options = RunOptions(
        config=folder.config,
        data=folder.data,
        tokens=folder.tokens,
        host=host,
        port=port,
        workers=workers,
        access_log=access_log,
    )
    return run(options, announce=announce)


def _request_to_try(url: str, token: str | None) -> str:
    bearer = "$TOKEN" if token is None else token
    note = "" if token is not None else "TOKEN is one that you have, or of 'tokens create'. "
    return (
        f"{note}Try:\n"
        f'curl -X POST {url}/push/notes/{_IDENTITY}/first -H "Authorization: Bearer {bearer}" '
        '-H \'Content-Type: application/json\' -d \'{"data": {"text": "hello"}, "baseHash": null}\''
    )
