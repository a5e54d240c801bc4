"""``serve`` on a real Kafka that is left no partition: because others have all, and because the topic is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from events.topics import ROUTING_LOG
from tests.brokers.cluster import Cluster
from tests.kafka_given import delete
from tests.kafka_served import (
    CONTACTS,  # noqa: F401  # of the CRM in conftest.py
    Metrics,
    System,
    says,
)
from tests.processes import Running, policy_text, wait_until

MAKE = Callable[..., System]
PROCESSES = 4
LAST = "z"  #: a client's name that is behind the others' in the group's order: what there is, they have


@pytest.fixture
def make(kafka: Cluster, tmp_path: Path, crm_url: str) -> MAKE:
    """Makes systems with topics of their own."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    return partial(System, kafka.bootstrap, tmp_path)


def joined(stack: ExitStack, system: System, role: str) -> Running:
    return stack.enter_context(system.serving("--metrics", "0", "--roles", role))


def states(members: list[Metrics]) -> list[str]:
    return sorted(member.readiness()["status"] for member in members)


def test_of_more_processes_than_partitions_all_are_ready_and_the_others_stand_by(make: MAKE) -> None:
    """Each says ready; exactly one works; one that is to end when idle ends, and says who has the role."""
    system = make()
    system.create()
    with ExitStack() as stack:
        processes = [joined(stack, system, "assigner") for _ in range(PROCESSES)]
        members = [Metrics(process) for process in processes]

        wait_until(
            lambda: states(members) == ["ready", *["standby"] * (PROCESSES - 1)], "one works, the others stand by"
        )
        for process in processes:
            process.wait_for("ready")
        done = system.run(
            "serve", "--policy", "p.toml", "--roles", "assigner", "--until-idle", "1s", VIP_ROUTER_KAFKA_CLIENT_ID=LAST
        )
        says(done, "another serve has the role assigner of this log, and did not end within --until-idle 1s")
        first = next(number for number, member in enumerate(members) if member.partitions("assigner"))
        assert processes[first].end(signal.SIGTERM).code == 0
        del processes[first], members[first]
        wait_until(lambda: states(members) == ["ready", *["standby"] * (PROCESSES - 2)], "one of the others works")
        assert [process.end(signal.SIGTERM).code for process in processes] == [0] * (PROCESSES - 1)


def test_a_topic_that_was_deleted_is_no_standby(make: MAKE) -> None:
    """Who worked on it ends with a sentence, and so does who stood by."""
    system = make(partitions=1)
    system.create()
    with ExitStack() as stack:
        processes = [joined(stack, system, "crm") for _ in range(2)]
        for process in processes:
            process.wait_for("ready")
        members = [Metrics(process) for process in processes]
        wait_until(lambda: states(members) == ["ready", "standby"], "one works")
        asyncio.run(delete(system.settings, ROUTING_LOG))
        for process in processes:
            says(process.end(), f"{ROUTING_LOG} was deleted: restore it from a copy")
