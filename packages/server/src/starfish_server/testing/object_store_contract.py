"""What every store of the second contract must keep to, as tests that anyone can run on their own.

A subclass named ``Test…`` supplies the fixture ``store`` and inherits the rest; needs pytest and
pytest-asyncio. Rule: no test here may know which store it has.
"""

from __future__ import annotations

import pytest

from starfish_server.storage.object_store import ObjectStore
from starfish_server.testing._life_contract import LifeContract
from starfish_server.testing._race_contract import RaceContract
from starfish_server.testing._value_contract import ValueContract

__all__ = ("ObjectStoreContract",)


class ObjectStoreContract(ValueContract, RaceContract, LifeContract):
    """Tests of one store; supply the fixture ``store``, new and empty for each test."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """The store under test, new and empty; the fixture closes it."""
        raise NotImplementedError("a subclass of ObjectStoreContract supplies the fixture `store`")
