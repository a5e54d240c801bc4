"""``serve`` as processes on a broker: what each role costs, and how long a take-over is.

The CRM answers at once (``served_without_http.py``). How soon an assignment is there: ``kafka_latency.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import StoredRecord, TopicPartition
from events.times import format_time
from events.topics import ASSIGNMENTS, REPLIES, partition_counts
from tests.bench.printing import Row
from tests.bench.workload import Conversation, bench_policy_text
from tests.kafka_given import own_settings
from tests.processes import Running

ROLES: Final = ("router", "crm", "assigner")
MODULE: Final = "tests.bench.served_without_http"
PATIENCE_S: Final = 60.0
PUBLISH_BATCH: Final = 2_000
TICKS: Final = os.sysconf("SC_CLK_TCK")


def now_ms() -> int:
    """The clock of the bench."""
    return time.time_ns() // 1_000_000


def cpu_s_of(pid: int | None) -> float:
    """The CPU seconds that a process has used; 0 for None."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime


class Served:
    """``serve`` processes on topics of their own."""

    def __init__(self, settings: KafkaSettings, folder: Path, *, session_s: int = 10) -> None:
        self.settings = settings
        self._folder = folder
        self._session_s = session_s
        (folder / "policy.toml").write_text(bench_policy_text())

    def start(self, stack: ExitStack, roles: str) -> Running:
        """A process with these roles, that reads already."""
        brokers = ",".join(map(str, self.settings.brokers))
        variables = {"VIP_ROUTER_KAFKA_SESSION_TIMEOUT": f"{self._session_s}s"}
        place = ("--log", f"kafka://{brokers}", "--topic-prefix", self.settings.topic_prefix)
        arguments = ("serve", "--policy", "policy.toml", "--roles", roles, *place)
        process = stack.enter_context(Running(*arguments, cwd=self._folder, env=variables, module=MODULE))
        process.wait_for("ready")
        return process


@contextmanager
def served(bootstrap: str, *, partitions: int = 1, session_s: int = 10) -> Iterator[tuple[Served, ExitStack]]:
    """Topics, and a stack on which the processes end."""
    settings = own_settings(bootstrap)
    asyncio.run(_make_topics(settings, partitions))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield Served(settings, Path(folder), session_s=session_s), stack


async def _make_topics(settings: KafkaSettings, partitions: int) -> None:
    async with KafkaLog(settings, create=partition_counts(partitions, 1)):
        pass


def conversations_of(count: int, partitions: int = 1) -> list[Conversation]:
    """Conversations whose messages are late enough to be answers."""
    text = format_time(now_ms() + 60_000)
    return [Conversation(number, partitions, text) for number in range(count)]


# --- what each role costs ---


def role_rows(bootstrap: str, conversations: int, broker: int | None) -> list[Row]:
    """CPU seconds for each 1,000 conversations, every role in a process of its own."""
    with served(bootstrap) as (made, stack):
        pids = {role: made.start(stack, role).process.pid for role in ROLES}
        watched: dict[str, int | None] = {**pids, "broker": broker}
        before = {name: cpu_s_of(pid) for name, pid in watched.items()}
        asyncio.run(_work_through(made.settings, conversations))
        spent = {name: cpu_s_of(pid) - before[name] for name, pid in watched.items()}
    return [
        Row(f"CPU s/1,000, a process each: {name}", f"{cpu_s / conversations * 1_000:.3f}")
        for name, cpu_s in spent.items()
    ]


async def _work_through(settings: KafkaSettings, count: int) -> None:
    """Publish conversations and wait for all assignments."""
    talks = conversations_of(count)
    async with KafkaLog(settings) as log:
        seen = asyncio.create_task(_seen(log, TopicPartition(ASSIGNMENTS, 0), count))
        for step in (Conversation.opened, Conversation.invalid, Conversation.valid):
            for first in range(0, count, PUBLISH_BATCH):
                await log.publish([step(talk) for talk in talks[first : first + PUBLISH_BATCH]])
        await asyncio.wait_for(seen, PATIENCE_S + count / 100)


async def _seen(log: KafkaLog, place: TopicPartition, count: int) -> dict[bytes, float]:
    """When the first record of each of ``count`` keys could be read, seconds."""
    seen: dict[bytes, float] = {}
    reader = log.reader({place: 0})
    while len(seen) < count:
        records: Sequence[StoredRecord] = await reader.fetch(records_max=500, timeout_s=None)
        for record in records:
            seen.setdefault(record.key or b"", time.perf_counter())
    await reader.close()
    return seen


# --- take-over ---


def take_over_rows(bootstrap: str, session_s: int) -> list[Row]:
    """How long after kill -9 of one of two processes everything that comes is worked on again."""
    with served(bootstrap, partitions=2, session_s=session_s) as (made, stack):
        processes = [made.start(stack, "router") for _ in range(2)]
        asyncio.run(_until_replies(made.settings, 0))
        processes[0].send(signal.SIGKILL)
        began_s = time.perf_counter()
        asyncio.run(_until_replies(made.settings, 100))
        took_s = time.perf_counter() - began_s
    name = f"take-over after kill -9: s beyond {session_s} s"
    return [Row(name, f"{took_s - session_s:.1f}")]


async def _until_replies(settings: KafkaSettings, first: int) -> None:
    """Open conversations on both partitions, and wait until each contact was asked."""
    talks = conversations_of(first + 20, partitions=2)[first:]
    wanted = {talk.contact.encode() for talk in talks}
    assert {talk.partition for talk in talks} == {0, 1}
    async with KafkaLog(settings) as log:
        places = {TopicPartition(REPLIES, number): 0 for number in range(2)}
        reader = log.reader(places)
        await log.publish([talk.opened() for talk in talks])
        while wanted:
            records = await asyncio.wait_for(reader.fetch(records_max=500, timeout_s=None), PATIENCE_S)
            wanted.difference_update(record.key for record in records)
        await reader.close()
