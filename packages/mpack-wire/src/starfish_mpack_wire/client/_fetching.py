"""Fetches: negotiate, download, verify, apply, and only then note where the refs of the server are."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from starfish_mpack_wire._history.haves import choose_haves
from starfish_mpack_wire._messages import BlobFilter, BlobsRequest, FetchRequest
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.apply import ApplyResult, apply_mpack
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire.client._answers import FetchAnswer, PackOffer, RemoteRefs
from starfish_mpack_wire.client._download import download_pack
from starfish_mpack_wire.client._progress import OnProgress, bytes_of, tell
from starfish_mpack_wire.client._transport import Transport
from starfish_mpack_wire.errors import (
    IncompleteHistoryError,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    RemoteNotFoundError,
    RemoteProtocolError,
    StoreError,
)
from starfish_mpack_wire.limits import Limits

__all__ = ("FetchResult", "FetchWishes", "Fetcher", "note_refs")

MOST_HAVES = 256
HISTORY_OFFERED = 4_096
"""Newest commits that offers are chosen from: beyond, the tips of the last fetch say enough."""
FETCH_ATTEMPTS = 3
"""An offer may expire, or a branch move, between two calls."""
USELESS = (
    RemoteProtocolError,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    IncompleteHistoryError,
)
"""Errors after which a download is of no use to the next attempt."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchWishes:
    """Which part of a repository is wanted."""

    branches: Collection[str] | None = None
    """Names; ``None`` for all branches and tags."""
    depth: int | None = None
    blob_filter: str | None = None
    paths: Sequence[str] = ()


class Fetcher:
    """Fetches of one client.

    Args:
        transport: talks to the repository.
        limits: caps on answers and packs.
    """

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits

    def refs(self) -> RemoteRefs:
        """See `WireClient.refs`."""
        return RemoteRefs.read(self._transport.get("refs"))

    def fetch(
        self, store: LocalStore, remote: str, wishes: FetchWishes, on_progress: OnProgress | None
    ) -> FetchResult:
        """See `WireClient.fetch`."""
        check_ref_name(remote)
        for attempt in range(1, FETCH_ATTEMPTS + 1):
            refs = self.refs()
            chosen = _chosen(refs, wishes.branches)
            tags = dict(refs.tags) if wishes.branches is None else {}
            try:
                total = self._fetch_commits(
                    store, [*chosen.values(), *tags.values()], wishes, on_progress
                )
            except RemoteNotFoundError:
                # A branch was moved and its old commits went, or the offer is too old.
                if attempt == FETCH_ATTEMPTS:
                    raise
                continue
            note_refs(store, remote, chosen, tags, only_these=wishes.branches is not None)
            return FetchResult(refs, *total)
        raise AssertionError

    def _fetch_commits(
        self,
        store: LocalStore,
        wanted: Sequence[str],
        wishes: FetchWishes,
        on_progress: OnProgress | None,
    ) -> tuple[int, int, int, int]:
        distinct = set(wanted)
        depth = wishes.depth
        wants = sorted(distinct if depth is not None else store.missing("commit", distinct))
        every = wishes.branches is None and len(wants) > self._limits.max_wants
        parts = [tuple[str, ...](())] if every else _parts(wants, self._limits.max_wants)
        counts = [0, 0, 0, 0]
        for part in parts:
            state = store.state()
            request = FetchRequest(
                want=part,
                want_all=every,
                have=tuple(self._haves(store, state)),
                depth=depth,
                shallow=tuple(sorted(state.shallow)),
                filter=BlobFilter.parse(wishes.blob_filter) if wishes.blob_filter else None,
                paths=tuple(wishes.paths),
                base=True,
            )
            answer = FetchAnswer.read(self._transport.post("fetch", request.to_bytes()))
            if wishes.blob_filter is not None or wishes.paths:
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
            absent = store.missing("commit", wants if every else part)
            if absent:
                raise RemoteProtocolError(
                    f"{min(absent)} was asked for and is not in the server's answer"
                )
        return counts[0], counts[1], counts[2], counts[3]

    def fetch_blobs(
        self, store: LocalStore, object_ids: Iterable[str], on_progress: OnProgress | None
    ) -> int:
        """See `WireClient.fetch_blobs`."""
        missing = sorted(store.missing("blob", set(object_ids)))
        for part in _parts(missing, self._limits.max_wanted_blobs):
            request = BlobsRequest(object_ids=part)
            answer = FetchAnswer.read(self._transport.post("blobs", request.to_bytes()))
            for offer in answer.packs:
                self._take_in(store, offer, on_progress)
            absent = store.missing("blob", part)
            if absent:
                raise RemoteProtocolError(
                    f"{min(absent)} was asked for and is not in the server's answer"
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
            try:
                download_pack(
                    self._transport,
                    offer,
                    file,
                    max_bytes=self._limits.max_pack_bytes,
                    on_progress=bytes_of("download", on_progress),
                )
                tell(on_progress, "apply", 0, offer.blob_count)
                result = apply_mpack(store, file, mpack_id=offer.mpack_id)
                tell(on_progress, "apply", offer.blob_count, offer.blob_count)
            except USELESS:
                file.unlink(missing_ok=True)
                raise
            except BaseException:
                if not file.stat().st_size:
                    file.unlink()
                raise
        return result


def note_refs(
    store: LocalStore,
    remote: str,
    branches: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    only_these: bool,
) -> None:
    """Note where the branches of a remote are; a tag that the store has stays where it is."""
    prefix = f"remotes/{remote}/"

    def noted(state: StoreState) -> StoreState:
        refs = dict(state.refs)
        if not only_these:
            refs = {name: commit for name, commit in refs.items() if not name.startswith(prefix)}
        refs |= {prefix + name: commit for name, commit in branches.items()}
        refs = {f"tags/{name}": commit for name, commit in tags.items()} | refs
        return replace(state, refs=refs)

    store.change_state(noted)


def _move_boundary(
    store: LocalStore, *, add: Collection[str] = (), remove: Collection[str] = ()
) -> None:
    if add or remove:
        store.change_state(
            lambda state: replace(state, shallow=(state.shallow | set(add)) - set(remove))
        )


def _parts(ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]


def _chosen(refs: RemoteRefs, branches: Collection[str] | None) -> dict[str, str]:
    if branches is None:
        return dict(refs.branches)
    for name in branches:
        if name not in refs.branches:
            raise RemoteNotFoundError(f"the server has no branch {check_ref_name(name)}")
    return {name: refs.branches[name] for name in branches}
