"""The desk on a real Kafka: hours, offers and wrap-up go through a crash, and its commands read the log there."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.chain import Entry, seal
from events.kafka.log import KafkaLog
from events.log import FencedError, NewRecord, TopicPartition
from events.topics import AGENT_EVENTS, ASSIGNMENTS_LOG, ROUTING_LOG
from tests.brokers.cluster import Cluster
from tests.kafka_served import (
    CONTACTS,  # noqa: F401  # of the CRM in conftest.py
    System,
    customers,
    names,
)
from tests.processes import event, policy_text, wait_until

HOURS = """
[hours.morning]
teams = ["early"]
zone = "UTC"
outside = { team = "late" }
DAYS
[hours.afternoon]
teams = ["late"]
zone = "UTC"
outside = { team = "early" }
DAYS
"""
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def desk_policy(crm_url: str) -> str:
    """Regular contacts are offered to whichever of two teams is there: one of them always is, and never both."""
    hours = HOURS
    for span in ("00:00-12:00", "12:00-24:00"):
        hours = hours.replace("DAYS", "\n".join(f'{day} = ["{span}"]' for day in DAYS), 1)
    text = policy_text(crm_url)
    for old, new in (
        ("workspace = true", 'team = "early"\naccept = "10m"'),
        ("[agents]\n", f'{hours}\n[agents]\nwrap_up = "1h"\n'),
        ("[agents.anna]\nteams = []", '[agents.anna]\nteams = ["early"]'),
        ("[agents.berta]\nteams = []", '[agents.berta]\nteams = ["late"]'),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def system(kafka: Cluster, tmp_path: Path, crm_url: str) -> System:
    (tmp_path / "p.toml").write_text(desk_policy(crm_url), encoding="utf-8")
    return System(kafka.bootstrap, tmp_path)


def offers(system: System) -> dict[str, dict[str, Any]]:
    """The last offer of each contact."""
    return {one["partitionkey"]: one for one in system.stored("assignments") if one["type"] == "conversation.offered"}


def accept(system: System) -> None:
    """The agents accept all that was offered, each offer twice."""
    for contact, offer in offers(system).items():
        data = offer["data"]
        answer = {"conversation": offer["subject"], "contact": data["contact"], "token": data["token"]}
        said = event("assignment.accepted", "default", data["agent"], answer, id=f"accepted-{contact}")
        system.write(*[NewRecord(AGENT_EVENTS, 0, b"default", json.dumps(said).encode())] * 2)


def has_offers(system: System, count: int) -> bool:
    return len(offers(system)) == count


def shown(system: System, *command: str) -> dict[str, Any]:
    done = system.run(*command, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


async def write_what_does_not_exist(system: System) -> int:
    """What a stale owner leaves at the end of each log that has begun: records that were written for another offset."""
    fenced = 0
    async with KafkaLog(system.settings) as log:
        for topic in (ROUTING_LOG, ASSIGNMENTS_LOG):
            for number in range(await log.partition_count(topic)):
                place = TopicPartition(topic, number)
                if await log.end_offset(place):
                    stale = seal(
                        place, [Entry(b"k", b"stale", "h")] * 2, expected=0, log_id="l", after="", progress=None
                    )
                    with pytest.raises(FencedError):
                        await log.append(place, stale, expected=0)
                    fenced += len(stale)
    return fenced


def test_what_was_fenced_is_no_break(system: System) -> None:
    """It leaves offsets without a record in the middle of a log and at its end: no audit misses anything."""
    system.create()
    for first in (0, 4):
        system.publish(*customers(first, 4))
        system.serve_until_idle()
        assert asyncio.run(write_what_does_not_exist(system)) >= 4
    system.audit()
    for command in (("workspace", "show"), ("fairness",), ("audit", "show", "v-c1")):
        assert system.run(*command).code == 0


def test_an_offer_outlives_the_process_that_made_it(system: System) -> None:
    """c0 is a VIP and goes to anna at once; the others are offered, and accepted after kill -9."""
    system.create()
    with system.serving() as first:
        first.wait_for("ready")
        system.publish(*customers(0, 3))
        wait_until(partial(has_offers, system, 2), "two are offered")
        assert first.end(signal.SIGKILL).code == -signal.SIGKILL
    picture = shown(system, "workspace", "show")
    assert {offer["contact"] for offer in picture["offers"]} == {"c1", "c2"}
    accept(system)
    with system.serving() as second:
        wait_until(lambda: set(system.owners()) == set(names(0, 3)), "all have owners")
        system.publish(event("conversation.closed", "c1", "v-c1", {"reason": "solved"}))
        wait_until(lambda: any("wrap_up_until_ms" in one["data"] for one in system.stored("assignments.log")), "an end")
        assert second.end(signal.SIGTERM).code == 0
    log = system.stored("assignments.log")
    stand = {one["data"]["hours"]: one["data"]["open"] for one in log if one["type"] == "hours.changed"}
    assert sorted(stand.values()) == [False, True]
    agents = {view["agent"]: view for view in shown(system, "workspace", "show")["agents"]}
    assert sum(view["open"] for view in agents.values()) == 2
    assert sum(view["wrapping"] for view in agents.values()) == 1
    (period,) = shown(system, "fairness")["periods"]
    assert sum(pool["given"] for pool in period["pools"]) == 3
    system.check(names(0, 3), copies=True)
    system.audit()
