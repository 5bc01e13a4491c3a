"""Requests to an object storage, and its errors in the words of this package."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from datetime import datetime
from typing import TYPE_CHECKING

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.errors import OutcomeUnknownError

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
    from obstore.store import from_url
except ImportError as error:
    raise ImportError(
        "starfish_server.storage.objects needs the extra objects: "
        'pip install --find-links dist "starfish-server[objects]"'
    ) from error

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Storage

__all__ = ("BaseError", "Bucket", "ConflictError", "from_url")

_UPLOADS = 2
"""Parts of one upload under way at once; each takes 5 MiB of memory."""


_SENT_ONCE = re.compile(r"\bretries: 0,")
"""In the details of an error of obstore, whose exceptions have no such attribute."""


class ConflictError(Exception):
    """A conditional request found another version."""

    was_sent_once = False
    """Whether it surely was: one that was repeated may have been refused by its own first try."""


class Bucket:
    """The objects of one storage.

    Args:
        storage: of obstore.
        location: names it in errors.
    """

    def __init__(self, storage: Storage, location: str) -> None:
        self._storage = storage
        self.location = location
        """Names the storage in errors."""

    async def read(
        self, name: str, *, first: int = 0, end: int | None = None, tag: str | None = None
    ) -> tuple[bytes, str] | None:
        """Read an object or a part of it, with the storage's etag; ``None`` when there is none.

        Raises:
            ConflictError: the version ``tag`` is not there any more.
            StoreUnavailableError: the storage does not answer.
        """
        options: obstore.GetOptions = {}
        if end is not None:
            options["range"] = (first, end)
        elif first:
            options["range"] = {"offset": first}
        if tag is not None:
            options["if_match"] = tag
        with self._translated():
            try:
                found = await obstore.get_async(self._storage, name, options=options)
                body = bytes(await found.bytes_async())
            except FileNotFoundError:
                return None
        return body, found.meta["e_tag"] or ""

    async def create(self, name: str, data: bytes) -> str:
        """Make an object that is not there yet; its etag.

        Raises:
            ConflictError: it is there.
            StoreUnavailableError: the storage does not answer.
            OSError: as `replace`.
        """
        return await self._put(name, data, None)

    async def replace(self, name: str, data: bytes, tag: str) -> str:
        """Replace that version of an object; the etag of the new one.

        Raises:
            ConflictError: another version is there.
            StoreUnavailableError: the storage refused the request.
            BaseError: of obstore; nothing is known of the request.
        """
        return await self._put(name, data, tag)

    async def _put(self, name: str, data: bytes, tag: str | None) -> str:
        try:
            done = await obstore.put_async(
                self._storage,
                name,
                data,
                use_multipart=False,
                mode="create" if tag is None else {"e_tag": tag},
            )
        except (AlreadyExistsError, PreconditionError) as error:
            conflict = ConflictError()
            conflict.was_sent_once = _SENT_ONCE.search(str(error)) is not None
            raise conflict from error
        except (PermissionError, FileNotFoundError, NotImplementedError) as error:
            raise self.unavailable(error) from error
        return done["e_tag"] or ""

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an object of any size under a new name, in bounded memory.

        Raises:
            StoreUnavailableError: the storage does not answer; the parts already sent are abandoned.
        """
        raised: list[BaseException] = []

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield bytes(chunk)
            except BaseException as error:
                raised.append(error)
                raise

        try:
            with self._translated():
                await obstore.put_async(
                    self._storage, name, watched(), use_multipart=True, max_concurrency=_UPLOADS
                )
        except Exception:
            if raised:
                raise raised[0] from None
            raise

    async def delete(self, *names: str) -> None:
        """Delete objects, if they are there.

        Raises:
            StoreUnavailableError: the storage does not answer.
        """
        with self._translated(), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._storage, list(names))

    async def names(self, folder: str, after: str = "") -> AsyncGenerator[tuple[str, datetime]]:
        """The names in a folder behind one of them, sorted, with the time of each object.

        Raises:
            StoreUnavailableError: the storage does not answer.
        """
        with self._translated():
            async for page in obstore.list(  # pyright: ignore[reportUnknownMemberType]  one overload
                self._storage, prefix=folder, offset=f"{folder}/{after}" if after else None
            ):
                for each in page:
                    yield each["path"][len(folder) + 1 :], each["last_modified"]

    def unavailable(self, error: Exception) -> StoreUnavailableError:
        """Make the error of this package."""
        text = str(error).strip() or type(error).__name__
        return StoreUnavailableError(self.location, text.splitlines()[0][:300])

    def unknown(self, key: str, write_id: int, error: Exception) -> OutcomeUnknownError:
        """Make the error for a write whose answer was lost."""
        return OutcomeUnknownError(key, write_id, self.unavailable(error).reason)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except PreconditionError as error:
            raise ConflictError from error
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise self.unavailable(error) from error
