"""Verifying and replaying a desk with offers and wrap-up: what lanes wrote passes, what somebody changed does not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.audit.replay import replay
from events.log import TopicPartition
from events.records import parse
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG
from routing.decider import LogRecord
from tests.audit_breaks import Found, check_found, forged, set_data, verified
from tests.audit_support import START_MS, Tampered, Town, policy

OFFERING = policy(
    ('strategy = "round-robin"       # or least-open\n', 'strategy = "round-robin"\naccept = "30s"\n'),
    ("[agents]\n", '[agents]\nwrap_up = "10m"\n'),
)


async def records(town: Town) -> list[LogRecord]:
    found = await town.log.read(TopicPartition(ASSIGNMENTS_LOG, 0), 0, records_max=1_000)
    return [parse(stored) for stored in found.records]


async def opens(town: Town, number: int) -> LogRecord:
    """A regular contact's conversation; returns its last record: the offer."""
    contact = {"id": f"c{number}", "email": f"c{number}@example.com"}
    await town.tell("conversation.opened", f"v{number}", f"c{number}", contact=contact)
    await town.settle()
    return (await records(town))[-1]


async def answers(town: Town, offer: LogRecord, kind: str) -> None:
    await town.agent(
        f"assignment.{kind}", offer.data["agent"],
        conversation=offer.subject, contact={"id": offer.contact}, token=offer.data["token"],
    )  # fmt: skip
    await town.settle()


async def offering_day(town: Town) -> None:
    """Offers that are accepted, declined and missed, and a conversation whose end takes time."""
    for name in ("sam", "tess"):
        await town.agent("agent.updated", name, teams=["support"], max_open=3)
    await town.settle()
    await answers(town, await opens(town, 1), "accepted")
    await answers(town, await opens(town, 2), "declined")
    await answers(town, (await records(town))[-1], "accepted")
    await opens(town, 3)
    await town.passes(30_000)
    await answers(town, (await records(town))[-1], "accepted")
    await town.tell("conversation.closed", "v1", "c1", reason="solved")
    await town.settle()
    await answers(town, await opens(town, 4), "accepted")
    await town.passes(600_000)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desk") / "day.db"

    async def make() -> None:
        async with (
            SqliteLog(path, create={}, clock_ms=lambda: START_MS) as log,
            Town(log, {"default": OFFERING}, contacts=1) as town,
        ):
            await offering_day(town)

    asyncio.run(make())
    return path


@pytest.fixture
def tampered(day: Path, tmp_path: Path) -> Tampered:
    return Tampered(Path(shutil.copy(day, tmp_path / "day.db")))


def test_the_day_has_all_that_is_meddled_with_and_passes(day: Path) -> None:
    found = Tampered(day).records(ASSIGNMENTS_LOG, 0)
    assert [event["data"].get("reason") for event in found if event["type"] == "assignment.released"] == [
        "declined", "offer-missed", "solved",
    ]  # fmt: skip
    assert any(line.get("wrapping") for event in found for line in event["data"].get("candidates", ()))
    assert verified(Tampered(day)) is None


async def test_the_day_is_decided_again_byte_for_byte(day: Path) -> None:
    async with SqliteLog(day) as log:
        report = await replay(log)
    assert report.first_difference is None
    assert report.checked["decisions"] > 20


def hide_the_wrap_up(event: dict[str, Any]) -> None:
    for line in event["data"]["candidates"]:
        line.pop("wrapping", None)


BREAKS: dict[str, Callable[[Tampered], Found]] = {
    "another than was offered it accepts": forged(
        ASSIGNMENTS_LOG, "assignment.made", "one owner", set_data(agent="zoe"), reason="accepted"
    ),
    "an offer is taken back from another": forged(
        ASSIGNMENTS_LOG, "assignment.released", "one owner", set_data(agent="zoe"), reason="declined"
    ),
    "what was offered was never offered": forged(
        ASSIGNMENTS_LOG, "assignment.made", "one owner", set_data(from_="waiting"), reason="accepted"
    ),
    "an end still takes time that never was": forged(
        ASSIGNMENTS_LOG, "agent.changed", "max_open", set_data(wrapping=[1]), wrapping=[]
    ),
}  # fmt: skip


def test_a_wrap_up_that_is_hidden_from_the_candidates_is_found(tampered: Tampered) -> None:
    offset = next(
        number
        for number, event in enumerate(tampered.records(ASSIGNMENTS_LOG, 0))
        if any(line.get("wrapping") for line in event["data"].get("candidates", ()))
    )
    event = tampered.event(ASSIGNMENTS_LOG, 0, offset)
    hide_the_wrap_up(event)
    tampered.forge(ASSIGNMENTS_LOG, 0, offset, event)
    check_found(tampered, Found("max_open", ASSIGNMENTS_LOG, 0, offset))


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found_at_its_place(name: str, tampered: Tampered) -> None:
    check_found(tampered, BREAKS[name](tampered))
