"""What the checks that chaos adds see, and what they do not mind: made-up events, no brokers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from events.topics import ASSIGNMENTS, DEAD_LETTERS, REPLIES
from tests.chaos.downstream import Downstream
from tests.chaos.tally import COLUMN_OF, COLUMNS, Place, Tally, percentile
from tests.chaos.workers import Kind, Workers
from tests.processes import wait_until

ROUTER_0, ROUTER_1 = Place("router", 0), Place("router", 1)


class Seen:
    """A downstream consumer that is shown events one by one."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.assigned: list[str] = []
        self.downstream = Downstream(self.tally.violated, lambda _, event: self.assigned.append(event["id"]))
        self.offset = 0

    def show(self, *events: dict[str, Any], topic: str = ASSIGNMENTS) -> set[str]:
        """The oracles that have complained."""
        for event in events:
            self.downstream.feed(topic, 0, self.offset, orjson.dumps(event))
            self.offset += 1
        return {violation.oracle for violation in self.tally.violations}


@pytest.fixture
def seen() -> Seen:
    return Seen()


def output(type: str, seq: int, n: int = 1, **data: Any) -> dict[str, Any]:
    """An output of one conversation."""
    common = {
        "contact": {"id": "c1"}, "run": 1, "seq": seq, "n": n, "log": {"id": "l", "partition": 0, "offset": 10 * seq},
    }  # fmt: skip
    return {
        "id": f"c1/v1/{seq}/{n}", "source": "/vip-router/default/x", "type": type, "subject": "v1",
        "workspace": "default", "data": {**common, **data},
    }  # fmt: skip


def assigned(seq: int, agent: str, n: int = 1) -> dict[str, Any]:
    return output("conversation.assigned", seq, n, agent=agent)


def released(seq: int, agent: str, n: int = 1) -> dict[str, Any]:
    return output("conversation.released", seq, n, agent=agent)


def ask(seq: int, kind: str, attempt: int) -> dict[str, Any]:
    return output("reply.requested", seq, kind=kind, attempt=attempt)


def test_repeated_outputs_are_counted_and_nothing_else(seen: Seen) -> None:
    """After a crash outputs come again, older ones after newer ones: the consumer drops them."""
    one, two = assigned(1, "anna"), released(2, "anna")
    assert seen.show(one, two, one, two, assigned(3, "sam")) == set()
    assert seen.assigned == ["c1/v1/1/1", "c1/v1/3/1"]
    assert (seen.downstream.outputs, seen.downstream.repeated) == (5, 2)


def test_one_id_with_two_contents_is_seen(seen: Seen) -> None:
    """Also where the rule drops the second one."""
    assert seen.show(assigned(1, "anna"), assigned(1, "sam")) == {"contents"}


def test_one_place_with_two_ids_is_seen(seen: Seen) -> None:
    """A repetition has to repeat its id."""
    assert seen.show(assigned(1, "anna"), {**assigned(1, "anna"), "id": "again"}) == {"places"}


@pytest.mark.parametrize(
    "second", [assigned(2, "sam"), released(2, "sam"), output("conversation.queued", 2, route="vip")]
)
def test_two_owners_at_once_are_seen(seen: Seen, second: dict[str, Any]) -> None:
    """Given to another one, released by another one, or waiting while somebody has it."""
    assert seen.show(assigned(1, "anna"), second) == {"owner"}


def test_a_contact_who_is_asked_the_same_twice_is_seen(seen: Seen) -> None:
    """The same attempt comes under another id and place; the next attempt is fine."""
    assert seen.show(ask(1, "ask", 1), ask(2, "retry", 2), topic=REPLIES) == set()
    assert seen.show(ask(3, "retry", 2), topic=REPLIES) == {"asked"}


def test_an_offset_that_comes_again_is_seen(seen: Seen) -> None:
    """A consumer reads every offset once."""
    seen.show(assigned(1, "anna"))
    seen.offset = 0
    assert seen.show(released(2, "anna")) == {"vanished"}


def test_a_dead_letter_that_is_our_own_fault_is_seen(seen: Seen) -> None:
    """Bad inputs are set aside for many reasons; an exception of ours is none of them."""
    assert seen.show({"data": {"reason": "bad-data"}}, topic=DEAD_LETTERS) == set()
    assert seen.show({"data": {"reason": "fault"}}, topic=DEAD_LETTERS) == {"outcome"}


def test_a_partition_recovers_with_what_was_opened_after_the_fault() -> None:
    """An assignment that was on its way before says nothing."""
    tally = Tally()
    recovery = tally.begin("kill", [ROUTER_0, ROUTER_1])
    tally.assigned([ROUTER_0, ROUTER_1], recovery.began_s - 1)
    assert recovery.waiting == {ROUTER_0, ROUTER_1}
    tally.assigned([ROUTER_0], recovery.began_s + 1)
    assert (recovery.waiting, recovery.done.is_set()) == ({ROUTER_1}, False)
    tally.assigned([ROUTER_1], recovery.began_s + 1)
    assert recovery.done.is_set()
    assert not tally.standing
    assert len(tally.took_s["kill"]) == 2


def test_the_table_has_every_column_and_fault() -> None:
    """What is broken stands there with its oracle's words."""
    tally = Tally()
    tally.faults["worker killed"] += 3
    tally.took_s["worker killed"] = [1.0, 2.0, 4.0]
    tally.violated("order", "somebody was overtaken")
    lines = tally.table().splitlines()
    assert any(line.split() == ["worker", "killed", "3", "3", "2.00", "4.00", "4.00"] for line in lines)
    assert [line.split() for line in lines[-5:-1]] == [[name, str(int(name == "overtaken"))] for name in COLUMNS]
    assert lines[-1].strip() == "[order] somebody was overtaken"


def test_percentiles_are_values_that_were_measured() -> None:
    """The smallest one that so many per cent do not exceed."""
    assert [percentile([1, 2, 3, 4], percent) for percent in (1, 50, 75, 99)] == [1, 2, 3, 4]


async def test_a_worker_that_ends_by_itself_is_seen(tmp_path: Path) -> None:
    """It is replaced, and what it ended with counts unless the log could not be reached."""
    tally = Tally()
    workers = Workers(["--policy", "nowhere.toml"], {}, tmp_path, Random(1), tally)
    try:
        worker = workers.start(Kind("one", "router"))
        await asyncio.to_thread(wait_until, lambda: not worker.is_alive, "the end of a worker without a policy")
        keeping = asyncio.create_task(workers.keep_alive())
        while len(workers.all) == 1:  # noqa: ASYNC110 - nobody tells of a replacement
            await asyncio.sleep(0.01)
        keeping.cancel()
        assert {violation.oracle for violation in tally.violations} == {"alive"}
    finally:
        workers.close()


def test_every_check_that_chaos_adds_is_shown_a_bug() -> None:
    """The names are those in the modules' own code; each stands in a test beside this one or in ``test_chaos.py``."""
    folder = Path(__file__).parent
    sources = [path.read_text() for path in folder.glob("*.py") if not path.name.startswith("test_")]
    added = {name for source in sources for name in re.findall(r'violated\(\s*"(\w+)"', source)}
    tests = "".join(path.read_text() for path in folder.glob("test_*.py"))
    assert len(added) >= 8
    assert {name for name in added if f'"{name}"' not in tests} == set()
    assert set(COLUMN_OF.values()) < {*COLUMNS}
