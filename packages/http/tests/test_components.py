"""Parts of a service: found by their entry point, refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from starfish_http.callers import anyone
from starfish_http.components import Component, ComponentError, Page, load_component

_MODULE = """
from starfish_http.components import Component

def make(settings, authenticate):
    return Component("tides", settings["title"])
"""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that announces a component."""
    (tmp_path / "tides_part.py").write_text(_MODULE)
    info = tmp_path / "tides-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tides\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[starfish.components]\ntides = tides_part:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("_installed")
def test_a_component_is_made_by_the_package_that_announces_it() -> None:
    assert load_component("tides", {"title": "Tides"}, anyone).title == "Tides"


@pytest.mark.usefixtures("_installed")
def test_settings_that_it_cannot_use_are_refused_with_its_name() -> None:
    with pytest.raises(ComponentError, match="component 'tides' cannot be made: 'title'"):
        load_component("tides", {}, anyone)


@pytest.mark.usefixtures("_installed")
def test_a_name_that_nobody_announces_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(ComponentError, match=r"'weather'; installed are: .*tides"):
        load_component("weather", {}, anyone)


async def test_a_component_without_more_is_healthy_and_has_no_pages() -> None:
    part = Component("part", "Part")

    assert await part.health() == {"ok": True}
    assert part.page("overview") is None
    async with part.running():
        pass


def test_a_page_is_found_by_its_path() -> None:
    async def show(_request: object) -> list[object]:
        return []

    part = Component("part", "Part", pages=[Page("a", "A", show), Page("b", "B", show)])  # type: ignore[arg-type]

    found = part.page("b")
    assert found is not None
    assert found.title == "B"
