"""Files over HTTP: hostile paths in, whole files and ranges out."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db.schema import packed_content
from starfish_artifact_registry.model._relative_path import check_relative_path

CONTENT = bytes(range(256))
TAG = f'"blake3:{blake3(CONTENT).hexdigest()}"'


@pytest.fixture
async def file(client: httpx.AsyncClient, package: str) -> str:
    """Path of a file of 256 bytes."""
    answer = await client.put(
        f"{package}/files/a/clip.html", content=CONTENT, headers={"content-type": "text/html"}
    )
    return f"/files/{answer.json()['file_id']}"


HOSTILE = {
    "nothing": "",
    "parent": "%2e%2e",  # the client resolves dots that are not encoded
    "parent inside": "a/%2e%2e/%2E./etc/passwd",
    "parent at the end": "a/.%2e",
    "encoded slashes": "..%2f..%2fetc%2fpasswd",
    "absolute": "/etc/passwd",
    "encoded absolute": "%2Fetc%2Fpasswd",
    "empty part": "a//b",
    "trailing slash": "a/",
    "dot part": "a/%2e/b",
    "NUL": "a%00b",
    "backslash": "a%5C..%5Cb",
    "drive": "C:/windows",
    "drive alone": "c%3A",
    "4097 bytes": "a" * 4097,
    "4097 bytes in two-byte letters": quote("é" * 2048 + "a"),
    "NFD": quote(unicodedata.normalize("NFD", "café")),
    "no UTF-8": "a%ff",
    "a lone surrogate": "a%ed%a0%80",
    "overlong": "a%c0%afb",
}


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_path_is_400_and_nothing_is_stored(
    client: httpx.AsyncClient, package: str, path: str, tmp_path: Path
) -> None:
    target = httpx.URL(str(client.base_url)).copy_with(
        raw_path=f"/v1{package}/files/{path}".encode()
    )

    answer = await client.put(target, content=b"evidence")

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_relative_path")
    closed = await client.post(f"{package}/finalize")
    assert closed.status_code == 200
    assert (await client.get(f"{package}/manifest")).json()["files"] == []
    assert not (tmp_path / "content").exists()


@pytest.mark.parametrize(
    "path", ["a%0Ab", "a%0A", "%20", "a%3Fb%23c", "%25", "a%2Fb", "%F0%9F%94%92.txt", "a" * 4096]
)
async def test_an_unusual_path_arrives_as_it_is(
    client: httpx.AsyncClient, package: str, path: str
) -> None:
    target = httpx.URL(str(client.base_url)).copy_with(
        raw_path=f"/v1{package}/files/{path}".encode()
    )

    answer = await client.put(target, content=b"evidence")

    assert answer.status_code == 201
    assert quote(answer.json()["relative_path"], safe="") == path


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=20) | st.text(alphabet="./\\:aé\u0301\0\n%", max_size=12))
async def test_a_path_is_taken_exactly_when_it_is_legal(
    client: httpx.AsyncClient, package: str, path: str
) -> None:
    try:
        check_relative_path(path)
    except ValueError:
        expected = {400}
    else:
        expected = {201, 409}  # the same path may come twice

    encoded = quote(path, safe="", errors="surrogatepass").replace(".", "%2E")
    target = httpx.URL(str(client.base_url)).copy_with(
        raw_path=f"/v1{package}/files/{encoded}".encode()
    )
    answer = await client.put(target, content=b"evidence")

    assert answer.status_code in expected


@pytest.mark.parametrize("media_type", ["text", "text/plain\u00e9", "a/b;c", "x" * 5000 + "/y"])
async def test_a_content_type_that_is_none_is_refused(
    client: httpx.AsyncClient, package: str, media_type: str
) -> None:
    answer = await client.put(
        f"{package}/files/a",
        content=b"x",
        headers={"content-type": media_type.encode("latin-1")},  # type: ignore[dict-item]
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_value")


async def test_a_file_comes_whole_and_inert(client: httpx.AsyncClient, file: str) -> None:
    answer = await client.get(file)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == TAG
    assert answer.headers["content-length"] == "256"
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-disposition"].startswith('attachment; filename="clip.html"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"


async def test_a_name_cannot_leave_its_header(client: httpx.AsyncClient, package: str) -> None:
    name = 'é";\r\nset-cookie: a=b; x=".txt'
    made = await client.put(f"{package}/files/{quote(name)}", content=b"x")

    answer = await client.get(f"/files/{made.json()['file_id']}")

    assert "set-cookie" not in answer.headers
    disposition = answer.headers["content-disposition"]
    assert disposition == (
        'attachment; filename="_____set-cookie_ a_b_ x__.txt"; '
        f"filename*=UTF-8''{quote(name, safe='')}"
    )


async def test_an_empty_file_comes_empty(client: httpx.AsyncClient, package: str) -> None:
    made = await client.put(f"{package}/files/empty", content=b"")

    answer = await client.get(f"/files/{made.json()['file_id']}")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=250-", 250, 256), ("bytes=-6", 250, 256),
     ("bytes=0-999", 0, 256), ("bytes=-999", 0, 256)],
)  # fmt: skip
async def test_a_range_is_206(
    client: httpx.AsyncClient, file: str, wanted: str, start: int, end: int
) -> None:
    answer = await client.get(file, headers={"range": wanted})
    head = await client.head(file, headers={"range": wanted})

    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/256"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["etag"] == TAG
    assert (head.status_code, head.headers["content-length"]) == (200, "256")  # ranges are GET's


@pytest.mark.parametrize("wanted", ["bytes=256-", "bytes=-0", "bytes=999-1000"])
async def test_a_range_outside_is_416(client: httpx.AsyncClient, file: str, wanted: str) -> None:
    answer = await client.get(file, headers={"range": wanted})

    assert (answer.status_code, answer.json()["error"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */256"


@pytest.mark.parametrize("wanted", ["bytes=2-1", "bytes=0-1,4-5", "lines=1-2", "bytes", ""])
async def test_what_is_no_range_gets_the_whole_file(
    client: httpx.AsyncClient, file: str, wanted: str
) -> None:
    answer = await client.get(file, headers={"range": wanted})

    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_range_is_bound_to_the_content_it_was_begun_with(
    client: httpx.AsyncClient, file: str
) -> None:
    same = await client.get(file, headers={"range": "bytes=0-1", "if-range": TAG})
    other = await client.get(file, headers={"range": "bytes=0-1", "if-range": '"other"'})

    assert (same.status_code, other.status_code) == (206, 200)


@pytest.mark.parametrize(
    ("condition", "status"),
    [(TAG, 304), (f'"x", W/{TAG}', 304), ("*", 304), ('"x"', 200), ("nonsense", 200)],
)
async def test_a_client_that_has_the_bytes_is_told_so(
    client: httpx.AsyncClient, file: str, condition: str, status: int
) -> None:
    answer = await client.get(file, headers={"if-none-match": condition})

    assert answer.status_code == status
    assert answer.headers["etag"] == TAG


async def test_an_unknown_file_is_404(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/files/00000000-0000-0000-0000-000000000000")
    no_id = await client.get("/files/abc")

    assert (unknown.status_code, unknown.json()["error"]) == (404, "file_not_found")
    assert (no_id.status_code, no_id.json()["error"]) == (422, "invalid_request")


async def test_lost_content_is_an_error_and_not_a_short_file(
    client: httpx.AsyncClient, file: str, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine.begin() as connection:
        assert (await connection.execute(packed_content.delete())).rowcount == 1

    answer = await client.get(file)

    assert (answer.status_code, answer.json()["error"]) == (500, "content_missing")
    assert TAG.strip('"') in caplog.text
    assert TAG.strip('"') not in answer.text
