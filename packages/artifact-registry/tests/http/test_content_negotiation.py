"""``Accept`` chooses between the forms of a manifest."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs the extra http")

from starfish_artifact_registry.http._content_negotiation import best_media_type

JSON, CBOR = "application/json", "application/cbor"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("APPLICATION/CBOR", CBOR),
        ("application/cbor, */*;q=0.1", CBOR),
        ("application/json;q=0.5, application/cbor;q=0.50", JSON),
        ("application/json; q=0, */*", CBOR),
        ("application/*;q=0, application/cbor;q=0.001", CBOR),
        ("text/html", None),
        ("application/cbor;q=0", None),
        ("*/*;q=0", None),
        (",, ,", None),
        ("application/cbor;profile=x;q=1", CBOR),
    ],
)
def test_the_best_form_is_chosen(accept: str | None, expected: str | None) -> None:
    assert best_media_type(accept, [JSON, CBOR]) == expected
