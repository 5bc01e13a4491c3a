"""Every error of the registry has its stable code."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from starfish_artifact_registry.error_codes import ERROR_CODES, error_code, error_facts
from starfish_artifact_registry.errors import RegistryError, RetentionError


def registry_errors() -> Iterator[type[RegistryError]]:
    pending = [RegistryError]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if cls.__module__.startswith("starfish_artifact_registry."):
            yield cls


@pytest.mark.parametrize("error", list(registry_errors()), ids=lambda cls: cls.__name__)
def test_every_error_has_a_row(error: type[RegistryError]) -> None:
    assert error in ERROR_CODES


def test_no_two_errors_share_a_code() -> None:
    codes = [row.code for row in ERROR_CODES.values()]

    assert sorted(codes) == sorted(set(codes))


def test_an_error_without_a_row_has_that_of_the_class_above_it() -> None:
    class StillBeingWrittenError(RetentionError): ...

    error = StillBeingWrittenError(UUID(int=1), "is being written")

    assert error_code(error) == ERROR_CODES[RetentionError]
    assert error_facts(error) == {"package_id": "00000000-0000-0000-0000-000000000001"}
