"""A log of a day, and copies of it to meddle with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.audit_support import Tampered, make_day


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_day(tmp_path_factory.mktemp("day") / "day.db")


@pytest.fixture
def tampered(day: Path, tmp_path: Path) -> Tampered:
    return Tampered(Path(shutil.copy(day, tmp_path / "day.db")))
