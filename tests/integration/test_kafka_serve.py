"""``serve`` on a real Kafka as its users run it: processes that come, share, go and die, and outputs that cannot go."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from events.kafka.log import KafkaLog
from events.log import NewRecord, TopicPartition
from events.topics import (
    AGENT_EVENTS,
    ASSIGNMENT_REQUESTS,
    CONVERSATION_EVENTS,
    CRM_ANSWERS,
    ROUTING_LOG,
    TOPICS,
    partition_of,
)
from tests.brokers.cluster import Cluster
from tests.kafka_served import (
    CONTACTS,  # noqa: F401  # of the CRM in conftest.py
    LINES_MAX,
    Metrics,
    System,
    customers,
    memory_bytes,
    names,
    set_topic,
    worked_on,
)
from tests.output_checks import check_outputs
from tests.processes import Running, opened, policy_text, wait_until

MAKE = Callable[..., System]
ALL = {0, 1, 2, 3}
BACKLOG = 5_000  #: ``LaneLimits.backlog_max``
BATCH = 500  #: ``LaneLimits.inputs_max``
MIB = 1024 * 1024
INPUTS = {  #: by group, which is named after its role
    "router": (CONVERSATION_EVENTS, CRM_ANSWERS),
    "crm": (ROUTING_LOG,),
    "assigner": (AGENT_EVENTS, ASSIGNMENT_REQUESTS),
}


@pytest.fixture
def make(kafka: Cluster, tmp_path: Path, crm_url: str) -> MAKE:
    """Makes systems with topics of their own."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    return partial(System, kafka.bootstrap, tmp_path)


def has_owners(system: System, count: int) -> bool:
    return len(system.owners()) >= count


def shared(members: list[Metrics]) -> bool:
    """Whether each of four partitions has one router that reads, and everybody has some."""
    return split_up([member.partitions("router") for member in members])


def split_up(owned: list[set[int]]) -> bool:
    """Whether each of four partitions has one owner, and everybody has some."""
    return sum(map(len, owned)) == len(ALL) and set().union(*owned) == ALL and all(owned)


def interrupted(told: list[set[int]]) -> set[int]:
    """Partitions that stay from the first to the last of what a process had in turn, and were away in between."""
    kept = told[0] & told[-1]
    return {number for owned in told for number in kept - owned}


def test_a_partition_that_was_taken_away_for_a_while_is_found() -> None:
    """Guards the test of processes that come and go."""
    assert interrupted([{0, 1}, set(), {0, 2}]) == {0}
    assert interrupted([ALL, {0, 1}, {1}]) == set()


def test_the_first_start_makes_the_topics_and_a_stop_leaves_no_duplicates(make: MAKE) -> None:
    """Inputs from before and after are worked; SIGTERM drains; the next start repeats nothing; the audits pass."""
    system = make()
    said = (
        f'made 11 topics on kafka://{system.bootstrap}, with the prefix "{system.prefix}": partitions 4 by contact and '
        "1 by workspace, fixed for ever. If they should have been there: stop, and correct --topic-prefix or --log"
    )
    assert [line.endswith(said) for line in system.serve_until_idle().err.splitlines()].count(True) == 1
    assert {name for name in TOPICS if system.records(name) is not None} == set(TOPICS)
    system.publish(*customers(0, 60))
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(60, 60))
        wait_until(partial(has_owners, system, 5), "some assignments")
        ended = serve.end(signal.SIGTERM)
    assert ended.code == 0, ended.err
    assert "stopped" in ended.err
    system.serve_until_idle()
    system.check(names(0, 120), copies=False)
    for audit in ("verify", "replay"):
        done = system.run("audit", audit)
        assert done.code == 0, done.out


def test_a_record_on_a_foreign_partition_is_sent_home_once_and_decided_once(make: MAKE) -> None:
    """It stands again on its contact's partition with where it came from, and leads to one conversation."""
    system = make()
    system.create()
    home = partition_of("c0", 4)
    value = json.dumps(customers(0, 1)[0]).encode()
    system.write(NewRecord(CONVERSATION_EVENTS, (home + 1) % 4, b"c0", value, (("mine", b"kept"),)))
    assert "sent on" in system.serve_until_idle().err
    system.serve_until_idle()
    _, moved = sorted(system.records(CONVERSATION_EVENTS), key=lambda record: len(record.headers))
    assert (moved.partition, moved.key, moved.value) == (home, b"c0", value)
    assert moved.headers == (("mine", b"kept"), ("rerouted-from", b"%d@0" % ((home + 1) % 4)))
    system.check(["c0"], copies=False)
    system.audit()


