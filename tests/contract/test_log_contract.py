"""The log contract: every check over every adapter, and over broken adapters that must fail it."""

from __future__ import annotations

import asyncio

import pytest

from events.memory import MemoryLog
from tests.contract import broken, log_checks, reader_checks
from tests.contract.log_checks import LOG_CHECKS, Check
from tests.contract.reader_checks import READER_CHECKS
from tests.contract.stores import MemoryStore, Store

CHECKS = LOG_CHECKS + READER_CHECKS

FAULTS: list[tuple[type[MemoryLog], Check]] = [
    (broken.UncheckedLog, log_checks.append_elsewhere_is_fenced),
    (broken.UncheckedLog, log_checks.one_of_two_writers_wins_each_offset),
    (broken.UncheckedLog, log_checks.appends_at_once_on_one_handle_are_fenced_too),
    (broken.TornLog, log_checks.append_is_atomic),
    (broken.TornLog, log_checks.too_large_records_stop_the_whole_call),
    (broken.ReorderingLog, log_checks.publish_keeps_the_order),
    (broken.HeadlessLog, log_checks.records_come_back_as_they_were),
    (broken.HalfLog, log_checks.too_large_records_stop_the_whole_call),
    (broken.HalfLog, log_checks.unknown_partitions_are_errors),
    (broken.ForgetfulClockLog, log_checks.time_never_goes_backwards),
    (broken.BoastfulLog, log_checks.a_log_keeps_its_own_time_or_takes_this_machines),
    (broken.DeafLog, reader_checks.waiting_readers_are_woken),
    (broken.LossyLog, reader_checks.cancelled_fetches_lose_nothing),
    (broken.StubbornLog, reader_checks.seeking_moves_both_ways),
    (broken.UnfairLog, reader_checks.partitions_are_served_in_turn),
    (broken.HoleLog, reader_checks.readers_pass_holes),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_adapter_keeps_the_contract(store: Store, check: Check) -> None:
    """The check's docstring says what holds."""
    await check(store)


@pytest.mark.parametrize(("fault", "check"), FAULTS, ids=lambda each: each.__name__)
async def test_broken_adapter_fails_the_check(
    fault: type[MemoryLog], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each planted fault turns the check red that is there for it."""
    monkeypatch.setattr(reader_checks, "PATIENCE_S", 0.3)
    with pytest.raises((AssertionError, pytest.fail.Exception, TimeoutError)):
        async with asyncio.timeout(5):
            await check(MemoryStore(make=fault))


def test_every_check_is_run() -> None:
    """No check is left out of the suite by forgetting to list it."""
    written = {
        function
        for module in (log_checks, reader_checks)
        for function in vars(module).values()
        if getattr(function, "__module__", None) == module.__name__
        and getattr(function, "__annotations__", {}).get("store") == "Store"
    }
    assert written == set(CHECKS)
