"""A producer with a wrong partitioner does not fill the program's log: its records are warned about sparsely."""

from __future__ import annotations

import logging

import pytest

from consumers.deciding import Deciding
from consumers.lane_spec import LaneLimits
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.specs import ROUTER
from events.log import StoredRecord
from events.outputs import Origin
from events.records import Moment
from events.times import format_time
from events.topics import CONVERSATION_EVENTS, ROUTING_LOG, partition_of
from tests.bench.workload import Conversation, bench_policy

NOW = Moment.at(1_795_341_610_000)
ORIGIN = Origin(topic=ROUTING_LOG, partition=0, log_id="log", contact_partitions=2, workspace_partitions=1)


def foreign(count: int) -> list[StoredRecord]:
    """Openings that lie on partition 0 and belong on partition 1."""
    found: list[StoredRecord] = []
    number = 0
    while len(found) < count:
        opening = Conversation(number, 1, format_time(NOW.ms)).opened()
        number += 1
        if partition_of((opening.key or b"").decode(), 2) == 1:
            found.append(StoredRecord(CONVERSATION_EVENTS, 0, len(found), opening.key, opening.value, (), NOW.ms))
    return found


def warned(count: int, caplog: pytest.LogCaptureFixture, *, at: int = logging.WARNING) -> list[str]:
    """What the program's log has when so many are read, some at a time."""
    deciding = Deciding(
        ROUTER, ROUTER.new_state(), LanePolicies(PolicyBook({"default": bench_policy()})), ORIGIN, LaneLimits(),
        home_partitions=2, dead_letter_partitions=2,
    )  # fmt: skip
    records = foreign(count)
    caplog.set_level(logging.DEBUG)
    while records:
        batch = deciding.decide(records[:7], end=1, now=NOW)
        assert len(batch.aside) == batch.inputs
        del records[: batch.inputs]
    return [record.getMessage() for record in caplog.records if record.levelno >= at]


def test_the_first_is_warned_about_and_then_fewer_and_fewer(caplog: pytest.LogCaptureFixture):
    lines = warned(136, caplog)
    assert [line.rsplit(": ", 1)[1] for line in lines] == [f"sent on, {count} so far" for count in (1, 10, 100)]
    assert lines[0].startswith("conversations.events/0@0 belongs on partition 1: ")


def test_each_is_told_where_details_are_asked_for(caplog: pytest.LogCaptureFixture):
    assert len(warned(25, caplog, at=logging.DEBUG)) == 25
