"""The whole workflow on Kafka beside loops by hand: ``python -m tests.bench.bench_kafka`` prints a table.

It starts a broker of its own, as a process, and ends by itself. The yardsticks *copy* and *full* (``yardsticks.py``)
take turns with ours over the same inputs, in one process each; what counts are the ratios, the machine and the broker
are in both. What the roles cost as processes, and take-over, are ``kafka_live.py``'s business, latency is
``kafka_latency.py``'s.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from consumers.crm.consumer import CrmConsumer
from consumers.lane import Lane
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail, ensure_genesis, fold
from consumers.roles import Worker
from consumers.runtime import tune_garbage_collection
from consumers.specs import ASSIGNER, ROUTER
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import Log, NewRecord, TopicPartition
from events.records import Moment
from events.times import format_time
from events.topics import ASSIGNMENTS, ROUTING_LOG, partition_counts
from tests.bench import kafka_latency, kafka_live, yardsticks
from tests.bench.kafka_live import cpu_s_of, now_ms
from tests.bench.printing import Row, print_table
from tests.bench.served_without_http import InstantCrm
from tests.bench.workload import Conversation, bench_policy
from tests.brokers.cluster import Cluster
from tests.brokers.process import ProcessNode
from tests.kafka_given import own_settings

PUBLISH_BATCH: Final = 2_000
LOOK_S: Final = 0.005
INPUTS: Final = 4  #: of a conversation, the CRM's answer included
COPIED, FULL_LOG, FULL_REPLIES, FULL_ASSIGNMENTS, ALL_INPUTS = (
    "copied",
    "full.log",
    "full.replies",
    "full.out",
    "inputs",
)
STEPS: Final[Sequence[Callable[[Conversation], NewRecord]]] = (
    Conversation.opened,
    Conversation.invalid,
    Conversation.valid,
)


@dataclass
class Spent:
    """What something took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    broker_cpu_s: float = 0.0


@dataclass
class Round:
    """One round: every line over the same conversations."""

    copy: Spent
    router: Spent
    full: Spent
    whole: Spent
    restore: Spent
    restored: int  #: records


@contextmanager
def measured(spent: Spent, broker: int | None) -> Iterator[None]:
    """Add what happens inside to ``spent``."""
    began = time.perf_counter(), time.process_time(), cpu_s_of(broker)
    yield
    spent.wall_s += time.perf_counter() - began[0]
    spent.cpu_s += time.process_time() - began[1]
    spent.broker_cpu_s += cpu_s_of(broker) - began[2]


@asynccontextmanager
async def running(workers: Sequence[Worker]) -> AsyncIterator[None]:
    """The workers, until the end of the context; they stop cleanly."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until(reached: Callable[[], bool]) -> None:
    """Look until it is so."""
    while not reached():  # noqa: ASYNC110 - the lanes' counts, which tell nobody
        await asyncio.sleep(LOOK_S)


async def publish(log: Log, records: Sequence[NewRecord]) -> None:
    """Publish in batches."""
    for first in range(0, len(records), PUBLISH_BATCH):
        await log.publish(records[first : first + PUBLISH_BATCH])


async def yardstick_copy(log: KafkaLog, settings: KafkaSettings, count: int, broker: int | None) -> Spent:
    """*copy* over all inputs."""
    spent = Spent()
    bootstrap = ",".join(map(str, settings.brokers))
    with measured(spent, broker):
        await yardsticks.copy(bootstrap, settings.topic(ALL_INPUTS), settings.topic(COPIED), count)
    assert await log.end_offset(TopicPartition(COPIED, 0)) == count
    return spent


async def yardstick_full(log: KafkaLog, settings: KafkaSettings, count: int, broker: int | None) -> Spent:
    """*full* over all inputs."""
    spent = Spent()
    bootstrap = ",".join(map(str, settings.brokers))
    targets = (settings.topic(FULL_LOG), settings.topic(FULL_REPLIES), settings.topic(FULL_ASSIGNMENTS))
    with measured(spent, broker):
        await yardsticks.full(bootstrap, settings.topic(ALL_INPUTS), targets, count)
    for topic, each in ((FULL_LOG, INPUTS), (FULL_REPLIES, INPUTS - 1), (FULL_ASSIGNMENTS, 1)):
        assert await log.end_offset(TopicPartition(topic, 0)) == count * each // INPUTS
    return spent


async def router_lane(log: KafkaLog, talks: Sequence[Conversation], broker: int | None) -> Spent:
    """The router's lane alone. The CRM's answers are published while nobody looks, between two runs of it."""
    spent = Spent()
    lane = Lane(log, ROUTER, 0, PolicyBook({"default": bench_policy()}), clock=now_ms)
    inputs_n = 0
    for records in ([step(talk) for step in STEPS for talk in talks], [talk.crm_answer() for talk in talks]):
        await publish(log, records)
        inputs_n += len(records)
        gc.collect()
        with measured(spent, broker):
            async with running([lane]):
                await until(lambda expected=inputs_n: lane.counts["inputs"] >= expected)  # type: ignore[misc]
    assert lane.counts["records"] >= INPUTS * len(talks)
    return spent


async def whole_workflow(log: KafkaLog, talks: Sequence[Conversation], broker: int | None) -> Spent:
    """All roles in one process, the CRM answering there at once."""
    spent = Spent()
    book = PolicyBook({"default": bench_policy()})
    router, assigner = (Lane(log, spec, 0, book, clock=now_ms) for spec in (ROUTER, ASSIGNER))
    crm = CrmConsumer(log, [0], client=InstantCrm(), clock=now_ms)
    await publish(log, [step(talk) for step in STEPS for talk in talks])
    gc.collect()
    with measured(spent, broker):
        async with running([router, assigner, crm]):
            await until(lambda: assigner.counts["inputs"] > len(talks))  # one more: the policy's agents
    assert await log.end_offset(TopicPartition(ASSIGNMENTS, 0)) == len(talks)
    return spent


async def restore(log: KafkaLog, broker: int | None) -> tuple[Spent, int]:
    """Fold the router's log from its first record."""
    spent = Spent()
    place = TopicPartition(ROUTING_LOG, 0)
    with measured(spent, broker):
        tail = Tail(log_id=await ensure_genesis(log, place, Moment.at(now_ms())))
        policies = LanePolicies(PolicyBook({"default": bench_policy()}))
        folded = await fold(log, place, ROUTER.new_state(), tail, policies)
    return spent, folded


