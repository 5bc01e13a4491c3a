"""The author of pushed data: both fields or none, by the presenter's own key, and valid."""

from __future__ import annotations

from typing import Any

from starfish_http.callers import Caller
from starfish_protocol.append_author import verify_append_author, verify_doc_author
from starfish_protocol.constants import AUTHOR_PUBKEY_FIELD, AUTHOR_SIGNATURE_FIELD
from starfish_server.documents._types import AuthorProof
from starfish_server.requests._refusals import RequestRefusedError

__all__ = ("checked_append_author", "checked_document_author")


def checked_document_author(
    body: dict[str, Any], document_key: str, data: dict[str, Any], auth: Caller
) -> AuthorProof | None:
    """The author of a document, ``None`` when it is not signed.

    Raises:
        RequestRefusedError: 400 for half a proof, 403 for a wrong one.
    """
    if AUTHOR_PUBKEY_FIELD not in body and AUTHOR_SIGNATURE_FIELD not in body:
        return None
    proof = _proof(body)
    if proof is None:
        raise RequestRefusedError(400, "author proof requires authorPubkey and authorSignature")
    if auth.key is not None and auth.key != proof.pubkey:
        raise RequestRefusedError(403, "document author must be the request presenter")
    if not verify_doc_author(document_key, data, proof.pubkey, proof.signature):
        raise RequestRefusedError(403, "invalid document author signature")
    return proof


def checked_append_author(
    body: dict[str, Any],
    document_key: str,
    data: dict[str, Any],
    auth: Caller,
    *,
    required: bool,
) -> AuthorProof | None:
    """The author of an element.

    Raises:
        RequestRefusedError: 400 when it is missing or half there, 403 when it is wrong.
    """
    if not required and AUTHOR_PUBKEY_FIELD not in body and AUTHOR_SIGNATURE_FIELD not in body:
        return None
    proof = _proof(body)
    if proof is None:
        raise RequestRefusedError(400, "append requires authorPubkey and authorSignature")
    if auth.key is not None and auth.key != proof.pubkey:
        raise RequestRefusedError(403, "append author must be the request presenter")
    if not verify_append_author(document_key, data, proof.pubkey, proof.signature):
        raise RequestRefusedError(403, "invalid append author signature")
    return proof


def _proof(body: dict[str, Any]) -> AuthorProof | None:
    pubkey = body.get(AUTHOR_PUBKEY_FIELD)
    signature = body.get(AUTHOR_SIGNATURE_FIELD)
    if isinstance(pubkey, str) and isinstance(signature, str) and pubkey and signature:
        return AuthorProof(pubkey, signature)
    return None
