"""``POST /revocations``: an issuer takes certificates back; the list signs itself, so nobody has to sign in."""

from __future__ import annotations

import json

from starfish_http.answers import Answer, json_answer
from starfish_http.rate_limit import Counter, Limit, RateLimiter
from starfish_protocol.clock import Clock
from starfish_server.auth.capabilities import StoredRevocations
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext

__all__ = ("revocations_handler",)

_MAX_BODY_BYTES = 1_048_576
_LIMIT = Limit(60, 60_000)
_STATUSES = {
    "malformed-shape": 400,
    "bad-signature": 403,
    "stale-generation": 409,
    "too-many-entries": 400,
    "too-many-issuers": 503,
}


def revocations_handler(revocations: StoredRevocations, clock: Clock) -> Handler:
    """``POST /revocations`` of one server; 60 lists a minute of each address."""
    rates = RateLimiter(clock=clock)

    async def accept(request: RequestContext) -> Answer:
        retry_after = await rates.take([Counter(_LIMIT, f"revocations {request.address()}")])
        if retry_after is not None:
            raise RequestRefusedError(
                429, "Rate limit exceeded", headers={"Retry-After": str(retry_after)}
            )
        raw = await request.body(_MAX_BODY_BYTES).read()
        given = await beside_the_loop(len(raw), _parsed, raw)
        accepted = await revocations.accept_list(given)
        if accepted.refusal is None:
            return json_answer(200, {"ok": True, "generation": accepted.generation})
        facts = (
            {"generation": accepted.generation} if accepted.refusal == "stale-generation" else {}
        )
        headers = [(b"retry-after", b"60")] if accepted.refusal == "too-many-issuers" else []
        return json_answer(
            _STATUSES[accepted.refusal], {"error": accepted.refusal, **facts}, headers
        )

    return accept


def _parsed(raw: bytes) -> object:
    """The list; whatever is not JSON is not a list."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