async def one_round(bootstrap: str, conversations: int, broker: int | None) -> Round:
    """Every line once, on topics of their own."""
    counts = partition_counts(1, 1)
    time_text = format_time(now_ms() + 60_000)
    talks = [Conversation(number, 1, time_text) for number in range(conversations)]
    extra = dict.fromkeys((COPIED, FULL_LOG, FULL_REPLIES, FULL_ASSIGNMENTS, ALL_INPUTS), 1)
    settings = own_settings(bootstrap)
    async with KafkaLog(settings, create=counts | extra) as log:
        steps = (*STEPS, Conversation.crm_answer)
        await publish(log, [step(talk)._replace(topic=ALL_INPUTS) for step in steps for talk in talks])
        gc.collect()
        copy = await yardstick_copy(log, settings, INPUTS * conversations, broker)
        router = await router_lane(log, talks, broker)
        gc.collect()
        full = await yardstick_full(log, settings, INPUTS * conversations, broker)
    async with KafkaLog(own_settings(bootstrap), create=counts) as log:
        whole = await whole_workflow(log, talks, broker)
        gc.collect()
        restored, folded = await restore(log, broker)
    return Round(copy, router, full, whole, restored, folded)


def throughput_rows(rounds: Sequence[Round], conversations: int) -> list[Row]:
    """Medians over the rounds; a ratio is taken inside each round."""
    inputs_n = INPUTS * conversations

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(value(one) for one in rounds)

    def rate(what: str, count: Callable[[Round], int], part: Callable[[Round], Spent], beside: str) -> Row:
        wall = median(lambda one: count(one) / part(one).wall_s)
        cpu = median(lambda one: count(one) / part(one).cpu_s)
        return Row(what, f"{wall:,.0f} ({cpu:,.0f})", beside)

    def ratio(ours: Callable[[Round], Spent], bare: Callable[[Round], Spent]) -> str:
        wall = median(lambda one: bare(one).wall_s / ours(one).wall_s)
        cpu = median(lambda one: bare(one).cpu_s / ours(one).cpu_s)
        return f"{wall:.3f} ({cpu:.3f})"

    def thousand(part: Callable[[Round], Spent]) -> str:
        own = median(lambda one: part(one).cpu_s / conversations * 1_000)
        return f"{own:.3f} + {median(lambda one: part(one).broker_cpu_s / conversations * 1_000):.3f}"

    copy, full = "records/s: copy", "inputs/s: full"
    return [
        rate(copy, lambda _: inputs_n, lambda one: one.copy, "1"),
        rate("records/s: router lane", lambda _: inputs_n, lambda one: one.router,
             f"{ratio(lambda one: one.router, lambda one: one.copy)} of copy"),
        rate(full, lambda _: inputs_n, lambda one: one.full, "1"),
        rate("inputs/s: whole workflow", lambda _: inputs_n, lambda one: one.whole,
             f"{ratio(lambda one: one.whole, lambda one: one.full)} of full"),
        rate("records/s: restore from the log", lambda one: one.restored, lambda one: one.restore, ""),
        Row("CPU s/1,000: full + broker", thousand(lambda one: one.full)),
        Row("CPU s/1,000: whole + broker", thousand(lambda one: one.whole)),
    ]  # fmt: skip


def bench(
    kafka: Cluster, *, conversations: int, rounds: int, rates: Sequence[int], seconds: float, session_s: int
) -> list[Row]:
    """Measure on a broker that runs; what nobody can see of a broker in a container counts as 0."""
    tune_garbage_collection()
    node = kafka[1]
    broker = node.process.pid if isinstance(node, ProcessNode) else None
    asyncio.run(one_round(kafka.bootstrap, max(conversations // 10, 10), broker))  # the broker's JVM warms up
    done = [asyncio.run(one_round(kafka.bootstrap, conversations, broker)) for _ in range(rounds)]
    return [
        *throughput_rows(done, conversations),
        *kafka_live.role_rows(kafka.bootstrap, conversations, broker),
        *kafka_latency.latency_rows(kafka.bootstrap, rates, seconds),
        *kafka_live.take_over_rows(kafka.bootstrap, session_s),
    ]


def main(conversations: int = 5_000, rounds: int = 3) -> None:
    """Measure and print."""
    with Cluster(1, backend="processes") as kafka:
        rows = bench(kafka, conversations=conversations, rounds=rounds, rates=(20, 200), seconds=15, session_s=6)
    print_table(
        "Kafka, without HTTP; in brackets: by CPU time; CPU s/1,000: for so many conversations",
        ("", "", "beside the yardstick"),
        rows,
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
