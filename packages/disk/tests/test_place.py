"""A file or folder that is not the one that was opened is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starfish_disk import Place
from starfish_disk.errors import MissingError, PlaceChangedError


def test_the_same_file_passes_and_another_does_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    (tmp_path / "other").write_text("2")
    place = Place(path)

    place.check()
    path.write_text("changed")
    place.check()
    (tmp_path / "other").replace(path)

    with pytest.raises(PlaceChangedError, match="replaced"):
        place.check()
    place.forget()
    place.check()


def test_an_open_descriptor_tells_what_was_there(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    try:
        place = Place(tmp_path, descriptor=descriptor)
        with pytest.raises(PlaceChangedError, match="moved or removed"):
            place.check()
        tmp_path.mkdir()
        with pytest.raises(PlaceChangedError, match="replaced"):
            place.check()
    finally:
        os.close(descriptor)


def test_nothing_there_at_first_is_said_as_such(tmp_path: Path) -> None:
    place = Place(tmp_path / "none")

    with pytest.raises(MissingError):
        place.check()

    assert not place.is_known()
