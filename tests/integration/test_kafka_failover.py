"""The conditional append on three brokers while their leaders go away."""

from __future__ import annotations

import asyncio

import pytest

from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import FencedError, IndefiniteError, TopicPartition
from tests.brokers.cluster import Cluster
from tests.contract.sealing import sealed
from tests.kafka_given import everything, own_log, own_settings

LOG = TopicPartition("routing.log", 0)


class Writer:
    """Appends numbers as a lane does: after an error it folds to the end and goes on from there."""

    def __init__(self, log: KafkaLog, name: str) -> None:
        self.log = log
        self.name = name
        self.acknowledged: list[bytes] = []
        self.errors = 0
        self.end = 0

    async def fold(self) -> None:
        while (found := await self.log.read(LOG, self.end, records_max=1_000)).offset_next != self.end:
            self.end = found.offset_next

    async def write(self, number: int) -> None:
        value = f"{self.name}{number}".encode()
        while True:
            await self.fold()
            try:
                done = await self.log.append(LOG, sealed(LOG, self.end, value, value + b"+"), expected=self.end)
            except (FencedError, IndefiniteError):
                self.errors += 1
                await asyncio.sleep(0.01 * len(self.name) * (self.errors % 5))
                continue
            self.end = done.offset_next
            self.acknowledged += [value, value + b"+"]
            return


@pytest.fixture
def settings(kafka3: Cluster) -> KafkaSettings:
    return own_settings(kafka3.bootstrap, REQUEST_TIMEOUT="2s")


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_no_acknowledged_append_is_lost_or_doubled(kafka3: Cluster, settings: KafkaSettings, fault: str) -> None:
    """Two writers go on when the leader dies or hangs: what was acknowledged stands once, appends in one piece."""
    async with own_log(settings) as one, KafkaLog(settings) as two:
        writers = [Writer(one, "a"), Writer(two, "bb")]
        number = 0
        for turn in range(60):
            number = turn
            if turn == 10:
                leader = await one.client.leader(LOG)
                getattr(kafka3[leader], fault)()
            await asyncio.gather(*(writer.write(number) for writer in writers))
        kafka3.heal()
        stand = [record.value or b"" for record in await everything(one, LOG)]
        assert await everything(two, LOG) == await everything(one, LOG)
    for value in [value for writer in writers for value in writer.acknowledged]:
        assert value in stand
    places = [index for index, value in enumerate(stand) if not value.endswith(b"+")]
    assert [stand[index] + b"+" for index in places] == [stand[index + 1] for index in places]
    assert len(stand) == 2 * len(places)
    for writer in writers:
        mine = [value for value in stand if value.startswith(writer.name.encode()) and not value.endswith(b"+")]
        numbers = [int(value[len(writer.name) :]) for value in mine]
        assert numbers == sorted(numbers)
