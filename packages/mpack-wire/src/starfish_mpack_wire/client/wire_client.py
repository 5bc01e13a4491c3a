"""`WireClient`: fetch, push and clone between a local store and a repository of a server.

Order of every fetch: refs are read and their names checked, one pack is downloaded beside the store and
its hash compared, all of its records are verified, it becomes part of the store, the commits that were asked for are looked up, and
only then a ref moves. Whatever goes wrong before leaves the store as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from starfish_mpack_wire._apply import ApplyResult, apply_mpack
from starfish_mpack_wire.client._download import ByteProgress, download_pack, upload_pack
from starfish_mpack_wire.client._retries import RetryPolicy
from starfish_mpack_wire.client._transport import Transport
from starfish_mpack_wire.client.answers import (
    FetchAnswer,
    PackOffer,
    PushAnswer,
    RemoteRefs,
    UploadOffer,
)
from starfish_mpack_wire.client.progress import OnProgress, Progress, Stage
from starfish_mpack_wire.errors import (
    NonFastForwardError,
    ObjectNotFoundError,
    RemoteNotFoundError,
    RemoteProtocolError,
    StoreError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.negotiation.haves import choose_haves
from starfish_mpack_wire.negotiation.messages import (
    BlobFilter,
    BlobsRequest,
    FetchRequest,
    PresignRequest,
    UnpackRequest,
)
from starfish_mpack_wire.ref_names import check_ref_name
from starfish_mpack_wire.store.local_store import LocalStore
from starfish_mpack_wire.store.pack_plan import plan_pack
from starfish_mpack_wire.store.packing import write_pack
from starfish_mpack_wire.store.state import StoreState
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("FetchResult", "PushResult", "WireClient")

MOST_HAVES = 256
HISTORY_OFFERED = 4_096
"""Newest commits that offers are chosen from: beyond, the tips of the last fetch say enough."""
FETCH_ATTEMPTS = 3
"""An offer may expire, or a branch move, between two calls."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch brought."""

    refs: RemoteRefs
    """Branches and tags of the server."""
    commits_written: int
    snapshots_written: int
    blobs_written: int
    size_bytes: int
    """Bytes of the downloaded packs."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push wrote on the server."""

    branch: str
    head: str
    previous: str | None
    """Where the branch was before; ``None`` for a new one."""
    commits_written: int
    snapshots_written: int
    blobs_written: int
    size_bytes: int
    """Bytes of the uploaded pack; 0 when none was needed."""


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
        self._limits = limits or Limits()
        self._transport = Transport(
            base_url,
            token=token,
            timeout_s=timeout_s,
            retries=retries or RetryPolicy(),
            limits=self._limits,
            clock=clock or SystemClock(),
        )

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

    # -- refs and fetch ------------------------------------------------------------------------

    def refs(self) -> RemoteRefs:
        """Branches and tags of the repository, their names checked.

        Raises:
            RemoteNotFoundError: no such repository, or not for this token.
            WireError: no answer, or none of the protocol's.
        """
        return RemoteRefs.read(self._transport.get("refs"))

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
        """Have the branches and tags of the repository in the store, and note where they are.

        Afterwards ``remotes/<remote>/<branch>`` of the store names each branch; those that are gone from the server
        are gone there too. A tag that the store has already stays where it is.

        Args:
            store: where to put what is missing.
            remote: the name under which branches are noted.
            branches: only these; ``None`` for all.
            depth: only so many commits from each branch on; the rest can be fetched later.
            blob_filter: ``blob:none`` or ``blob:limit=N``: leave out all blobs, or large ones.
            paths: leave out blobs that are not below one of these folders.
            on_progress: called now and then.

        Raises:
            RemoteNotFoundError: no such repository or branch, or not for this token.
            MPackError: what came is not what was promised; the store is as before.
        """
        check_ref_name(remote)
        for attempt in range(1, FETCH_ATTEMPTS + 1):
            refs = self.refs()
            chosen = _chosen(refs, branches)
            tags = dict(refs.tags) if branches is None else {}
            try:
                total = self._fetch_commits(
                    store,
                    [*chosen.values(), *tags.values()],
                    depth=depth,
                    blob_filter=blob_filter,
                    paths=paths,
                    on_progress=on_progress,
                )
            except RemoteNotFoundError:
                # A branch was moved and its old commits went, or the offer is too old.
                if attempt == FETCH_ATTEMPTS:
                    raise
                continue
            self._note_refs(store, remote, chosen, tags, only_these=branches is not None)
            return FetchResult(refs, *total)
        raise AssertionError

    def _fetch_commits(
        self,
        store: LocalStore,
        wanted: Sequence[str],
        *,
        depth: int | None,
        blob_filter: str | None,
        paths: Sequence[str],
        on_progress: OnProgress | None,
    ) -> tuple[int, int, int, int]:
        wants = sorted(set(wanted) if depth is not None else store.missing("commit", set(wanted)))
        counts = [0, 0, 0, 0]
        for part in _parts(wants, self._limits.max_wants):
            state = store.state()
            request = FetchRequest(
                want=part,
                have=tuple(self._haves(store, state)),
                depth=depth,
                shallow=tuple(sorted(state.shallow)),
                filter=BlobFilter.parse(blob_filter) if blob_filter is not None else None,
                paths=tuple(paths),
                base=True,
            )
            answer = FetchAnswer.read(self._transport.post("fetch", request.to_bytes()))
            if blob_filter is not None or paths:
                store.change_state(lambda state: replace(state, partial=True))
            # Before the commits come: a boundary that nothing stands at yet does no harm.
            _move_boundary(store, add=answer.shallow)
            for offer in answer.packs:
                result = self._take_in(store, offer, on_progress)
                counts[0] += result.commits_written
                counts[1] += result.snapshots_written
                counts[2] += result.blobs_written
                counts[3] += offer.size_bytes
            if answer.unshallow:
                _move_boundary(store, remove=answer.unshallow)
                # Parents came after their children.
                store.reindex()
            absent = store.missing("commit", part)
            if absent:
                raise RemoteProtocolError(
                    f"{min(absent)} was asked for and is not in what the server sent"
                )
        return counts[0], counts[1], counts[2], counts[3]

    def fetch_blobs(
        self, store: LocalStore, object_ids: Iterable[str], *, on_progress: OnProgress | None = None
    ) -> int:
        """Have these blobs in the store; for a partial clone that needs a file.

        Returns:
            How many were missing.

        Raises:
            RemoteNotFoundError: the repository does not hold one of them.
        """
        missing = sorted(store.missing("blob", set(object_ids)))
        for part in _parts(missing, self._limits.max_wanted_blobs):
            request = BlobsRequest(object_ids=part)
            answer = FetchAnswer.read(self._transport.post("blobs", request.to_bytes()))
            for offer in answer.packs:
                self._take_in(store, offer, on_progress)
            absent = store.missing("blob", part)
            if absent:
                raise RemoteProtocolError(
                    f"{min(absent)} was asked for and is not in what the server sent"
                )
        return len(missing)

    def _haves(self, store: LocalStore, state: StoreState) -> list[str]:
        tips = list(dict.fromkeys(state.refs.values()))
        history = (row.commit_id for row in store.log(tips))
        return choose_haves(
            tips,
            itertools.islice(history, HISTORY_OFFERED),
            limit=min(MOST_HAVES, self._limits.max_haves),
        )

    def _take_in(
        self, store: LocalStore, offer: PackOffer, on_progress: OnProgress | None
    ) -> ApplyResult:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(
                    store.incoming.new_file(offer.mpack_id.partition(":")[2])
                )
            except StoreError:
                # Another process is fetching the same pack.
                file = stack.enter_context(store.incoming.new_file())
            download_pack(
                self._transport,
                offer,
                file,
                max_bytes=self._limits.max_pack_bytes,
                on_progress=_bytes_of("download", on_progress),
            )
            _tell(on_progress, "apply", 0, offer.blob_count)
            result = apply_mpack(store, file, mpack_id=offer.mpack_id)
            _tell(on_progress, "apply", offer.blob_count, offer.blob_count)
        return result

    @staticmethod
    def _note_refs(
        store: LocalStore,
        remote: str,
        branches: dict[str, str],
        tags: dict[str, str],
        *,
        only_these: bool,
    ) -> None:
        prefix = f"remotes/{remote}/"

        def noted(state: StoreState) -> StoreState:
            refs = dict(state.refs)
            if not only_these:
                refs = {
                    name: commit for name, commit in refs.items() if not name.startswith(prefix)
                }
            refs |= {prefix + name: commit for name, commit in branches.items()}
            refs = {f"tags/{name}": commit for name, commit in tags.items()} | refs
            return replace(state, refs=refs)

        store.change_state(noted)

    # -- push ----------------------------------------------------------------------------------

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
        """Give the server what it lacks of a branch and move its branch there.

        Args:
            store: where the branch is.
            branch: the name of the local branch.
            remote: the name under which the server's branches are noted.
            remote_branch: its name on the server, the same when left out.
            force: move it also where that is no fast-forward.
            tags: names of local tags to send along.
            on_progress: called now and then.

        Raises:
            ObjectNotFoundError: there is no such branch.
            NonFastForwardError: the server has commits that the branch does not build on.
            RefConflictError: somebody moved the server's branch at the same moment.
            RemoteRefusedError: not allowed, or the server does not take the pack.
        """
        head = store.branches().get(check_ref_name(branch))
        if head is None:
            raise ObjectNotFoundError(f"the branch {branch}")
        target = check_ref_name(remote_branch or branch)
        tagged = {name: store.tags()[name] for name in tags}
        refs = self.refs()
        current = refs.branches.get(target)
        new_tags = {name: at for name, at in tagged.items() if refs.tags.get(name) != at}
        if current is not None and not force:
            known = store.has_commit(current)
            if not known or not store.is_ancestor(current, head):
                raise NonFastForwardError(target, head, current)
        answer = PushAnswer(0, 0, 0, head)
        size = 0
        if current != head or new_tags:
            known_there = {*refs.branches.values(), *refs.tags.values()}
            answer, size = self._send(
                store,
                UnpackRequest(
                    mpack_id=None,
                    branch=target,
                    head=head,
                    expected_head=current,
                    expects=True,
                    force=force,
                ),
                have=sorted(known_there - store.missing("commit", known_there)),
                tags=new_tags,
                on_progress=on_progress,
            )
        if answer.head != head:
            raise RemoteProtocolError(f"the server moved {target} to {answer.head}, not to {head}")
        self._note_refs(store, remote, {target: head}, {}, only_these=True)
        return PushResult(
            target,
            head,
            current,
            answer.commits_written,
            answer.snapshots_written,
            answer.blobs_written,
            size,
        )

    def _send(
        self,
        store: LocalStore,
        request: UnpackRequest,
        *,
        have: Sequence[str],
        tags: dict[str, str],
        on_progress: OnProgress | None,
    ) -> tuple[PushAnswer, int]:
        wants = [request.head or "", *tags.values()]
        plan = plan_pack(store, wants, have)
        size = 0
        if plan.commits or tags:
            with store.incoming.new_file() as file:
                _tell(on_progress, "build", 0, len(plan.blob_ids))
                mpack_id = write_pack(store, plan, file, tags=tags)
                _tell(on_progress, "build", len(plan.blob_ids), len(plan.blob_ids))
                size = self._upload(mpack_id, file, on_progress)
            request = replace(request, mpack_id=mpack_id)
        answer = PushAnswer.read(self._transport.post("push/unpack", request.to_bytes()))
        return answer, size

    def _upload(self, mpack_id: str, pack: Path, on_progress: OnProgress | None) -> int:
        size = pack.stat().st_size
        request = PresignRequest(mpack_id=mpack_id, size_bytes=size)
        offer = UploadOffer.read(self._transport.post("push/presign", request.to_bytes()))
        if offer.upload_url is not None:
            upload_pack(
                self._transport,
                offer.upload_url,
                pack,
                on_progress=_bytes_of("upload", on_progress),
            )
        return size

    # -- clone ---------------------------------------------------------------------------------

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
            MPackError: what came is not what was promised; the store has no branch.
        """
        result = self.fetch(
            store,
            remote=remote,
            branches=None if branch is None and depth is None else _named(branch),
            depth=depth,
            blob_filter=blob_filter,
            paths=paths,
            on_progress=on_progress,
        )
        name = branch or result.refs.default_branch
        heads = store.remote_branches(remote)
        if branch is not None and branch not in heads:
            raise RemoteNotFoundError(f"the server has no branch {branch}")

        def begun(state: StoreState) -> StoreState:
            state = replace(state, branch=name)
            if name in heads and f"heads/{name}" not in state.refs:
                state = state.with_ref(f"heads/{name}", heads[name], expected=None)
            return state

        store.change_state(begun)
        return result


def _move_boundary(
    store: LocalStore, *, add: Collection[str] = (), remove: Collection[str] = ()
) -> None:
    if add or remove:
        store.change_state(
            lambda state: replace(state, shallow=(state.shallow | set(add)) - set(remove))
        )


def _parts(ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]


def _named(branch: str | None) -> list[str] | None:
    return None if branch is None else [branch]


def _chosen(refs: RemoteRefs, branches: Collection[str] | None) -> dict[str, str]:
    if branches is None:
        return dict(refs.branches)
    for name in branches:
        if name not in refs.branches:
            raise RemoteNotFoundError(f"the server has no branch {check_ref_name(name)}")
    return {name: refs.branches[name] for name in branches}


def _tell(on_progress: OnProgress | None, stage: Stage, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(Progress(stage, done, total))


def _bytes_of(stage: Stage, on_progress: OnProgress | None) -> ByteProgress | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(Progress(stage, done, total))
