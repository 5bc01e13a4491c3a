"""The forms in which an application may say who its callers are, made into one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_type_hints

from starlette.requests import Request
from typing_extensions import override

from starfish_http.callers._bearer import by_token, is_answered_again
from starfish_http.callers._caller import Authenticator, Caller

__all__ = ("as_authenticator", "by_request")


class by_request(Authenticator):  # noqa: N801 - it is called like the function that it wraps
    """An `Authenticator` over a function of a request.

    Args:
        function: answers a `Caller` (or what `Caller.of` takes), or raises.

    Examples:
        >>> async def name_of(request):
        ...     return request.headers.get("x-user")
        >>> authenticate = by_request(name_of)
    """

    def __init__(self, function: Callable[[Request], Awaitable[Any]]) -> None:
        self._function = function

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request; raises what the function raises."""
        return Caller.of(await self._function(request))

    @override
    async def is_current(self, request: Request, caller: Caller) -> bool:
        """Whether the function still answers the same caller."""
        return await caller.is_current() and await is_answered_again(self, request, caller)


def as_authenticator(
    authenticate: Callable[[Any], Awaitable[Any]] | None, *, plain: Literal["request", "token"]
) -> Authenticator:
    """The `Authenticator` that an application meant.

    One of the class `Authenticator` is taken as it is, and a function whose first parameter is annotated
    as a ``Request`` is one of a request. Any other function takes what it always did in the
    package that asks.

    Args:
        authenticate: given by the application.
        plain: what a function without such a mark takes.

    Raises:
        TypeError: it is ``None`` or cannot be called: nobody is let in by leaving something out.

    Examples:
        >>> async def actor_of(token): ...
        >>> type(as_authenticator(actor_of, plain="token")).__name__
        'by_token'
    """
    if isinstance(authenticate, Authenticator):
        return authenticate
    if authenticate is None or not callable(authenticate):
        raise TypeError(
            f"authenticate is {authenticate!r}; it must be an Authenticator or a function "
            f"of a {plain}, or starfish_http.callers.anyone to let everybody in"
        )
    if plain == "request" or _takes_a_request(authenticate):
        return by_request(authenticate)
    return by_token(authenticate)


def _takes_a_request(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None:
        return False
    annotation = first.annotation
    if isinstance(annotation, str):
        target = function if inspect.isroutine(function) else type(function).__call__
        try:
            annotation = get_type_hints(target).get(first.name)
        except Exception:  # noqa: BLE001 - names that only the type checker sees
            return str(annotation).endswith("Request")
    return isinstance(annotation, type) and issubclass(annotation, Request)
