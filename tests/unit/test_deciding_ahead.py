"""Deciding several contacts' inputs before the first is folded changes no byte of what is recorded."""

from __future__ import annotations

from consumers.deciding import Deciding
from consumers.lane_spec import LaneLimits
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.specs import ROUTER
from events.chain import Entry
from events.log import NewRecord, StoredRecord
from events.outputs import Origin
from events.records import Moment
from events.times import format_time
from events.topics import ROUTING_LOG
from tests.bench.workload import Conversation, bench_policy

NOW = Moment.at(1_795_341_610_000)
ORIGIN = Origin(topic=ROUTING_LOG, partition=0, log_id="log", contact_partitions=1, workspace_partitions=1)


def entries(inputs: list[StoredRecord], inputs_max: int) -> list[Entry]:
    """What is recorded of these inputs, offered so many at a time."""
    state = ROUTER.new_state()
    policies = LanePolicies(PolicyBook({"default": bench_policy()}))
    deciding = Deciding(
        ROUTER, state, policies, ORIGIN, LaneLimits(), home_partitions=1, dead_letter_partitions=1
    )  # fmt: skip
    found: list[Entry] = []
    left = list(inputs)
    while left:
        batch = deciding.decide(left[:inputs_max], end=1 + len(found), now=NOW)
        del left[: batch.inputs]
        found += batch.entries
        state.confirm()
    return found


def stored(records: list[NewRecord]) -> list[StoredRecord]:
    """The records as their topics' only partition has them."""
    ends: dict[str, int] = {}
    kept: list[StoredRecord] = []
    for topic, _, key, value, headers in records:
        ends[topic] = offset = ends.get(topic, -1) + 1
        kept.append(StoredRecord(topic, 0, offset, key, value, headers, NOW.ms))
    return kept


def test_a_batch_records_what_its_inputs_record_one_by_one():
    """Contacts whose turns are mixed, each with several inputs in a batch: an input sees what came before it."""
    talks = [Conversation(number, 1, format_time(NOW.ms + 60_000)) for number in range(7)]
    by_contact = [step for talk in talks for step in (talk.opened(), talk.invalid(), talk.valid(), talk.crm_answer())]
    by_step = [by_contact[talk * 4 + step] for step in range(4) for talk in range(7)]
    for records in (by_contact, by_step):
        one_by_one = entries(stored(records), 1)
        assert len(one_by_one) == 4 * 7 + 1  # and the policy
        assert entries(stored(records), 500) == one_by_one


def test_an_input_that_cannot_be_decided_is_refused_in_its_turn():
    """Deciding ahead meets it first, among others; it is set aside alone, at its place."""
    talks = [Conversation(number, 1, format_time(NOW.ms + 60_000)) for number in range(3)]
    first, second, third = (talk.opened() for talk in talks)
    unheard = second._replace(value=(second.value or b"").replace(b'"id":', b'"workspace":"nowhere","id":', 1))
    records = stored([first, unheard, third])
    assert entries(records, 500) == entries(records, 1)
    assert len(entries(records, 500)) == 3  # the policy and two openings
