"""Owning a role: one holder at a time, waiting that can be given up, and freedom when the holder dies."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from events.log import LogUnavailableError
from events.memory import MemoryLog
from events.ownership import FileOwnership, MemoryOwnership, Ownership
from events.sqlite.log import SqliteLog

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30

HOLDER = """
import asyncio, pathlib, sys
from events.ownership import FileOwnership
async def main():
    async with FileOwnership(pathlib.Path(sys.argv[1])).lock("router"):
        print("held", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture(params=["memory", "file"])
def owners(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ownership]:
    """Makes what each of several owners has."""
    shared = MemoryOwnership()
    return lambda: shared if request.param == "memory" else FileOwnership(tmp_path / "log.db")


async def entered(lock: AbstractAsyncContextManager[None], then: asyncio.Event) -> None:
    async with lock:
        await then.wait()


async def test_a_role_has_one_holder(owners: Callable[[], Ownership]) -> None:
    """The second one waits, says so once, and gets the role when the first has left."""
    told: list[str] = []
    leave = asyncio.Event()
    async with owners().lock("router", waiting=lambda: told.append("first")):
        second = asyncio.ensure_future(entered(owners().lock("router", waiting=lambda: told.append("second")), leave))
        assert await asyncio.wait([second], timeout=0.15) == (set(), {second})
        assert told == ["second"]
    leave.set()
    await asyncio.wait_for(second, PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), owners().lock("router", waiting=lambda: told.append("third")):
        assert told == ["second"]


async def test_roles_are_independent(owners: Callable[[], Ownership]) -> None:
    """Who holds one role keeps nobody from another."""
    async with asyncio.timeout(PATIENCE_S), owners().lock("router"), owners().lock("assigner"):
        pass


async def test_waiting_can_be_given_up(owners: Callable[[], Ownership]) -> None:
    """A wait that is cancelled leaves the role to the others; so does a holder that is cancelled."""
    first = asyncio.ensure_future(entered(owners().lock("router"), asyncio.Event()))
    second = asyncio.ensure_future(entered(owners().lock("router"), asyncio.Event()))
    for task in (second, first):
        assert task not in (await asyncio.wait([task], timeout=0.02))[0]
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    async with asyncio.timeout(PATIENCE_S), owners().lock("router"):
        pass


@pytest.mark.parametrize("role", ["", "Router", "../router", "a b", "1"])
async def test_a_role_is_a_plain_word(owners: Callable[[], Ownership], role: str) -> None:
    """A role becomes part of a file's name."""
    with pytest.raises(ValueError, match="role"):
        async with owners().lock(role):
            pass


async def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """A process that is killed frees its role at once: the kernel does it."""
    path = tmp_path / "log.db"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    told: list[None] = []
    leave = asyncio.Event()
    leave.set()
    waiter = asyncio.ensure_future(
        entered(FileOwnership(path).lock("router", waiting=lambda: told.append(None)), leave)
    )
    assert await asyncio.wait([waiter], timeout=0.15) == (set(), {waiter})
    holder.kill()
    await asyncio.wait_for(waiter, PATIENCE_S)
    assert told == [None]
    assert await holder.wait() == -signal.SIGKILL


async def test_a_lock_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Where the lock file cannot be made, the error names it."""
    with pytest.raises(LogUnavailableError, match=r"log\.db\.router\.lock"):
        async with FileOwnership(tmp_path / "none" / "log.db").lock("router"):
            pass


async def test_logs_offer_their_roles(tmp_path: Path) -> None:
    """Handles on one log share its roles; the lock file stands beside the log."""
    logs = (
        MemoryLog(cluster_id="x", clock_ms=lambda: 0),
        SqliteLog(tmp_path / "log.db", create={}),
    )
    for log in logs:
        async with log, log.lock("crm"):
            second = asyncio.ensure_future(entered(log.lock("crm"), asyncio.Event()))
            assert await asyncio.wait([second], timeout=0.02) == (set(), {second})
            second.cancel()
            await asyncio.wait([second])
    assert (tmp_path / "log.db.crm.lock").exists()
