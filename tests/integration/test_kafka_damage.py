"""Batches that were damaged on a broker's disk: what it sends is read past in inputs, and stops a log."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from events.adapter import UNREADABLE
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import LogError, NewRecord, StoredRecord, TopicPartition
from tests.brokers.cluster import Cluster
from tests.brokers.process import ProcessNode
from tests.contract.sealing import sealed
from tests.kafka_given import own_log, own_settings

LOG = TopicPartition("routing.log", 0)
PATIENCE_S = 30.0


def wrong_checksum(data: bytearray, begin: int) -> None:
    data[begin + 70] ^= 255


def unknown_codec(data: bytearray, begin: int) -> None:
    data[begin + 22] |= 7


def old_format(data: bytearray, begin: int) -> None:
    data[begin + 16] = 1


#: where, what is done to the second batch of two records, and what comes instead of it
DAMAGED: list[tuple[TopicPartition, Callable[[bytearray, int], None], int, str]] = [
    (TopicPartition("conversations.events", 0), wrong_checksum, 3, "offsets 2 to 3 cannot be read: its checksum"),
    (TopicPartition("conversations.events", 1), unknown_codec, 3, "offsets 2 to 3 cannot be read: its checksum"),
    (TopicPartition("conversations.events", 2), old_format, 2, "offset 2 cannot be read: it has message format 1"),
]


async def write(settings: KafkaSettings) -> None:
    async with own_log(settings) as log:
        for place, *_ in DAMAGED:
            for value in (b"a", b"b", b"c"):
                await log.publish([NewRecord(*place, b"k", value), NewRecord(*place, b"k", value)])
        for end, value in enumerate((b"a", b"b", b"c")):
            await log.append(LOG, sealed(LOG, end, value), expected=end)


def damage(folder: Path, spoil: Callable[[bytearray, int], None]) -> None:
    (file,) = folder.glob("*.log")
    data = bytearray(file.read_bytes())
    spoil(data, struct.unpack_from(">i", data, 8)[0] + 12)
    file.write_bytes(data)


async def read(settings: KafkaSettings) -> None:
    async with KafkaLog(settings) as log, asyncio.timeout(PATIENCE_S):
        for place, _spoil, stands_at, why in DAMAGED:
            reader = log.reader({place: 0})
            found: list[StoredRecord] = []
            while reader.position(place) < 6:
                found += await reader.fetch(records_max=10, timeout_s=None)
            assert [record.offset for record in found] == [0, 1, stands_at, 4, 5]
            (name, text), *_ = found[2].headers
            assert name == UNREADABLE
            assert why in text.decode()
        follower = log.reader({LOG: 0})
        assert len(await follower.fetch(records_max=1, timeout_s=None)) == 1
        with pytest.raises(LogError, match=r"offsets 1 to 1 cannot be read.*A log has no gaps"):
            await follower.fetch(records_max=10, timeout_s=None)
        with pytest.raises(LogError, match="A log has no gaps"):
            await log.read(LOG, 0, records_max=10)


@pytest.mark.on_processes
def test_damage_on_the_disk_is_named_with_its_offsets() -> None:
    """The broker sends what stands on its disk, unchecked; each damaged batch alone is left out, a log stops there."""
    with Cluster(1, backend="processes") as kafka:
        settings = own_settings(kafka.bootstrap)
        asyncio.run(write(settings))
        node = kafka[1]
        assert isinstance(node, ProcessNode)
        node.process.terminate()  # a clean stop: it trusts its files at the next start
        node.process.wait()
        for place, spoil, *_ in DAMAGED:
            damage(node.data / f"{settings.topic(place.topic)}-{place.partition}", spoil)
        damage(node.data / f"{settings.topic(LOG.topic)}-{LOG.partition}", wrong_checksum)
        node.restart()
        kafka.wait_ready()
        asyncio.run(read(settings))
