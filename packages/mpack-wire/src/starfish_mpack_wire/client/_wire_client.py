"""`WireClient`: fetch, push and clone between a local store and a repository of a server.

Order of every fetch: refs are read and their names checked, one pack is downloaded beside the store and its hash
compared, all of its records are verified, it becomes part of the store, the commits that were asked for are looked up,
and only then a ref moves. An error before that leaves the store as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire.client._answers import RemoteRefs
from starfish_mpack_wire.client._fetching import Fetcher, FetchResult, FetchWishes
from starfish_mpack_wire.client._progress import OnProgress
from starfish_mpack_wire.client._pushing import Pusher, PushResult
from starfish_mpack_wire.client._retries import RetryPolicy
from starfish_mpack_wire.client._transport import Transport
from starfish_mpack_wire.errors import RemoteNotFoundError
from starfish_mpack_wire.limits import Limits
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("FetchResult", "PushResult", "WireClient")


class WireClient:
    """Talks to one repository.

    Args:
        base_url: address of the repository, ``https://host/owner/slug``.
        token: sent as a bearer token to that address and to no other.
        timeout_s: seconds without a byte after which an attempt has failed.
        retries: how often and how long to try again.
        limits: caps on answers and packs.
        clock: for ``Retry-After`` dates.

    Raises:
        WireError: the address or token cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        limits = limits or Limits()
        self._transport = Transport(
            base_url,
            token=token,
            timeout_s=timeout_s,
            retries=retries or RetryPolicy(),
            limits=limits,
            clock=clock or SystemClock(),
        )
        self._fetcher = Fetcher(self._transport, limits)
        self._pusher = Pusher(self._transport)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def refs(self) -> RemoteRefs:
        """Return branches and tags of the repository, their names checked.

        Raises:
            RemoteNotFoundError: no such repository, or not for this token.
            RemoteRefusedError: the token is unknown, expired or revoked (401).
            WireError: no answer, or none of the protocol's.
        """
        return self._fetcher.refs()

    def fetch(
        self,
        store: LocalStore,
        *,
        remote: str = "origin",
        branches: Collection[str] | None = None,
        depth: int | None = None,
        blob_filter: str | None = None,
        paths: Sequence[str] = (),
        on_progress: OnProgress | None = None,
    ) -> FetchResult:
        """Bring the branches and tags of the repository into the store, and note where they are.

        Afterwards ``remotes/<remote>/<branch>`` of the store names each branch; those that are gone from the server
        are gone there too. A tag that the store has already stays where it is. However a fetch ends, half a download
        stays for a day, and the next fetch goes on with it.

        Args:
            store: the store to fetch into.
            remote: the name under which branches are noted.
            branches: only these; ``None`` for all.
            depth: only so many commits from each branch on; the rest can be fetched later.
            blob_filter: ``blob:none`` or ``blob:limit=N``: leave out all blobs, or large ones.
            paths: leave out blobs that are not below one of these folders.
            on_progress: called now and then.

        Raises:
            RemoteNotFoundError: no such repository or branch, or not for this token.
            MPackError: the download is not the promised one; the store is as before.
        """
        wishes = FetchWishes(branches=branches, depth=depth, blob_filter=blob_filter, paths=paths)
        return self._fetcher.fetch(store, remote, wishes, on_progress)

    def fetch_blobs(
        self, store: LocalStore, object_ids: Iterable[str], *, on_progress: OnProgress | None = None
    ) -> int:
        """Bring these blobs into the store; for a partial clone that needs a file.

        Returns:
            How many were missing.

        Raises:
            RemoteNotFoundError: the repository does not hold one of them.
        """
        return self._fetcher.fetch_blobs(store, object_ids, on_progress)

    def push(
        self,
        store: LocalStore,
        branch: str,
        *,
        remote: str = "origin",
        remote_branch: str | None = None,
        force: bool = False,
        tags: Collection[str] = (),
        on_progress: OnProgress | None = None,
    ) -> PushResult:
        """Give the server the commits of a branch that it lacks, and move its branch there.

        Args:
            store: the store that has the branch.
            branch: the name of the local branch.
            remote: the name under which the server's branches are noted.
            remote_branch: its name on the server, the same when left out.
            force: move it, and the tags, also where the server loses commits.
            tags: names of local tags to send along; all refs move at once, or none.
            on_progress: called now and then.

        Raises:
            ObjectNotFoundError: there is no such branch or tag.
            NonFastForwardError: the server has commits that the branch does not build on.
            RefConflictError: somebody moved the server's branch at the same moment, or a tag names another commit.
            RemoteRefusedError: not allowed, or the server does not take the pack.
        """
        return self._pusher.push(
            store,
            {check_ref_name(branch): check_ref_name(remote_branch or branch)},
            remote=remote,
            force=force,
            tags=tags,
            on_progress=on_progress,
        )

    def push_branches(
        self,
        store: LocalStore,
        branches: Collection[str],
        *,
        remote: str = "origin",
        force: bool = False,
        tags: Collection[str] = (),
        on_progress: OnProgress | None = None,
    ) -> PushResult:
        """Push several branches and tags at once: all of them move, or none; see `push`."""
        return self._pusher.push(
            store,
            {check_ref_name(each): each for each in branches},
            remote=remote,
            force=force,
            tags=tags,
            on_progress=on_progress,
        )

    def delete_refs(
        self,
        store: LocalStore,
        *,
        branches: Collection[str] = (),
        tags: Collection[str] = (),
        remote: str = "origin",
    ) -> None:
        """Delete branches and tags of the server, all at once; its commits stay for who knows their ids.

        Raises:
            ObjectNotFoundError: the server has no such branch or tag.
            RefConflictError: somebody moved one at the same moment; nothing is deleted.
            RemoteRefusedError: not allowed.
        """
        self._pusher.delete(remote=remote, store=store, branches=branches, tags=tags)

    def clone(
        self,
        store: LocalStore,
        *,
        remote: str = "origin",
        branch: str | None = None,
        depth: int | None = None,
        blob_filter: str | None = None,
        paths: Sequence[str] = (),
        on_progress: OnProgress | None = None,
    ) -> FetchResult:
        """Fetch into a new store, and make a branch of its own where the server's first branch is.

        All branches and tags come, with ``depth`` only the named one.

        Args:
            store: a store without branches.
            remote: the name under which the server's branches are noted.
            branch: the branch to go on with; the server's default when left out.
            depth: see `fetch`.
            blob_filter: see `fetch`.
            paths: see `fetch`.
            on_progress: called now and then.

        Raises:
            RemoteNotFoundError: no such repository or branch, or not for this token.
            MPackError: the download is not the promised one; the store has no branch.
        """
        only = [branch] if branch is not None and depth is not None else None
        if branch is not None and only is None and branch not in self.refs().branches:
            raise RemoteNotFoundError(f"the server has no branch {check_ref_name(branch)}")
        result = self.fetch(
            store,
            remote=remote,
            branches=only,
            depth=depth,
            blob_filter=blob_filter,
            paths=paths,
            on_progress=on_progress,
        )
        name = branch or result.refs.default_branch
        heads = store.remote_branches(remote)

        def begun(state: StoreState) -> StoreState:
            state = replace(state, branch=name)
            if name in heads and f"heads/{name}" not in state.refs:
                state = state.with_ref(f"heads/{name}", heads[name], expected=None)
            return state

        store.change_state(begun)
        return result
