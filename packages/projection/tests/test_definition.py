"""Mistakes that can be seen without an event."""

from __future__ import annotations

from typing import Any

import pytest

from starfish_projection import Projection, ProjectionRemove


def _project(event: object) -> ProjectionRemove:
    return ProjectionRemove("a")


async def _async_target(event: object) -> str:
    return "list"


@pytest.mark.parametrize(
    ("source", "target", "project", "error"),
    [
        ("", "list", _project, ValueError),
        ([], "list", _project, ValueError),
        (["a", ""], "list", _project, ValueError),
        (7, "list", _project, TypeError),
        (b"notes", "list", _project, TypeError),
        ("notes", "", _project, ValueError),
        ("notes", "/list", _project, ValueError),
        ("notes", "a/../b", _project, ValueError),
        ("notes", "a\nb", _project, ValueError),
        ("notes", None, _project, TypeError),
        ("notes", _async_target, _project, TypeError),
        ("notes", "list", None, TypeError),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_a_projection_that_cannot_work_is_refused_when_it_is_built(
    source: Any, target: Any, project: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Projection(source, target, project)


def test_sources_are_a_tuple_whether_one_or_several_were_given() -> None:
    assert Projection("a", "list", _project).sources == ("a",)
    assert Projection(["a", "b"], "list", _project).sources == ("a", "b")
