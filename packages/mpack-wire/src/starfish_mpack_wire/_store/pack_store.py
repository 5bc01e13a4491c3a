"""Objects by id, and refs that move by compare-and-swap, in one folder of packs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from starfish_mpack_wire._history.delta import is_ancestor
from starfish_mpack_wire._history.reading import run
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.catalogue import CommitRow
from starfish_mpack_wire._store.history import StoreHistory, newest_first
from starfish_mpack_wire._store.incoming import IncomingFolder
from starfish_mpack_wire._store.objects import StoredObjects
from starfish_mpack_wire._store.refusals import (
    hold_store_lock,
    refuse_as_store_error,
    write_atomically,
)
from starfish_mpack_wire._store.state import StateFile, StoreState
from starfish_mpack_wire.errors import ObjectNotFoundError, StoreError
from starfish_mpack_wire.limits import Limits

__all__ = ("BRANCHES", "TAGS", "PackStore")

FORMAT = "starfish mpack store 1\n"
BRANCHES, TAGS = "heads/", "tags/"


class PackStore(StoredObjects):
    """Objects by id and refs by name; see `LocalStore`, which adds what looks after all of them."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        limits: Limits | None = None,
        lock_timeout_s: float = 30.0,
    ) -> None:
        self.path = Path(path)
        """The folder."""
        self.limits = limits or Limits()
        """Caps for packs."""
        self._make()
        self._lock_timeout_s = lock_timeout_s
        self.incoming = IncomingFolder(self.path / "incoming")
        """Files on their way into the store."""
        self._state = StateFile(
            self.path / "state.json", self.path / "lock", lock_timeout_s=lock_timeout_s
        )
        super().__init__(self.path, self.limits)
        try:
            with refuse_as_store_error("cannot use", self.path):
                self.incoming.sweep()
            self.refresh()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        format_file = self.path / "format"
        with refuse_as_store_error("cannot open the store", self.path):
            try:
                found = format_file.read_text()
            except FileNotFoundError:
                self.path.mkdir(parents=True, exist_ok=True)
                # A making that was cut short left these and nothing else.
                strangers = {each.name for each in self.path.iterdir()} - {"packs", "incoming"}
                if any(not name.startswith(".format.") for name in strangers):
                    raise StoreError(
                        f"{self.path} is not a store and not empty: it has {min(strangers)}"
                    ) from None
                (self.path / "packs").mkdir(exist_ok=True)
                (self.path / "incoming").mkdir(exist_ok=True)
                write_atomically(format_file, FORMAT.encode())
                return
            if found != FORMAT:
                raise StoreError(
                    f"{self.path} is of another format, {found[:40]!r}; this program knows {FORMAT!r}"
                )
            # Nearly always empty, so that some programs that copy folders leave it out.
            (self.path / "incoming").mkdir(exist_ok=True)

    def close(self) -> None:
        """Close all files."""
        self.close_objects()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- refs and settings ---------------------------------------------------------------------

    def state(self) -> StoreState:
        """Branches, tags, the current branch and the shallow boundary: one consistent view."""
        return self._state.read()

    def change_state(self, change: Callable[[StoreState], StoreState]) -> StoreState:
        """Change several of these at once; see `StateFile.change`."""
        return self._state.change(change)

    def branches(self) -> dict[str, str]:
        """Name to commit id."""
        return _below(self.state(), BRANCHES)

    def tags(self) -> dict[str, str]:
        """Name to commit id."""
        return _below(self.state(), TAGS)

    def remote_branches(self, remote: str) -> dict[str, str]:
        """Where a remote's branches were when they were last seen."""
        return _below(self.state(), f"remotes/{remote}/")

    def move_branch(self, name: str, new: str | None, *, expected: str | None) -> None:
        """Point a branch at a commit that is there; ``None`` stands for no branch.

        Raises:
            RefConflictError: it is not at ``expected``; nothing changed.
            ObjectNotFoundError: the store does not hold the commit.
            MPackFormatError: no branch can have that name.
        """
        self._move(BRANCHES + check_ref_name(name), new, expected)

    def move_tag(self, name: str, new: str | None, *, expected: str | None = None) -> None:
        """Point a tag at a commit that is there; errors as `move_branch`."""
        self._move(TAGS + check_ref_name(name), new, expected)

    def _move(self, ref: str, new: str | None, expected: str | None) -> None:
        if new is not None and not self.has_commit(new):
            raise ObjectNotFoundError(new)
        self.change_state(lambda state: state.with_ref(ref, new, expected=expected))

    def forget_refs(self, names: Collection[str]) -> None:
        """Remove refs by their full names; no error for one that is not there."""
        self.change_state(
            lambda state: replace(
                state, refs={name: at for name, at in state.refs.items() if name not in names}
            )
        )

    def switch_branch(self, name: str) -> None:
        """Make another branch the one that ``commit`` moves; it need not have a commit."""
        check_ref_name(name)
        self.change_state(lambda state: replace(state, branch=name))

    def settings(self) -> dict[str, Any]:
        """What ``config.json`` holds: remotes, author."""
        path = self.path / "config.json"
        with refuse_as_store_error("cannot read", path):
            try:
                settings = json.loads(path.read_bytes())
            except FileNotFoundError:
                return {}
            except ValueError as error:
                raise StoreError(f"{path} is not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise StoreError(f"{path} is not JSON object")
        return cast("dict[str, Any]", settings)

    def change_settings(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the settings by what ``change`` makes of them."""
        with hold_store_lock(self.path / "lock", timeout_s=self._lock_timeout_s):
            settings = change(self.settings())
            data = json.dumps(settings, indent=1, ensure_ascii=False).encode()
            write_atomically(self.path / "config.json", data + b"\n")

    # -- history -------------------------------------------------------------------------------

    def history(self) -> StoreHistory:
        """Return the history for decisions, cut at the shallow boundary."""
        return StoreHistory(self, self.state().shallow)

    def log(self, tips: Iterable[str]) -> Iterator[CommitRow]:
        """All commits that can be reached, newest first: none after one of its ancestors.

        Raises:
            ObjectNotFoundError: the store lacks one of them, and not on purpose.
        """
        return newest_first(self.catalogue, tips, self.state().shallow)

    def is_ancestor(self, ancestor: str, of: str) -> bool:
        """Whether ``of`` builds on ``ancestor``; each commit does on itself.

        Raises:
            ObjectNotFoundError: the store does not hold one of them.
        """
        for each in (ancestor, of):
            if not self.has_commit(each):
                raise ObjectNotFoundError(each)
        return run(is_ancestor(ancestor, of), self.history())

    # -- locks ---------------------------------------------------------------------------------

    def building_on(self) -> AbstractContextManager[None]:
        """Keep packs from being put together or dropped while something is built on what they hold.

        Raises:
            StoreError: that is being done right now, for too long.
        """
        return hold_store_lock(
            self.path / "maintenance", timeout_s=self._lock_timeout_s, shared=True
        )

    def maintaining(self) -> AbstractContextManager[None]:
        """Wait until nobody is building on the packs, and keep others from it.

        Raises:
            StoreError: somebody is, for too long.
        """
        return hold_store_lock(self.path / "maintenance", timeout_s=self._lock_timeout_s)


def _below(state: StoreState, prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): commit
        for name, commit in sorted(state.refs.items())
        if name.startswith(prefix)
    }