def test_kill_9_loses_and_doubles_nothing_and_another_process_takes_over(make: MAKE) -> None:
    """What the dead one had in hand is done by the other, once its session has ended."""
    system = make()
    system.create()
    with ExitStack() as stack:
        first, second = (stack.enter_context(system.serving("--metrics", "0")) for _ in range(2))
        members = [Metrics(first), Metrics(second)]
        wait_until(lambda: shared(members), "both have partitions")
        system.publish(*customers(0, 200))
        wait_until(partial(has_owners, system, 5), "some assignments")
        assert first.end(signal.SIGKILL).code == -signal.SIGKILL
        wait_until(lambda: members[1].partitions("router") == ALL, "the other has all")
        system.publish(*customers(200, 20))
        wait_until(partial(has_owners, system, 220), "all assignments")
        assert second.end(signal.SIGTERM).code == 0
    system.check(names(0, 220), copies=True)
    system.audit()


def settle(had: dict[Running, list[int]], processes: list[Running]) -> None:
    """Note how many assignments each process has had so far."""
    for process in processes:
        had[process].append(len(worked_on(process, "router")))


def test_processes_that_come_and_go_share_the_partitions(make: MAKE) -> None:
    """Two, three, two again, under load: each partition has one owner; what stays goes on; nothing twice or lost."""
    system = make(SESSION_TIMEOUT="10s")  # nobody is taken for dead here, however slow the machine
    had: dict[Running, list[int]] = defaultdict(list)  # how many assignments each had had when all were settled
    system.create()
    with ExitStack() as stack:

        def join() -> Running:
            return stack.enter_context(system.serving("--metrics", "0"))

        processes = [join(), join()]
        members = [Metrics(process) for process in processes]
        wait_until(lambda: shared(members), "two share")
        settle(had, processes)
        system.publish(*customers(0, 100))
        processes.append(join())
        members.append(Metrics(processes[-1]))
        wait_until(lambda: shared(members), "three share")
        settle(had, processes)
        wait_until(lambda: split_up([worked_on(one, "crm")[-1] for one in processes]), "three share the look-ups")
        system.publish(*customers(100, 100))
        wait_until(partial(has_owners, system, 110), "it is in the middle")
        assert processes[0].end(signal.SIGTERM).code == 0
        system.publish(*customers(200, 50))
        wait_until(lambda: shared(members[1:]), "two share again")
        settle(had, processes[1:])
        wait_until(partial(has_owners, system, 250), "all assignments")
        assert [process.end(signal.SIGTERM).code for process in processes[1:]] == [0, 0]
    for process, settled in had.items():
        told = worked_on(process, "router")
        assert [interrupted(told[a - 1 : b]) for a, b in pairwise(settled)] == [set()] * (len(settled) - 1)
    system.check(names(0, 250), copies=False)
    system.audit()


def test_roles_may_be_spread_over_processes(make: MAKE) -> None:
    """Each does its part alone, and each ends by itself when nothing is left for it."""
    system = make()
    system.create()
    system.publish(*customers(0, 30))
    with ExitStack() as stack:
        roles = [stack.enter_context(system.serving("--roles", role)) for role in ("router", "crm", "assigner")]
        for role in roles:
            role.wait_for("ready")
        wait_until(partial(has_owners, system, 30), "all assignments")
        assert [role.end(signal.SIGTERM).code for role in roles] == [0, 0, 0]
    system.check(names(0, 30), copies=False)
    system.audit()


def test_people_who_watch_lag_see_how_far_each_role_is(make: MAKE) -> None:
    """Groups named after the roles follow the inputs while it runs; those of lanes are at their ends after a stop."""
    system = make()
    system.create()
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 40))
        wait_until(lambda: all(lag == 0 for lag in lags(system).values()), "the groups have followed")
        system.publish(*customers(40, 40))
        wait_until(partial(has_owners, system, 80), "all assignments")
        assert serve.end(signal.SIGTERM).code == 0
    after = {lag for (group, _), lag in lags(system).items() if group != "crm"}  # the routers' last words follow it
    assert after == {0}


