"""Which log a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.log import LogUnavailableError
from events.memory import MemoryLog
from events.open_log import open_log
from events.sqlite.log import SqliteLog


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_three_slashes_are_below_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sqlite:///file`` is relative."""
    monkeypatch.chdir(tmp_path)
    async with open_log("sqlite:///vip-router.db", create={"routing.log": 3}) as log:
        assert isinstance(log, SqliteLog)
        assert await log.partition_count("routing.log") == 3
    assert names(tmp_path) == ["vip-router.db"]


async def test_four_slashes_are_absolute(tmp_path: Path) -> None:
    """``sqlite:////folder/file`` is absolute; percent signs escape."""
    async with open_log(f"sqlite:///{tmp_path}/my%20log.db", create={}):
        pass
    async with open_log(f"sqlite:///{tmp_path}/my%20log.db", create=None, read_only=True):
        pass
    assert (tmp_path / "my log.db").exists()


async def test_memory_is_new_each_time() -> None:
    """``memory://`` names a log that nobody else has."""
    async with open_log("memory://", create={"routing.log": 1}) as one, open_log("memory://", create=None) as two:
        assert isinstance(one, MemoryLog)
        assert await one.cluster_id() != await two.cluster_id()
        assert await one.partition_count("routing.log") == 1


async def test_kafka_that_is_not_there_is_said_when_it_is_entered() -> None:
    """Opening connects nothing; entering tries each broker once and says what to do."""
    log = open_log("kafka://127.0.0.1:1", create=None)
    with pytest.raises(LogUnavailableError, match=r"127\.0\.0\.1:1: nothing listens there"):
        async with log:
            pass
    with pytest.raises(ValueError, match="HOST:9092"):
        open_log("kafka://", create=None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "vip-router.db",
        "/var/lib/vip-router.db",
        "sqlite:vip-router.db",
        "sqlite://vip-router.db",
        "sqlite:///",
        "sqlite://",
        "sqlite:///log.db?mode=ro",
        "postgres://localhost/x",
        "SQLITE:///x.db",
    ],
)
def test_a_url_that_names_no_log_says_how_to_write_one(url: str) -> None:
    """The error shows the URL and the forms that exist."""
    with pytest.raises(ValueError, match=r"sqlite:///FILE") as caught:
        open_log(url, create=None)
    assert repr(url) in str(caught.value)


def test_a_log_that_must_exist_is_not_made(tmp_path: Path) -> None:
    """Without topics to create, a missing file is an error."""
    with pytest.raises(LogUnavailableError, match="there is no log"):
        open_log(f"sqlite:///{tmp_path}/log.db", create=None)
