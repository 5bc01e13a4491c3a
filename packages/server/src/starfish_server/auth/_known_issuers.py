"""Issuers of certificates whom the server keeps data of."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict

from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import ABSENT, Value

__all__ = ("KnownIssuers",)

_PREFIX = "~issuers/"
_USER_ID = re.compile(r"[0-9a-f]{32}")
_MOST_REMEMBERED = 20_000


class KnownIssuers:
    """Who has written with a certificate of theirs; everybody else is a stranger.

    Anybody can make a key, so strangers have a share of the room for issuers, and no more.

    Args:
        store: of the documents.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[str, None] = OrderedDict()

    async def knows(self, user_id: str) -> bool:
        """Whether something was written with a certificate of this user.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if user_id in self._known:
            return True
        if _USER_ID.fullmatch(user_id) is None:
            return False
        if await self._store.stat(_PREFIX + user_id) is None:
            return False
        self._remember(user_id)
        return True

    async def add(self, user_id: str) -> None:
        """Remember that something was written; the first time it is stored.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if user_id not in self._known and _USER_ID.fullmatch(user_id) is not None:
            with contextlib.suppress(PreconditionFailedError):  # it is there already
                await self._store.write(_PREFIX + user_id, Value(b"", "text/plain"), when=ABSENT)
            self._remember(user_id)

    def _remember(self, user_id: str) -> None:
        self._known[user_id] = None
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
