"""Which records of a log exist, as every reader on Kafka has it."""

from __future__ import annotations

import logging

import pytest

from events.chain import NOTHING_BEFORE, ChainError, Entry, seal
from events.kafka.existing import Existing, LogIds
from events.kafka.quiet import OncePerInterval
from events.log import StoredRecord, TopicPartition

PLACE = TopicPartition("routing.log", 0)


def stored(offset: int, *, expected: int | None = None, log_id: str = "ours") -> StoredRecord:
    (record,) = seal(
        PLACE,
        [Entry(b"", b"v", "h")],
        expected=offset if expected is None else expected,
        log_id=log_id,
        after=NOTHING_BEFORE,
        progress=None,
    )
    return StoredRecord(*PLACE, offset, b"k", b"v", record.headers, 0)


def test_records_at_their_offset_exist_whatever_the_order_of_their_headers() -> None:
    """The usual order is only the fast way."""
    rule = Existing(PLACE, b"ours")
    records = [stored(0), stored(1), stored(2)._replace(headers=tuple(reversed(stored(2).headers)))]
    assert list(rule(records)) == records
    assert rule.fenced_records == 0


def test_dropped_records_count_once(caplog: pytest.LogCaptureFixture) -> None:
    """A second reader, or the same one again, drops them without counting; the first is told, and is no warning."""
    rule = Existing(PLACE, b"ours")
    records = [stored(0), stored(1, expected=0), stored(2), stored(3)._replace(headers=())]
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert [record.offset for record in rule(records)] == [0, 2]
        assert [record.offset for record in rule([stored(4, expected=5), stored(5)])] == [5]
    assert rule.fenced_records == 3
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_only_a_record_in_its_place_puts_a_log_in_doubt() -> None:
    """Another log's record at the wrong offset is a fenced one; at the right offset the topic may be another."""
    rule = Existing(PLACE, b"ours")
    rule([stored(1, expected=0, log_id="other")])
    assert not rule.is_in_doubt
    assert not rule([stored(1, log_id="other")])
    assert rule.is_in_doubt


class First:
    """A partition of which only the first record matters."""

    def __init__(self, record: StoredRecord | None) -> None:
        self.record = record
        self.reads = 0

    async def __call__(self, place: TopicPartition) -> StoredRecord | None:
        assert place == PLACE
        self.reads += 1
        return self.record


async def test_a_log_is_known_by_its_first_record() -> None:
    """It is read once, again after a doubt, and an empty partition has no rule yet."""
    first = First(None)
    ids = LogIds(first)
    assert await ids.rule(PLACE) is None
    first.record = stored(0)
    rule = await ids.rule(PLACE)
    assert rule is not None
    assert rule.log_id == b"ours"
    assert await ids.rule(PLACE) is rule
    assert first.reads == 2
    ids.doubt(PLACE)
    assert await ids.rule(PLACE) is rule
    rule.is_in_doubt = True
    assert await ids.rule(PLACE) is rule
    assert not rule.is_in_doubt
    assert first.reads == 4


@pytest.mark.parametrize("now", [None, stored(0, log_id="other")])
async def test_a_log_that_changed_its_name_is_an_error(now: StoredRecord | None) -> None:
    """Empty or with another first record: it was made anew."""
    first = First(stored(0))
    ids = LogIds(first)
    await ids.rule(PLACE)
    first.record = now
    ids.doubt(PLACE)
    for _ in range(2):
        with pytest.raises(ChainError, match="made anew under us"):
            await ids.rule(PLACE)


@pytest.mark.parametrize("bad", [stored(0)._replace(headers=()), stored(0, expected=4)])
async def test_a_log_must_begin_with_a_record_of_ours(bad: StoredRecord) -> None:
    """Nothing behind a foreign first record could ever exist."""
    with pytest.raises(ChainError, match="does not begin with a record of a log"):
        await LogIds(First(bad)).rule(PLACE)


def test_repeated_messages_pass_once() -> None:
    """A warning comes through once an interval, others and mere information always."""

    def message(level: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("aiokafka", level, "", 0, text, ("detail",), None)

    quiet = OncePerInterval(interval_s=1_000.0)
    passed = [quiet.filter(message(logging.ERROR, "away %s")) for _ in range(3)]
    assert passed == [True, False, False]
    assert quiet.filter(message(logging.ERROR, "other %s"))
    assert all(quiet.filter(message(logging.INFO, "away %s")) for _ in range(3))
    assert all(OncePerInterval(interval_s=0.0).filter(message(logging.ERROR, "away %s")) for _ in range(3))
