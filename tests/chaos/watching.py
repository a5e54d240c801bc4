"""Reads topics while faults happen: the public ones as anybody's consumer, the logs as the router's readers do.

What stands in a log is kept as it was seen, so that nothing that was there can be missing later. Who owns what is told
by the simulation's model, fed record by record.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.structs import TopicPartition as KafkaPartition

from events.chain import link_of
from events.kafka.log import KafkaLog
from events.log import StoredRecord, TopicPartition
from events.records import LANE_TYPES, POLICY_RECORDED, parse
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG
from routing.steps import ROUTES
from tests.chaos.downstream import TOPICS, Downstream
from tests.chaos.load import COUNTS
from tests.chaos.tally import Tally
from tests.simulation.kept import Line
from tests.simulation.observer import ViolationError
from tests.simulation.oracle_owners import Owners

LOGS: Final = (ROUTING_LOG, ASSIGNMENTS_LOG)
AT_ONCE_RECORDS: Final = 2_000
WAIT_MS: Final = 200
PAUSE_S: Final = 0.2
REST: Final = frozenset({*ROUTES, "closed"})  #: states in which a conversation may stay


def places_of(topic: str) -> list[TopicPartition]:
    """All partitions of a topic."""
    return [TopicPartition(topic, number) for number in range(COUNTS[topic])]


class PublicWatch:
    """A consumer without a group that keeps its own offsets, and never reads one twice."""

    def __init__(self, bootstrap: str, prefix: str, downstream: Downstream, tally: Tally) -> None:
        self.positions = {place: 0 for topic in TOPICS for place in places_of(topic)}
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._downstream = downstream
        self._tally = tally

    async def run(self) -> None:
        """Read until cancelled; a consumer that fails is replaced."""
        while True:
            consumer = AIOKafkaConsumer(**self._options())
            try:
                await consumer.start()
                await self._follow(consumer)
            except errors.OffsetOutOfRangeError as error:
                self._tally.violated("vanished", f"what was read is not there any more: {error}")
                return
            except (errors.KafkaError, OSError):
                await asyncio.sleep(PAUSE_S)
            finally:
                with suppress(errors.KafkaError, OSError):
                    await consumer.stop()

    async def _follow(self, consumer: Any) -> None:
        topics = {KafkaPartition(self._prefix + place.topic, place.partition): place for place in self.positions}
        consumer.assign(list(topics))
        for partition, place in topics.items():
            consumer.seek(partition, self.positions[place])
        while True:
            found = await consumer.getmany(timeout_ms=WAIT_MS, max_records=AT_ONCE_RECORDS)
            for partition, records in found.items():
                place = topics[partition]
                for record in records:
                    self._downstream.feed(place.topic, place.partition, record.offset, record.value)
                    self.positions[place] = record.offset + 1

    def _options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self._bootstrap,
            "client_id": "downstream",
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "request_timeout_ms": 3_000,
            "retry_backoff_ms": 50,
            "metadata_max_age_ms": 2_000,
            "fetch_max_wait_ms": 100,
        }


class LogWatch:
    """Both logs, as far as they were seen."""

    def __init__(self, log: KafkaLog, tally: Tally) -> None:
        self.seen: dict[TopicPartition, list[StoredRecord]] = {
            place: [] for topic in LOGS for place in places_of(topic)
        }
        self.states: dict[tuple[str, str, str | None], str] = {}
        self.changed_s = time.monotonic()
        self._log = log
        self._tally = tally
        self._owners = {place: Owners() for place in places_of(ASSIGNMENTS_LOG)}

    @property
    def restless(self) -> list[Any]:
        """Conversations that are on their way."""
        return [key for key, state in self.states.items() if state not in REST]

    def waiting(self) -> int:
        """How many conversations wait for an agent."""
        return sum(len(desk.waiting) for owners in self._owners.values() for desk in owners.desks.values())

    async def run(self) -> None:
        """Follow until cancelled."""
        reader = self._log.reader(dict.fromkeys(self.seen, 0))
        try:
            while True:
                for stored in await reader.fetch(records_max=AT_ONCE_RECORDS, timeout_s=None):
                    self._take(stored)
        finally:
            await reader.close()

    def _take(self, stored: StoredRecord) -> None:
        self.seen[stored.place].append(stored)
        self.changed_s = time.monotonic()
        record = parse(stored)
        if record.type in LANE_TYPES or record.type == POLICY_RECORDED:
            return
        if stored.topic == ROUTING_LOG:
            if record.data.get("to") is not None:
                self.states[(record.workspace, record.contact, record.subject)] = record.data["to"]
            return
        try:
            self._owners[stored.place].feed(Line(stored, record, link_of(stored)))
        except ViolationError as violation:
            self._tally.add(violation)
