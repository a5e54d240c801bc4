"""What is left of a run: logs and topics as the oracles read them, parsed once."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from consumers.lane_spec import LaneSpec
from events.chain import Link, link_of
from events.log import StoredRecord, TopicPartition
from events.outputs import Origin
from events.records import LANE_TYPES, POLICY_RECORDED, parse
from routing.decider import LogRecord
from routing.policy import Policy
from tests.simulation import setting
from tests.simulation.broker import Broker
from tests.simulation.observer import SPECS, Observer, origin_of
from tests.simulation.world import World


class Line(NamedTuple):
    """A record of a log, in all its forms."""

    stored: StoredRecord
    record: LogRecord
    link: Link

    @property
    def is_decided(self) -> bool:
        """Whether a decider made it."""
        return self.record.type not in LANE_TYPES and self.record.type != POLICY_RECORDED


class KeptLog:
    """One partition of one log."""

    def __init__(self, broker: Broker, place: TopicPartition) -> None:
        self.place = place
        self.broker = broker
        self.spec: LaneSpec = SPECS[place.topic]
        self.lines = [Line(stored, parse(stored), link_of(stored)) for stored in broker.records(place)]

    @cached_property
    def decided(self) -> list[Line]:
        """The records that a decider made."""
        return [line for line in self.lines if line.is_decided]

    @cached_property
    def appends(self) -> list[list[Line]]:
        """The records by append; the first is the genesis record's."""
        groups: list[list[Line]] = [[]]
        for line in self.lines:
            groups[-1].append(line)
            if line.link.progress is not None or line.record.type == "log.genesis":
                groups.append([])
        return [group for group in groups if group]

    @cached_property
    def origin(self) -> Origin:
        """What its outputs say of it."""
        return origin_of(self.broker, self.place)

    @cached_property
    def policies(self) -> dict[str, Policy]:
        """The policies that it has recorded."""
        recorded = [line.record.data for line in self.lines if line.record.type == POLICY_RECORDED]
        return {data["version"]: setting.parsed(data["text"]) for data in recorded}

    def inputs(self, topic: str) -> list[StoredRecord]:
        """What its lane had to decide of a topic."""
        return self.broker.records(TopicPartition(topic, self.place.partition))


class Kept:
    """Everything that a run has left."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broker = world.broker
        self.observer: Observer = world.observer
        self.logs = [
            KeptLog(world.broker, TopicPartition(topic, partition))
            for topic in SPECS
            for partition in range(world.broker.partitions[topic])
        ]

    def topic(self, name: str) -> list[StoredRecord]:
        """All records of a topic, partition by partition."""
        return [
            record
            for partition in range(self.broker.partitions[name])
            for record in self.broker.records(TopicPartition(name, partition))
        ]
