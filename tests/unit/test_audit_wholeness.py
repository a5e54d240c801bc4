"""``audit show`` does not tell a changed or incomplete story as if it were a true one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from consumers.audit.finding import find
from consumers.audit.report import Difference
from consumers.audit.wholeness import BREAKS_MAX, Wholeness
from events.chain import NOTHING_BEFORE, Entry, Progress, seal
from events.log import StoredRecord, TopicPartition
from events.records import hash_of
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG
from tests.audit_support import Tampered

HERE = TopicPartition(ROUTING_LOG, 0)
WHOSE = ("default", "c1")
CHANGED = "this record was changed after it was written, or the one behind it was changed or put in"
ELSEWHERE = "; it may have been of this conversation"

Where = tuple[str, int, int, str]


def damage_of(path: Path, conversation: str, contact: str | None = None) -> Difference | None:
    async def run() -> Difference | None:
        async with SqliteLog(path, read_only=True) as log:
            return (await find(log, conversation, workspace="default", contact=contact)).damage

    return asyncio.run(run())


def give_to(t: Tampered, agent: str) -> tuple[int, int]:
    """The record by which anna got v1 says another agent now."""
    partition, offset = t.find(ASSIGNMENTS_LOG, "assignment.made", agent="anna")
    event = t.event(ASSIGNMENTS_LOG, partition, offset)
    event["data"]["agent"] = agent
    t.put(ASSIGNMENTS_LOG, partition, offset, orjson.dumps(event))
    return partition, offset


@pytest.mark.parametrize("number", [*range(1, 12), 77])
def test_nothing_is_said_against_what_lanes_wrote(day: Path, number: int) -> None:
    assert damage_of(day, f"v{number}") is None
    assert damage_of(day, f"v{number}", f"c{number}") is None


def the_owner_is_changed(t: Tampered) -> Where:
    return ASSIGNMENTS_LOG, *give_to(t, "ed"), CHANGED


def the_owner_is_changed_and_the_next_record_removed(t: Tampered) -> Where:
    partition, offset = give_to(t, "ed")
    t.remove(ASSIGNMENTS_LOG, partition, offset + 1)
    return ASSIGNMENTS_LOG, partition, offset + 1, f"a record is missing here{ELSEWHERE}"


def a_record_of_it_is_removed(t: Tampered) -> Where:
    """Told at the record that shows it."""
    partition, offset = t.find(ROUTING_LOG, "email.rejected")
    t.remove(ROUTING_LOG, partition, offset)
    return ROUTING_LOG, partition, offset + 1, "this is record 3 of its conversation here, and record 2 is missing"


def the_last_record_of_the_log_is_removed(t: Tampered) -> Where:
    offset = len(t.records(ASSIGNMENTS_LOG, 0)) - 1
    t.remove(ASSIGNMENTS_LOG, 0, offset)
    return ASSIGNMENTS_LOG, 0, offset, f"a record is missing here{ELSEWHERE}"


def the_log_is_cut_inside_an_append(t: Tampered) -> Where:
    records = t.records(ASSIGNMENTS_LOG, 0)
    offset = next(n for n in reversed(range(7, len(records))) if len(t.headers(ASSIGNMENTS_LOG, 0, n)) == 3)
    t.cut(ASSIGNMENTS_LOG, 0, offset + 1)
    said = f"the log ends in the middle of an append: records are missing here{ELSEWHERE}"
    return ASSIGNMENTS_LOG, 0, offset + 1, said


def the_chain_is_repaired_but_not_its_row(t: Tampered) -> Where:
    partition, offset = t.find(ROUTING_LOG, "email.rejected")
    event = t.event(ROUTING_LOG, partition, offset)
    event["data"]["reason"] = "two-addresses"
    t.put(ROUTING_LOG, partition, offset, orjson.dumps(event))
    after = hash_of(orjson.dumps(event)).encode()
    headers = t.headers(ROUTING_LOG, partition, offset + 1)
    t.put_headers(ROUTING_LOG, partition, offset + 1, [(n, after if n == "after" else old) for n, old in headers])
    said = "the record before this one in its conversation was changed after it was written"
    return ROUTING_LOG, partition, offset + 1, said


def another_conversations_record_is_changed(t: Tampered) -> Where:
    """It may have been one of v1 before: then the story ends too early."""
    partition, offset = t.find(ASSIGNMENTS_LOG, "assignment.made", agent="maya")
    event = t.event(ASSIGNMENTS_LOG, partition, offset - 1)
    event["data"]["route"] = "vip"
    t.put(ASSIGNMENTS_LOG, partition, offset - 1, orjson.dumps(event))
    return ASSIGNMENTS_LOG, partition, offset - 1, CHANGED + ELSEWHERE


BREAKS: list[Callable[[Tampered], Where]] = [
    the_owner_is_changed, the_owner_is_changed_and_the_next_record_removed, a_record_of_it_is_removed,
    the_last_record_of_the_log_is_removed, the_log_is_cut_inside_an_append, the_chain_is_repaired_but_not_its_row,
    another_conversations_record_is_changed,
]  # fmt: skip


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_what_was_changed_or_removed_is_told_with_its_place(tampered: Tampered, change: Callable[..., Where]) -> None:
    topic, partition, offset, sentence = change(tampered)
    damage = damage_of(tampered.path, "v1")
    assert damage is not None
    place = damage.place
    assert (place.topic, place.partition, place.offset, damage.sentence) == (topic, partition, offset, sentence)
    assert (damage.check, damage.conversation, damage.contact) == ("chain", "v1", "c1")


def test_damage_on_partitions_that_a_conversation_is_not_on_is_not_its_own(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "crm.unresolved")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["reason"] = "dns"
    tampered.put(ROUTING_LOG, *place, orjson.dumps(event))
    assert damage_of(tampered.path, "v1") is None
    assert damage_of(tampered.path, "v4") is not None


# --- offsets without a record ---


def sealed(expected: int, values: list[bytes], after: str) -> list[StoredRecord]:
    entries = [Entry(b"k", value, hash_of(value)) for value in values]
    progress = Progress(positions={}, mark=0)
    made = seal(HERE, entries, expected=expected, log_id="log", after=after, progress=progress)
    return [
        StoredRecord(new.topic, new.partition, expected + number, new.key, new.value, new.headers, 0)
        for number, new in enumerate(made)
    ]


def test_offsets_that_hold_what_does_not_exist_are_no_damage() -> None:
    """On Kafka an append that was fenced takes up offsets; the chain goes on behind it."""
    wholeness = Wholeness()
    for record in [*sealed(0, [b"1", b"2"], NOTHING_BEFORE), *sealed(5, [b"3"], hash_of(b"2"))]:
        wholeness.see(record)
    wholeness.end(HERE, 9, has_fenced=True)
    assert wholeness.damage(WHOSE, {(HERE, 1)}) is None
    wholeness.end(HERE, 9, has_fenced=False)
    found = wholeness.damage(WHOSE, {(HERE, 1)})
    assert found is not None
    assert (found.offset, found.sentence) == (6, f"3 records are missing here{ELSEWHERE}")


def test_memory_is_bounded_where_everything_is_broken() -> None:
    wholeness = Wholeness()
    for offset in range(3 * BREAKS_MAX):
        wholeness.see(StoredRecord(*HERE, offset, b"k", b"%d" % offset, (), 0))
    assert len(wholeness._breaks[HERE]) == BREAKS_MAX
    assert wholeness.damage(WHOSE, {(HERE, 7)}) is not None
