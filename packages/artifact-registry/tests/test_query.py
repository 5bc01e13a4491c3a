"""Finding packages: filters, pages, and the same answers on both databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.errors import InvalidQueryError
from starfish_artifact_registry.registry import PackageNotFoundError, Registry
from starfish_artifact_registry.views._query import MAX_PAGE
from starfish_protocol.address import ContentAddress
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]


async def test_a_package_is_found_with_all_that_is_known_of_it(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, {"a": b"1", "b": b"22"}, metadata={"case": 7})

    package = await registry.get_package(package_id)

    assert package.package_id == package_id
    assert (package.name, package.producer, package.subject) == ("run 7", "sensor 3", "bridge 12")
    assert (package.status, package.retention_class) == ("finalized", "raw-evidence")
    assert (package.file_count, package.total_bytes, package.metadata) == (2, 3, {"case": 7})
    manifest = await registry.get_manifest_bytes(package_id)
    assert package.manifest_digest == ContentAddress.of(manifest)
    assert (package.created_at, package.created_by) == (clock.now(), "ada")
    assert (package.finalized_at, package.finalized_by) == (clock.now(), "ada")
    assert package.last_event_sequence == 4
    assert package.retain_until == clock.now() + timedelta(days=3650)
    assert (package.holds, package.expired_at, package.deleted_at) == ((), None, None)
    with pytest.raises(PackageNotFoundError):
        await registry.get_package(uuid4())


async def test_every_filter_finds_what_fits_it(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    start = clock.now()
    first = await make_package(registry, {}, name="a", producer="p", metadata={"n": 1, "t": True})
    clock.advance(1000)
    second = await make_package(
        registry, {}, finalize=False, name="b", subject="s", metadata={"n": 1.0, "t": "1"}
    )
    clock.advance(1000)
    third = await make_package(registry, {}, name="b", retention_class="working")

    async def found(**wanted: Any) -> list[UUID]:
        return [package.package_id for package in await registry.list_packages(**wanted)]

    assert await found() == [first, second, third]
    assert await found(name="b") == [second, third]
    assert await found(name="b", status="created") == [second]
    assert await found(producer="p") == [first]
    assert await found(subject="s") == [second]
    assert await found(retention_class="working") == [third]
    assert await found(status="finalized") == [first, third]
    assert await found(status="deleted") == []
    moment: datetime = start + timedelta(seconds=1)
    assert await found(created_after=moment) == [second, third]
    assert await found(created_before=moment) == [first]
    assert await found(metadata={"n": 1}) == [first, second]  # 1 and 1.0 are one JSON number
    assert await found(metadata={"n": 1, "t": True}) == [first]
    assert await found(metadata={"t": 1}) == []
    assert await found(metadata={}) == [first, second, third]
    assert await found(metadata={"no": "such"}) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        0,
        -1.5,
        2**53 - 1,
        1e300,
        "",
        "ü\u2028\"'\\%_",
        "x" * 5000,
        [],
        [1, [2]],
        {},
        {"b": 1, "a": [None]},
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_any_member_of_metadata_is_found_by_its_value(
    registry: Registry, make_package: MakePackage, value: object
) -> None:
    key = f"k'\"ü.{'long' * 200}"
    package_id = await make_package(registry, {}, metadata={key: value, "other": 1})
    await make_package(registry, {}, metadata={key: [value], "other": 1})

    found = await registry.list_packages(metadata={key: value})

    assert [package.package_id for package in found] == [package_id]


async def test_pages_skip_nothing_and_repeat_nothing_while_others_write(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    expected = []
    for number in range(7):
        expected.append(await make_package(registry, {}, name="a"))
        await make_package(registry, {}, name="b")
        clock.advance(number % 2)  # several at one time
    seen: list[UUID] = []
    after = None

    while page := await registry.list_packages(name="a", after=after, limit=2):
        seen += [package.package_id for package in page]
        after = seen[-1]
        if len(seen) == 4:
            clock.advance(1)
            expected.append(await make_package(registry, {}, name="a"))

    assert sorted(seen) == sorted(expected)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 0},
        {"limit": MAX_PAGE + 1},
        {"limit": True},
        {"status": "lost"},
        {"name": "a\0b"},
        {"name": 7},
        {"created_after": datetime(2026, 1, 1)},  # noqa: DTZ001 - which is refused
        {"metadata": {"a": float("nan")}},
        {"metadata": {1: 2}},
        {"after": UUID(int=0)},
    ],
    ids=str,
)
async def test_what_is_not_legal_is_refused(registry: Registry, wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidQueryError):
        await registry.list_packages(**wanted)


async def test_a_search_reads_an_index_and_not_the_table(engine: AsyncEngine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads small tables whole, whatever indexes they have")
    async with engine.connect() as connection:
        plan = await connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT * FROM artifact_packages WHERE producer = 'p'"
                " AND (created_at, id) > ('2026', 'a') ORDER BY created_at, id"
            )
        )
        (step,) = [row[3] for row in plan]
    assert "USING INDEX ix_artifact_packages_producer_created_at_id" in step
