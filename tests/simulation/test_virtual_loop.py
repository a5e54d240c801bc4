"""The loop that simulations run under: time jumps, the order is fixed, and who waits for ever is told so."""

import asyncio
import time

import pytest

from tests.simulation import virtual_loop
from tests.simulation.virtual_loop import DeadlockError, LivelockError, run_virtual


def test_a_day_passes_at_once():
    """Sleeping moves the virtual clock by what was asked for, and no real time passes."""

    async def main():
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time() - began_s

    began_s = time.monotonic()
    assert run_virtual(main()) == pytest.approx(86_400)
    assert time.monotonic() - began_s < 5


def test_timers_fire_in_order_of_time_then_of_creation():
    async def main():
        order = []

        async def late(delay_s, name):
            await asyncio.sleep(delay_s)
            order.append(name)

        await asyncio.gather(late(2, "c"), late(1, "a"), late(1, "b"))
        return order

    assert run_virtual(main()) == ["a", "b", "c"]


def test_waiting_for_ever_is_an_error_that_says_who_waits():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"nobody can go on:\n.*main"):
        run_virtual(main())


def test_spinning_without_time_is_an_error(monkeypatch):
    monkeypatch.setattr(virtual_loop, "SPINS_MAX", 100)

    async def main():
        while True:  # noqa: ASYNC110 - it spins, that is the point
            await asyncio.sleep(0)

    with pytest.raises(LivelockError, match="time stands still"):
        run_virtual(main())
