"""The real lanes over a faulty log: seeds, a crash at every call, and what makes a run a proof.

More seeds: ``python -m tests.simulation --seeds 1000 --start 100``.
"""

from dataclasses import replace
from functools import cache

import pytest

from events.topics import ROUTING_LOG
from tests.simulation.kept import Kept
from tests.simulation.running import run_plan, run_seed
from tests.simulation.world import Plan, World

SEEDS = range(40)
SMALL = Plan(
    seed=1, plain=False, joins=False, trouble_s=60.0, contacts=2, agents=2, policy=1, mixed=False, steps=2, gap_s=4.0,
    repeat_rate=0.1, foreign_rate=0.1, calm=True,
)  # fmt: skip


@cache
def green(seed):
    """Run a seed, once for all tests; what it brought: faults, types of inputs and records, states."""
    world = run_seed(seed)
    assert world.inputs > 0
    assert world.observer.takeovers >= 3
    types, states = set(), set()
    for log in Kept(world).logs:
        types |= {line.record.data["input"]["type"] for line in log.decided if "input" in line.record.data}
        types |= {line.record.type for line in log.decided}
        types |= {
            f"{log.spec.role} {name}" for line in log.decided for name in {"closed", "opens_ms"} & {*line.record.data}
        }
        types |= {line.record.data["reason"] for line in log.decided if "reason" in line.record.data}
        if log.place.topic == ROUTING_LOG:
            states |= {line.record.data.get("to") for line in log.decided}
    return set(world.counts), types, states


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_whatever_happens(seed):
    """All oracles are green; the seed stands in the failure's message."""
    assert green(seed)


def crash_points(process):
    """Every call of a process in a small calm run, before and after its effect."""
    calls = {each.name: each.port.calls for each in run_plan(replace(SMALL, crash_at=("nobody", 1, False))).processes}
    return [(process, call, after) for call in range(1, calls[process] + 1) for after in (False, True)]


@pytest.mark.parametrize("process", ["router-1 #2", "assigner-0 #3"])
def test_a_crash_at_any_call_on_the_log_costs_nothing(process):
    """The process dies before or after its call k, for every k, and is started anew."""
    points = crash_points(process)
    crashes = 0
    for point in points:
        counts = run_plan(replace(SMALL, crash_at=point)).counts
        crashes += counts["crash after a call"] + counts["crash before a call"]
    assert len(points) > 100
    assert crashes > 0.8 * len(points)  # the others are calls that a clean stop cancels, or makes


def test_a_seed_is_the_same_run_every_time():
    """Two runs of one seed leave byte-equal logs."""

    def logs(seed):
        world = World(Plan.of_seed(seed))
        world.run()
        return [[line.stored for line in log.lines] for log in Kept(world).logs]

    assert logs(5) == logs(5)


def test_the_seeds_are_worth_running():
    """Together they bring every fault, every kind of input and every state to the lanes."""
    faults, types, states = (set().union(*found) for found in zip(*map(green, SEEDS), strict=True))
    assert {
        "append fenced", "append indefinite-before", "append indefinite-after", "append indefinite-late",
        "append twice", "append unavailable", "publish indefinite-before", "publish indefinite-after",
        "publish indefinite-partly", "publish indefinite-late", "publish doubled", "delay", "foreign log",
        "late write taken", "late write refused", "crash", "crash soon", "crash before a call", "crash after a call",
        "second owner", "stall", "stop", "new policy", "crm twice", "crm late", "crm never", "crm failing",
    } <= faults  # fmt: skip
    assert {
        "conversation.opened", "message.received", "contact.updated", "assignee.changed", "conversation.closed",
        "reply.failed", "crm.answered", "crm.failed", "deadline.passed", "assignment.requested", "assignment.ended",
        "assignment.taken", "assignment.refused", "agent.updated", "agent.presence", "agent.removed",
        "assignment.accepted", "agents.configured", "assignment.queued", "assignment.made", "assignment.released",
        "hours.changed", "outside-hours", "assigner opens_ms", "router closed",
    } <= types  # fmt: skip
    assert {
        "opened", "awaiting-email", "email-retry-1", "email-retry-2", "email-retry-3", "fetching-crm", "routed-vip",
        "routed-regular", "escalated", "closed",
    } <= states  # fmt: skip
