"""A contact who turns out to be a VIP after all: what the desk does with the conversation, and what is told of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from consumers.audit.finding import find
from consumers.audit.replay import replay
from consumers.audit.show import Story
from consumers.audit.verify import verify
from events.log import TopicPartition
from events.memory import MemoryLog
from events.outputs import Origin, assignment_outputs
from events.topics import ASSIGNMENTS, ASSIGNMENTS_LOG, ROUTING_LOG
from routing.decider import LogRecord
from tests.audit_support import START_MS, Town, policy
from tests.workspace_given import Lane, dedicated, requested, types

ORIGIN = Origin(ASSIGNMENTS_LOG, 0, "log", 1, 1)
LATE = policy(('on_failure = "regular"', 'on_failure = "regular"\nlate = "30m"'))


@pytest.fixture
def lane() -> Lane:
    return Lane()


def turns_vip(lane: Lane, conversation: str) -> list[LogRecord]:
    """The router has heard from the CRM after all."""
    body = replace(requested(dedicated("vera"), route="vip"), route_reason="late-vip")
    return lane.tell(lane.request(body, conversation))


def test_one_that_waits_is_given_to_the_vips_agent(lane: Lane) -> None:
    lane.has("vera", "vips")
    lane.asks("c1")
    assert lane.owner("c1") is None, "the team of the regular route has nobody"
    (record,) = turns_vip(lane, "c1")
    assert (record.type, record.data["agent"], record.data["route_reason"]) == ("assignment.made", "vera", "late-vip")


def test_one_that_goes_on_waiting_keeps_its_time_and_goes_before_regular_ones(lane: Lane) -> None:
    lane.asks("c1")
    lane.asks("c2")
    before = lane.part("c2").routing
    (record,) = turns_vip(lane, "c2")
    assert types([record]) == ["assignment.queued"]
    after = lane.part("c2").routing
    assert before is not None
    assert after is not None
    assert (after.route, after.since_ms, after.order) == ("vip", before.since_ms, before.order)
    assert after.place < before.place


def test_who_has_it_keeps_it_and_is_told(lane: Lane) -> None:
    lane.has("bob", "support")
    lane.has("vera", "vips")
    lane.asks("c1")
    (record,) = turns_vip(lane, "c1")
    assert (record.type, lane.owner("c1"), lane.open("bob"), lane.open("vera")) == ("assignment.rerouted", "bob", 1, 0)
    (output,) = assignment_outputs(record, ORIGIN)
    event = orjson.loads(output.value or b"")
    assert event["type"] == "conversation.rerouted"
    told = {name: event["data"][name] for name in ("agent", "route", "route_reason")}
    assert told == {"agent": "bob", "route": "vip", "route_reason": "late-vip"}
    assert (event["data"]["seq"], event["data"]["n"]) == (2, 1)


def test_should_he_lose_it_it_waits_in_the_new_route(lane: Lane) -> None:
    lane.has("bob", "support")
    lane.asks("c1")
    turns_vip(lane, "c1")
    lane.loses("bob")
    routing = lane.part("c1").routing
    assert routing is not None
    assert (lane.owner("c1"), routing.route) == (None, "vip")


def test_one_that_has_ended_stays_ended_for_any_other_reason(lane: Lane) -> None:
    lane.has("bob", "support")
    lane.asks("c1")
    assert types(lane.asks("c1")) == ["input.ignored"], "only a late answer reroutes"


async def late_day(log: MemoryLog, *, agents: tuple[str, ...]) -> None:
    """The CRM fails, the conversation goes on as regular, and then the CRM answers that it is a VIP's."""
    async with Town(log, {"default": LATE}, contacts=1) as town:
        for agent in agents:
            await town.agent("agent.updated", agent, teams=["support"])
        town.crm["c1"] = "time-out"
        await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1", "email": "ann@example.com"})
        await town.settle()
        await town.agent("agent.updated", "anna", teams=["vip-desk"])
        found = await log.read(TopicPartition(ROUTING_LOG, 0), 0, records_max=100)
        events = [orjson.loads(stored.value or b"") for stored in found.records]
        (asking,) = [event for event in events if event["data"].get("lookup", {}).get("late")]
        asking["id"] += "again"  # the failure that the look-up ended in before has its own id
        town.crm["c1"] = {"customer_type": "VIP"}
        await log.publish(town._answer_to(asking, 0))
        await town.settle()


async def told(log: MemoryLog) -> list[dict[str, Any]]:
    found = await log.read(TopicPartition(ASSIGNMENTS, 0), 0, records_max=100)
    return [orjson.loads(stored.value or b"") for stored in found.records]


@pytest.mark.parametrize(
    ("agents", "outcome"),
    [
        ((), ["conversation.queued", "conversation.assigned"]),
        (("bob",), ["conversation.assigned", "conversation.rerouted"]),
    ],
)
async def test_both_decisions_stand_in_the_log_which_verifies_and_replays(
    agents: tuple[str, ...], outcome: list[str]
) -> None:
    """From the failure to the late answer, through both lanes; the audit shows both."""
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    await late_day(log, agents=agents)
    assert [event["type"] for event in await told(log)] == outcome
    assert (await verify(log)).first_difference is None
    assert (await replay(log)).first_difference is None
    story = Story(log, await find(log, "v1", workspace="default"), personal=False, duration=str)
    shown = [step.what async for step in story.steps()]
    assert "The CRM look-up ended without an answer" in shown
    assert "The CRM answered after all: a VIP" in shown
