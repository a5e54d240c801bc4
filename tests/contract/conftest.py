"""The ``store`` fixture: every test of the contract runs once for each adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.stores import STORES, Store


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)
