"""The ``store`` fixture: every test of the contract runs once for each adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.stores import STORES, Store


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    def bootstrap() -> str:
        address: str = request.getfixturevalue("kafka").bootstrap
        return address

    return STORES[request.param](folder=tmp_path, bootstrap=bootstrap)
