"""Every fault at least once, on three real brokers and three ``serve`` processes; and bugs that have to be seen.

Nothing here depends on how long something takes: each step waits for what has to be observed. More, and for longer:
``python -m tests.chaos --minutes 60``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import orjson
import pytest

from events.log import StoredRecord, TopicPartition
from events.topics import ASSIGNMENTS, CONVERSATION_EVENTS, ROUTING_LOG
from tests.brokers.fixtures import Brokers
from tests.chaos import faults, running
from tests.chaos.arena import arena
from tests.chaos.judging import Left, Topics, judge
from tests.chaos.running import Grounds, Plan, Run
from tests.chaos.setting import SHORT, crm_contacts, write_policies
from tests.chaos.tally import Tally
from tests.processes import crm

#: three streams that run beside each other
SCRIPT = (
    (faults.WorkerKilled, faults.WorkerFrozen, faults.RebalanceStorm, faults.WorkersRestarted),
    (faults.BrokerKilled, faults.BrokerFrozen, faults.DiskFull, faults.BrokersRestarted, faults.BrokersDown),
    (faults.AcknowledgementLost, faults.AppendLost, faults.ConnectionsCut, faults.Latency, faults.Silence),
)


class Survived(NamedTuple):
    """A run that is over."""

    tally: Tally
    left: Left


@pytest.fixture(scope="module")
def grounds(brokers: Brokers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """Three brokers as processes, whatever those of other tests are; a CRM, and policies."""
    folder = tmp_path_factory.mktemp("chaos")
    with arena(partial(brokers, backend="processes"), "processes") as made, crm(folder, crm_contacts()) as crm_url:
        policies = folder / "policies"
        yield Grounds(made, folder, policies, write_policies(policies, crm_url))


@pytest.fixture(scope="module")
def survived(grounds: Grounds) -> Survived:
    """One run with all faults."""
    tally = Tally(print)
    run = Run(grounds, Plan(seed=0, pace=SHORT, script=SCRIPT), tally)
    asyncio.run(run.run())
    assert run.left is not None
    return Survived(tally, run.left)


def test_no_fault_loses_doubles_contradicts_or_overtakes(survived: Survived) -> None:
    """All oracles are green after every kind of fault, and every partition assigns again."""
    assert not survived.tally.violations, survived.tally.table()
    assert set(survived.tally.faults) == set(faults.NAMES)
    assert survived.tally.counts["messages"] > 300
    for fault in (faults.WorkerKilled, faults.WorkerFrozen, faults.RebalanceStorm, faults.BrokersDown, faults.Latency):
        assert survived.tally.took_s[fault.name], f"{fault.name}: it touched nothing"


def lose_an_output(left: Left) -> Left:
    """The last assignment of a partition is not there."""
    place = next(place for place, found in left.topics.items() if place.topic == ASSIGNMENTS and found)
    last = left.topics[place][-1].value
    return changed(left, place, [record for record in left.topics[place] if record.value != last])


def invent_an_output(left: Left) -> Left:
    """An assignment stands there again, under another id."""
    place = next(place for place, found in left.topics.items() if place.topic == ASSIGNMENTS and found)
    last = left.topics[place][-1]
    event = orjson.loads(last.value or b"")
    again = last._replace(offset=last.offset + 1, value=orjson.dumps({**event, "id": "again"}))
    return changed(left, place, [*left.topics[place], again])


def leave_an_input_undecided(left: Left) -> Left:
    """One more input stands in the topic."""
    place = TopicPartition(CONVERSATION_EVENTS, 0)
    last = left.topics[place][-1]
    return changed(left, place, [*left.topics[place], last._replace(offset=last.offset + 1)])


def lose_an_acknowledged_input(left: Left) -> Left:
    """A producer was told that something stands there that does not."""
    written = {**left.acknowledged, (CONVERSATION_EVENTS, 0): Counter({b"gone": 1})}
    return left._replace(acknowledged=written)


def lose_what_was_seen(left: Left) -> Left:
    """A record of the log was another one when it was read first."""
    place = TopicPartition(ROUTING_LOG, 0)
    first, *others = left.seen[place]
    return left._replace(seen={**left.seen, place: [first._replace(value=b"{}"), *others]})


def swap_records(left: Left) -> Left:
    """Two records of the log have changed places."""
    place = TopicPartition(ROUTING_LOG, 0)
    first, *others, one, other = left.topics[place]
    swapped = [other._replace(offset=one.offset), one._replace(offset=other.offset)]
    return changed(left, place, [first, *others, *swapped])


def changed(left: Left, place: TopicPartition, records: list[StoredRecord]) -> Left:
    """With other records in one partition; what was seen is said to be the same."""
    topics: Topics = {**left.topics, place: records}
    return left._replace(topics=topics, seen={})


@pytest.mark.parametrize(
    ("plant", "oracle"),
    [
        (lose_an_output, "outputs"),
        (invent_an_output, "outputs"),
        (leave_an_input_undecided, "outcome"),
        (lose_an_acknowledged_input, "acknowledged"),
        (lose_what_was_seen, "vanished"),
        (swap_records, "chain"),
    ],
)
def test_what_is_wrong_with_what_was_left_is_seen(
    survived: Survived, grounds: Grounds, plant: Callable[[Left], Left], oracle: str
) -> None:
    """The judgement of the same run turns red when its evidence is changed."""
    tally = Tally()
    judge(plant(survived.left), grounds.policy, tally)
    assert oracle in {violation.oracle for violation in tally.violations}


@pytest.mark.parametrize(("plant", "oracle"), [("new ids", "places"), ("no requests", "progress")])
def test_a_bug_of_the_workers_turns_a_run_red(
    grounds: Grounds, plant: str, oracle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any fault: outputs that come again under new ids, and requests that never reach the assigner."""
    if oracle == "progress":
        monkeypatch.setattr(running, "RECOVER_TIMEOUT_S", 5.0)
        monkeypatch.setattr(running, "STUCK_S", 5.0)
    tally = Tally()
    asyncio.run(Run(grounds, Plan(seed=0, pace=SHORT, kinds=frozenset(), plant=plant), tally).run())
    assert oracle in {violation.oracle for violation in tally.violations}
    assert any(tally.columns.values())
