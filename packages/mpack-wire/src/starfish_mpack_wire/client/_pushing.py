"""Pushes: choose refs, build one pack, upload it, and have the server move all refs at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from starfish_mpack_wire._messages import RefUpdate, UnpackRequest, UploadPart
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.packing import plan_for, write_pack
from starfish_mpack_wire.client._answers import PushAnswer, RemoteRefs
from starfish_mpack_wire.client._fetching import note_refs
from starfish_mpack_wire.client._progress import OnProgress, bytes_of, tell
from starfish_mpack_wire.client._transport import Transport
from starfish_mpack_wire.client._upload import parts_of, upload_pack
from starfish_mpack_wire.errors import (
    NonFastForwardError,
    ObjectNotFoundError,
    RefConflictError,
    RemoteProtocolError,
)

__all__ = ("PushResult", "Pusher")


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
    tags_written: int = 0
    """Tags that were made or moved."""
    branches: tuple[str, ...] = ()
    """All branches that were made or moved."""


class Pusher:
    """Pushes of one client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def push(
        self,
        store: LocalStore,
        branches: Mapping[str, str],
        *,
        remote: str,
        force: bool,
        tags: Collection[str],
        on_progress: OnProgress | None,
    ) -> PushResult:
        """Push local branches to branches of the server, the first one named in the result.

        Args:
            store: the store that has them.
            branches: local name to name on the server.
            remote: the name under which the server's branches are noted.
            force: move branches and tags also where the server loses commits.
            tags: names of local tags to send along.
            on_progress: called now and then.
        """
        refs = RemoteRefs.read(self._transport.get("refs"))
        heads = {target: _head_of(store, name) for name, target in branches.items()}
        updates = [
            RefUpdate(kind="branch", name=target, new=head, old=refs.branches.get(target))
            for target, head in heads.items()
            if refs.branches.get(target) != head
        ]
        for each in updates:
            _check_fast_forward(store, each, force=force)
        updates += _tag_updates(store, refs, tags, force=force)
        answer, size = PushAnswer(0, 0, 0, ""), 0
        if updates:
            known_there = {*refs.branches.values(), *refs.tags.values()}
            have = sorted(known_there - store.missing("commit", known_there))
            answer, size = self._send(store, updates, have, force=force, on_progress=on_progress)
        note_refs(store, remote, heads, {}, only_these=True)
        target, head = next(iter(heads.items()))
        return PushResult(
            target,
            head,
            refs.branches.get(target),
            answer.commits_written,
            answer.snapshots_written,
            answer.blobs_written,
            size,
            sum(each.kind == "tag" for each in updates),
            tuple(each.name for each in updates if each.kind == "branch"),
        )

    def delete(
        self, *, remote: str, store: LocalStore, branches: Collection[str], tags: Collection[str]
    ) -> None:
        """See `WireClient.delete_refs`."""
        refs = RemoteRefs.read(self._transport.get("refs"))
        updates: list[RefUpdate] = []
        for name in branches:
            if name not in refs.branches:
                raise ObjectNotFoundError(f"the branch {check_ref_name(name)} of the server")
            updates.append(RefUpdate(kind="branch", name=name, new=None, old=refs.branches[name]))
        for name in tags:
            if name not in refs.tags:
                raise ObjectNotFoundError(f"the tag {check_ref_name(name)} of the server")
            updates.append(RefUpdate(kind="tag", name=name, new=None, old=refs.tags[name]))
        request = UnpackRequest(mpack_id=None, updates=tuple(updates), force=True)
        PushAnswer.read(self._transport.post("push/unpack", request.to_bytes()))
        gone = {f"remotes/{remote}/{name}" for name in branches}
        store.forget_refs(gone)

    def _send(
        self,
        store: LocalStore,
        updates: Sequence[RefUpdate],
        have: Sequence[str],
        *,
        force: bool,
        on_progress: OnProgress | None,
    ) -> tuple[PushAnswer, int]:
        plan = plan_for(store, [each.new for each in updates if each.new is not None], have)
        size, mpack_id = 0, None
        parts: tuple[UploadPart, ...] = ()
        if plan.commits:
            with store.incoming.new_file() as file:
                tell(on_progress, "build", 0, len(plan.blob_ids))
                mpack_id = write_pack(store, plan, file)
                tell(on_progress, "build", len(plan.blob_ids), len(plan.blob_ids))
                size = file.stat().st_size
                parts = parts_of(file, store.limits.upload_part_bytes)
                progress = bytes_of("upload", on_progress)
                upload_pack(self._transport, mpack_id, file, parts, on_progress=progress)
        request = UnpackRequest(
            mpack_id=mpack_id,
            updates=tuple(updates),
            force=force,
            parts=tuple(part.part_id for part in parts),
        )
        answer = PushAnswer.read(self._transport.post("push/unpack", request.to_bytes()))
        moved = next((each.new for each in updates if each.kind == "branch"), None)
        if moved is not None and answer.head != moved:
            raise RemoteProtocolError(f"the server moved a branch to {answer.head}, not to {moved}")
        return answer, size


def _head_of(store: LocalStore, branch: str) -> str:
    head = store.branches().get(check_ref_name(branch))
    if head is None:
        raise ObjectNotFoundError(f"the branch {branch}")
    return head


def _check_fast_forward(store: LocalStore, update: RefUpdate, *, force: bool) -> None:
    current, head = update.old, update.new
    if current is None or head is None or force:
        return
    if not store.has_commit(current) or not store.is_ancestor(current, head):
        raise NonFastForwardError(update.name, head, current)


def _tag_updates(
    store: LocalStore, refs: RemoteRefs, names: Collection[str], *, force: bool
) -> list[RefUpdate]:
    local = store.tags()
    updates: list[RefUpdate] = []
    for name in names:
        if name not in local:
            raise ObjectNotFoundError(f"the tag {name}")
        at = refs.tags.get(name)
        if at == local[name]:
            continue
        if at is not None and not force:
            raise RefConflictError(name, local[name], at)
        updates.append(RefUpdate(kind="tag", name=name, new=local[name], old=at))
    return updates
