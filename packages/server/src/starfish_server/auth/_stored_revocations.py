"""Revocation lists in the document store: accepted by one server, known to all within a second."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from starfish_http.callers.capabilities import Revocations
from starfish_protocol.cap import user_id_from_pub_hex
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.revocation import MAX_REVOKED_ENTRIES, revocation_list_fault
from starfish_server.auth._known_issuers import KnownIssuers
from starfish_server.documents._errors import ContentionError, DamagedDocumentError
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import ABSENT, Match, Value

__all__ = ("RETAIN_SKEW_S", "Acceptance", "StoredRevocations")

RETAIN_SKEW_S = 300
"""Seconds beyond its end for which a certificate is honoured, and a revocation kept."""

Refusal: TypeAlias = Literal[
    "malformed-shape", "bad-signature", "stale-generation", "too-many-issuers", "too-many-entries"
]

_LOG = logging.getLogger(__name__)
_LISTS = "~revocations/"
_CHANGE = "~revocations-change"
_MOST_ISSUERS = 10_000
_MOST_KEPT = 2 * MAX_REVOKED_ENTRIES
_MOST_REMEMBERED = 10_000
_LOOK_EVERY_MS = 500
_LOOK_WITHIN_S = 2.0
_ATTEMPTS = 16
_GENERATION_KEPT_S = 30 * 86_400
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The outcome of a list."""

    refusal: Refusal | None = None
    generation: int = 0
    """That of the list which the store holds for this issuer."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An issuer's list with everything of earlier ones that must be kept."""

    generation: int
    caps: Mapping[tuple[str, str], int]
    """Last seconds, by subject and nonce."""
    subjects: Mapping[str, int]
    """Last seconds, by subject."""

    def holds(self, subject: str, nonce: str) -> bool:
        return (subject, nonce) in self.caps or (subject != "" and subject in self.subjects)

    def merged_with(self, given: Mapping[str, Any], now_s: int) -> _Kept:
        """With the entries of a newer list, without those that have run out."""
        caps, subjects = dict(self.caps), dict(self.subjects)
        for entry in given["revoked"]:
            _keep_longest(caps, (entry["sub"], entry["nonce"]), int(entry["exp"]))
        for entry in given.get("revokedSubjects", ()):
            if entry["sub"]:
                _keep_longest(subjects, entry["sub"], int(entry["exp"]))
        oldest = now_s - RETAIN_SKEW_S
        return _Kept(
            given["generation"],
            {entry: exp for entry, exp in caps.items() if exp >= oldest},
            {entry: exp for entry, exp in subjects.items() if exp >= oldest},
        )

    def body(self) -> bytes:
        caps = [[*entry, exp] for entry, exp in self.caps.items()]
        subjects = [[entry, exp] for entry, exp in self.subjects.items()]
        text = {"v": 1, "generation": self.generation, "caps": caps, "subjects": subjects}
        return json.dumps(text, separators=(",", ":")).encode()

    @classmethod
    def of(cls, key: str, body: bytes) -> _Kept:
        """Read a stored list.

        Raises:
            DamagedDocumentError: it is not one: nobody can tell any more who is let in.
        """
        try:
            text = json.loads(body)
            return cls(
                int(text["generation"]),
                {(str(sub), str(nonce)): int(exp) for sub, nonce, exp in text["caps"]},
                {str(sub): int(exp) for sub, exp in text["subjects"]},
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedDocumentError(key, "it must be a list of revocations") from error


_NOTHING = _Kept(-1, {}, {})


class StoredRevocations(Revocations):
    """The revocation lists of one store.

    An entry is kept until the certificate that it names is refused anyway, also when a newer list
    leaves it out. Lists are remembered in this process; a change number in the store, looked at
    twice a second while somebody asks, tells that one changed.

    Args:
        store: of the documents.
        issuers: whom the server keeps data of; strangers make room for them.
        max_issuers: most issuers with a list.
        clock: tells what has run out.
    """

    def __init__(
        self,
        store: ObjectStore,
        issuers: KnownIssuers,
        *,
        max_issuers: int = _MOST_ISSUERS,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._issuers = issuers
        self._max_issuers = max_issuers
        self._clock = clock or SystemClock()
        self._lists: OrderedDict[str, _Kept] = OrderedDict()
        self._change = ""
        self._looked_at: int | None = None
        self._looking = asyncio.Lock()

    async def is_revoked(self, iss: str, cap_sub: str, cap_nonce: str) -> bool:
        """Whether a certificate was taken back; as `Revocations.is_revoked`.

        Raises:
            StoreUnavailableError: the store does not answer.
            DamagedDocumentError: the stored list cannot be read.
        """
        if self._is_due():
            await self._look()
        kept = self._lists.get(iss)
        if kept is None:
            change = self._change
            found = await self._store.get(_LISTS + iss)
            kept = _NOTHING if found is None else _Kept.of(_LISTS + iss, found.body)
            if change == self._change:  # else a newer list may have come meanwhile
                self._lists[iss] = kept
                if len(self._lists) > _MOST_REMEMBERED:
                    self._lists.popitem(last=False)
        return kept.holds(cap_sub, cap_nonce)

    async def accept_list(self, given: object) -> Acceptance:
        """Take an issuer's list, or say why not; everything is looked at before anything is stored.

        Args:
            given: the list, as parsed from JSON.

        Raises:
            StoreUnavailableError: the store does not answer.
            ContentionError: too many lists of this issuer at once.
        """
        fault = revocation_list_fault(given)
        if fault is not None:
            return Acceptance(fault)
        signed = cast("Mapping[str, Any]", given)
        key = _LISTS + signed["iss"]
        for _attempt in range(_ATTEMPTS):
            found = await self._store.get(key)
            before = _NOTHING if found is None else _Kept.of(key, found.body)
            if signed["generation"] <= before.generation:
                return Acceptance("stale-generation", before.generation)
            now_s = self._clock.now_ms() // 1000
            kept = before.merged_with(signed, now_s)
            if len(kept.caps) + len(kept.subjects) > _MOST_KEPT:
                return Acceptance("too-many-entries", before.generation)
            if found is None and not await self._has_room(signed["iss"]):
                return Acceptance("too-many-issuers")
            last = max([now_s, *kept.caps.values(), *kept.subjects.values()])
            expires_at = min(last + RETAIN_SKEW_S + _GENERATION_KEPT_S, 2**43) * 1000
            value = Value(kept.body(), "application/json", expires_at=expires_at)
            try:
                await self._store.write(
                    key, value, when=ABSENT if found is None else Match(found.metadata.etag)
                )
            except PreconditionFailedError:
                continue
            await self._tell()
            return Acceptance(None, kept.generation)
        raise ContentionError(key, _ATTEMPTS)

    def _is_due(self) -> bool:
        now = self._clock.now_ms()
        return self._looked_at is None or not 0 <= now - self._looked_at < _LOOK_EVERY_MS

    async def _look(self) -> None:
        """Forget the remembered lists when the change number in the store moved."""
        async with self._looking:
            if not self._is_due():
                return
            try:
                async with asyncio.timeout(_LOOK_WITHIN_S):
                    found = await self._store.stat(_CHANGE)
            except TimeoutError as error:
                raise StoreUnavailableError("of documents", "it does not answer in time") from error
            change = "" if found is None else found.etag
            if change != self._change:
                self._change = change
                self._lists.clear()
            self._looked_at = self._clock.now_ms()

    async def _tell(self) -> None:
        """Move the change number; without it this process knows at once and the others never."""
        self._lists.clear()
        self._looked_at = None
        await self._store.write(_CHANGE, Value(b"", "text/plain"))

    async def _has_room(self, issuer: str) -> bool:
        entries = await self._store.scan(_LISTS, limit=self._max_issuers)
        if len(entries) < self._max_issuers:
            return True
        for start in range(0, len(entries), _PAGE):
            stranger = await self._stranger_among(
                [entry.key[len(_LISTS) :] for entry in entries[start : start + _PAGE]]
            )
            if stranger is not None:
                _LOG.info("the revocation list of an unknown issuer makes room")
                await self._store.remove(_LISTS + stranger)
                return True
        return await self._issuers.knows(user_id_from_pub_hex(issuer))

    async def _stranger_among(self, issuers: Sequence[str]) -> str | None:
        for issuer in issuers:
            if not await self._issuers.knows(user_id_from_pub_hex(issuer)):
                return issuer
        return None


def _keep_longest(kept: dict[Any, int], entry: object, exp: int) -> None:
    kept[entry] = max(exp, kept.get(entry, exp))