def lags(system: System) -> dict[tuple[str, TopicPartition], int | None]:
    """By group and input partition: how many records there are beyond the group's offset; None: it has none."""

    async def ask() -> dict[tuple[str, TopicPartition], int | None]:
        found: dict[tuple[str, TopicPartition], int | None] = {}
        async with KafkaLog(system.settings) as log:
            for group, topics in INPUTS.items():
                for topic in topics:
                    places = [TopicPartition(topic, number) for number in range(await log.partition_count(topic))]
                    offsets = await log.committed(group, places)
                    for place in places:
                        offset = offsets.get(place)
                        found[group, place] = None if offset is None else await log.end_offset(place) - offset
        return found

    return asyncio.run(ask())


def test_two_systems_on_one_cluster_do_not_see_each_other(make: MAKE) -> None:
    """One prefix has one's contacts, groups and logs; the other's the other's, also while both serve."""
    one, two = make(partitions=2), make(partitions=1)
    one.create()
    two.create()
    with one.serving() as first, two.serving() as second:
        for process in (first, second):
            process.wait_for("ready")
        one.publish(*customers(0, 10))
        two.publish(*customers(10, 10))
        wait_until(lambda: has_owners(one, 10) and has_owners(two, 10), "all assignments")
        assert worked_on(first, "router")[-1] == {0, 1}
        assert worked_on(second, "router")[-1] == {0}
        assert [process.end(signal.SIGTERM).code for process in (first, second)] == [0, 0]
    for system, first_contact in ((one, 0), (two, 10)):
        system.check(names(first_contact, 10), copies=False)
        system.audit()


def other_broker(system: System, *topics: str) -> int:
    """A broker that leads no partition of these topics."""
    found = AdminClient({"bootstrap.servers": system.bootstrap}).list_topics(timeout=30)
    leaders = {part.leader for name in topics for part in found.topics[system.prefix + name].partitions.values()}
    return next(node for node in found.brokers if node not in leaders)


def test_outputs_that_cannot_go_stop_the_inputs_and_memory_does_not_grow(
    kafka3: Cluster, tmp_path: Path, crm_url: str
) -> None:
    """The lane decides until its backlog is full; what comes then waits in Kafka; later all goes out in order."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    system = System(kafka3.bootstrap, tmp_path, partitions=1)
    system.create()
    asked = [opened(f"x{number}") for number in range(2 * BACKLOG)]
    with system.serving("--metrics", "0", "--roles", "router") as serve:
        metrics = Metrics(serve)
        serve.wait_for("ready")
        set_topic(system, "conversations.replies", min_insync_replicas="3")  # one fewer, and nothing is acknowledged
        kafka3[other_broker(system, "routing.log", CONVERSATION_EVENTS)].pause()
        system.publish(*asked[: BACKLOG + 3 * BATCH])
        wait_until(lambda: metrics.samples()["vip_router_outputs_backlog_full"] == 1, "the backlog is full")
        wait_until(lambda: repeated(serve) > 0, "the outputs are repeated")
        decided, held_bytes = metrics.samples()["vip_router_inputs_total"], memory_bytes(serve)
        system.publish(*asked[BACKLOG + 3 * BATCH :])
        before = repeated(serve)
        wait_until(lambda: repeated(serve) > before + 1, "they are repeated again")
        samples = metrics.samples()
        assert samples["vip_router_inputs_total"] == decided <= BACKLOG + 2 * BATCH, "it decides no more"
        assert samples["vip_router_outputs_backlog"] <= BACKLOG + 2 * BATCH
        assert memory_bytes(serve) - held_bytes < 32 * MIB, "what was fetched is bounded, too"
        kafka3.heal()
        wait_until(lambda: metrics.samples()["vip_router_inputs_total"] >= len(asked), "all are decided")
        wait_until(lambda: metrics.samples()["vip_router_outputs_backlog"] == 0, "all is published")
        assert serve.end(signal.SIGTERM).code == 0
        assert len(serve.lines["err"]) < LINES_MAX, "it does not spin"
    replies = system.stored("conversations.replies")
    check_outputs(replies, copies=True)
    assert list(dict.fromkeys(one["partitionkey"] for one in replies)) == [one["partitionkey"] for one in asked]
    system.audit()


def repeated(serve: Running) -> int:
    """How often outputs were sent again."""
    return sum("no answer to a publish" in line for line in list(serve.lines["err"]))
