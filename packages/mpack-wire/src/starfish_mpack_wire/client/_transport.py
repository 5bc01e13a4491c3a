"""HTTP as the client needs it: bounded answers, retries, no redirect, credentials for one host only.

Rule 1: the credential goes to the repository's own address and nowhere else. Rule 2: nothing is read
beyond its cap, and nothing is decompressed: what a server sends is what it costs.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from starfish_mpack_wire._messages import MEDIA_TYPE, decode_message
from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.client._retries import RetryPolicy, retry_after_s
from starfish_mpack_wire.errors import (
    InvalidMessageError,
    NonFastForwardError,
    RefConflictError,
    RemoteNotFoundError,
    RemoteProtocolError,
    RemoteRefusedError,
    RemoteUnavailableError,
    WireError,
)
from starfish_mpack_wire.limits import Limits
from starfish_protocol.clock import Clock

__all__ = ("TransientError", "Transport", "check_url")

_T = TypeVar("_T")

TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may not be there next time."""
LONGEST_DETAIL = 300
"""Characters of a server's words that a message repeats."""


class TransientError(Exception):
    """This attempt failed; another may not."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s
        """Seconds that the server asks to wait."""


class Transport:
    """Calls of one repository.

    Args:
        repo_url: address of the repository, ``https://host/owner/slug``.
        token: sent as a bearer token to that address.
        timeout_s: seconds without a byte after which an attempt has failed.
        retries: how often and how long to try.
        limits: caps on answers.
        clock: for ``Retry-After`` dates.
    """

    def __init__(
        self,
        repo_url: str,
        *,
        token: str | None,
        timeout_s: float,
        retries: RetryPolicy,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.repo_url = check_url(repo_url.rstrip("/"), "the address of a repository")
        """Address of the repository."""
        self._limits = limits
        self._retries = retries
        self._clock = clock
        self._timeout_s = timeout_s
        headers: dict[str, str] = {}
        if token is not None:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise WireError("the token has characters that no token has")
            headers["Authorization"] = f"Bearer {token}"
        # Clients of their own for storage, so that no header, cookie or credential can slip from
        # one to the other.
        self._api = self._new_client(self.repo_url, headers)
        self._storage: dict[bool, httpx.Client] = {}

    def close(self) -> None:
        """Close all connections."""
        for client in (self._api, *self._storage.values()):
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def storage(self, url: str) -> httpx.Client:
        """The client for an address that a server named: it never sends a credential."""
        encrypted = _is_encrypted(url)
        if encrypted not in self._storage:
            self._storage[encrypted] = self._new_client(url, {})
        return self._storage[encrypted]

    def _new_client(self, url: str, headers: dict[str, str]) -> httpx.Client:
        # Certificates take tens of milliseconds to load. A context without any refuses every server.
        return httpx.Client(
            verify=True if _is_encrypted(url) else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=self._timeout_s,
            headers={"Accept-Encoding": "identity"} | headers,
            follow_redirects=False,
        )

    def get(self, path: str) -> dict[str, Any]:
        """Ask for a map; errors as `post`."""
        return self.retry(lambda: self._call("GET", path, None))

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Send a message and read the map that comes back.

        Raises:
            RemoteNotFoundError: 404.
            RefConflictError, NonFastForwardError: 409.
            RemoteRefusedError: another answer that says no.
            RemoteUnavailableError: no answer in all attempts.
            RemoteProtocolError: an answer that is none of the protocol's.
        """
        return self.retry(lambda: self._call("POST", path, body))

    def retry(self, attempt: Callable[[], _T], progress: Callable[[], int] | None = None) -> _T:
        """Call ``attempt`` until it does not raise `TransientError`.

        Args:
            attempt: makes one attempt.
            progress: returns how far the work is; attempts are counted from the last one that got further.

        Raises:
            RemoteUnavailableError: so many attempts in a row failed, none of them getting further.
        """
        failed, best = 0, progress() if progress is not None else 0
        while True:
            try:
                return attempt()
            except TransientError as error:
                now = progress() if progress is not None else 0
                if now > best:
                    failed, best = 0, now
                failed += 1
                if failed >= self._retries.attempts:
                    so_far = f"; {now} bytes have come and are kept" if progress and now else ""
                    raise RemoteUnavailableError(
                        f"{self._host} gave no answer in {failed} attempts: {error}{so_far}"
                    ) from error
                self._retries.sleep(self._retries.delay_s(failed, asked_for_s=error.after_s))

    @property
    def _host(self) -> str:
        return urlsplit(self.repo_url).netloc.rpartition("@")[2]

    def _call(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Accept": MEDIA_TYPE}
        if body is not None:
            headers["Content-Type"] = MEDIA_TYPE
        request = self._api.build_request(
            method, f"{self.repo_url}/{path}", content=body, headers=headers
        )
        with self.open(self._api, request) as response:
            data = self.read(response)
            if response.status_code == HTTPStatus.OK:
                return _message_of(response, data)
            raise self.refusal(response, data)

    @contextmanager
    def open(self, client: httpx.Client, request: httpx.Request) -> Generator[httpx.Response]:
        """Send a request and give its answer, not yet read; redirects and encodings are refused.

        Raises:
            TransientError: the connection failed, before or while it was read.
            RemoteProtocolError: a redirect, or an encoding that was not asked for.
        """
        try:
            response = client.send(request, stream=True)
            try:
                if response.is_redirect:
                    raise RemoteProtocolError(
                        f"{request.url.host} answered with a redirect, which is not followed"
                    )
                encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
                if encoding not in {"", "identity"}:
                    raise RemoteProtocolError(
                        f"the answer is encoded as {terminal_line(encoding)[:40]!r}, which was not asked for"
                    )
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise TransientError(
                f"{type(error).__name__}: {terminal_line(str(error))[:LONGEST_DETAIL]}"
            ) from error

    def read(self, response: httpx.Response) -> bytes:
        """The body of an answer other than a pack."""
        data = bytearray()
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > self._limits.max_message_bytes:
                raise RemoteProtocolError(
                    f"the answer has more than {self._limits.max_message_bytes} bytes"
                )
        return bytes(data)

    def refusal(self, response: httpx.Response, data: bytes) -> Exception:
        """The error that an answer other than 200 stands for."""
        status = response.status_code
        code, detail, fields = _error_of(response, data)
        if status in TRY_AGAIN:
            header = response.headers.get("Retry-After")
            return TransientError(f"{status} {code}", retry_after_s(header, self._clock.now))
        if status == HTTPStatus.NOT_FOUND:
            return RemoteNotFoundError(f"{self._host} has no such thing, or does not tell: {code}")
        if status == HTTPStatus.CONFLICT:
            return _conflict_of(code, fields) or RemoteRefusedError(status, code, detail)
        if 400 <= status < 500:
            return RemoteRefusedError(status, code, detail)
        return RemoteProtocolError(f"the server answered with the status {status}")


def _is_encrypted(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def check_url(url: str, what: str) -> str:
    """Give back an absolute address of HTTP that carries no password.

    Raises:
        WireError: it is something else.
    """
    try:
        parts = urlsplit(url)
        port_is_legal = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_legal = urlsplit(""), False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_legal:
        raise WireError(
            f"{terminal_line(url)[:LONGEST_DETAIL]!r} is not {what}: http:// or https:// and a host"
        )
    if parts.username is not None or parts.password is not None:
        raise WireError("an address must not hold a name or password: set a token instead")
    return url


def _message_of(response: httpx.Response, data: bytes) -> dict[str, Any]:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise RemoteProtocolError(
            f"the answer is {terminal_line(media_type)[:40] or 'of no type'}, not {MEDIA_TYPE}: is this the address of a repository?"
        )
    try:
        return decode_message(data)
    except InvalidMessageError as error:
        raise RemoteProtocolError(f"the answer cannot be read: {error}") from error


def _error_of(response: httpx.Response, data: bytes) -> tuple[str, str, Mapping[str, Any]]:
    try:
        fields = _message_of(response, data)
    except RemoteProtocolError:
        fields = {}
    code, detail = fields.get("error"), fields.get("detail")
    return (
        terminal_line(code)[:LONGEST_DETAIL] if isinstance(code, str) else "without a reason",
        terminal_line(detail)[:LONGEST_DETAIL] if isinstance(detail, str) else "",
        fields,
    )


def _conflict_of(
    code: str, fields: Mapping[str, Any]
) -> WireError | RefConflictError | NonFastForwardError | None:
    def text(key: str) -> str:
        return terminal_line(str(fields.get(key)))[:LONGEST_DETAIL]

    if code == "ref_conflict" and isinstance(fields.get("branch"), str):
        actual, expected = (
            text(key) if isinstance(fields.get(key), str) else None
            for key in ("actual", "expected")
        )
        return RefConflictError(text("branch"), expected, actual)
    if code == "non_fast_forward" and isinstance(fields.get("branch"), str):
        return NonFastForwardError(text("branch"), text("head"), text("current"))
    return None
