"""What is really sent is described: golden logs' events hold no field that the JSON Schema of their type lacks.

Schemas allow unknown fields, so that additions break no consumer; here they are closed, at every level.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from events import topics
from events.event_types import EVENT_TYPES
from events.log import TopicPartition
from events.schema import event_schema
from tests.golden import stored
from tests.golden.make import PARTITIONS

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.jsonl"))
SENT = (topics.REPLIES, topics.ASSIGNMENTS, topics.ASSIGNMENT_REQUESTS, topics.DEAD_LETTERS)


def closed(schema: Any) -> Any:
    """The schema with additional properties forbidden wherever it names properties."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and isinstance(schema.get("type"), str):
        found["additionalProperties"] = False
    return found


VALIDATORS = {known.name: Draft202012Validator(closed(event_schema(known))) for known in EVENT_TYPES}


def undescribed(events: Iterable[Any]) -> Iterator[str]:
    """The oracle: where events differ from their closed schemas. One that has no schema differs too."""
    for event in events:
        validator = VALIDATORS.get(event["type"])
        if validator is None:
            yield f"{event['type']}: no schema"
            continue
        for error in validator.iter_errors(event):
            yield f"{event['type']}: {'.'.join(map(str, error.absolute_path))}: {error.message}"


async def sent() -> list[Any]:
    """Every event that stands on a topic of outputs in a golden log."""
    found: list[Any] = []
    for path in GOLDEN:
        log = await stored.load(path.read_bytes().splitlines(), PARTITIONS)
        for topic in SENT:
            for partition in range(PARTITIONS[topic]):
                fetched = await log.read(TopicPartition(topic, partition), 0, records_max=100_000)
                found += [orjson.loads(record.value) for record in fetched.records if record.value is not None]
    return found


async def test_every_field_that_is_sent_is_in_the_schema() -> None:
    events = await sent()
    assert {"reply.requested", "conversation.queued", "conversation.assigned", "assignment.requested"} <= {
        event["type"] for event in events
    }
    assert sorted(set(undescribed(events))) == []


@pytest.mark.parametrize(
    ("place", "says"),
    [((), "('x-extra' was unexpected)"), (("data",), "data: "), (("data", "target"), "data.target: ")],
)
async def test_a_field_that_is_not_described_is_found(place: tuple[str, ...], says: str) -> None:
    """The oracle's negative control: at the envelope, in the data, and inside a field of the data."""
    queued = copy.deepcopy(next(event for event in await sent() if event["type"] == "conversation.queued"))
    assert list(undescribed([queued])) == []
    inner = queued
    for name in place:
        inner = inner[name]
    inner["x-extra"] = 1
    (found,) = undescribed([queued])
    assert says in found
