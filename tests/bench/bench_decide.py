"""What a transition costs beside the bare loop: ``python -m tests.bench.bench_decide`` prints a table.

Bare is ``orjson.loads`` of the input, a dictionary look-up, ``orjson.dumps`` of the record and its SHA-256: what any
router that keeps a hashed JSON log has to do. Rounds of both take turns; each line is the median of the rounds, and
the ratios belong to this run alone.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise

import orjson

from consumers.deciding import GROUP_INPUTS
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.runtime import tune_garbage_collection
from consumers.specs import ROUTER
from events.log import NewRecord, StoredRecord
from events.outputs import Origin
from events.records import Moment, decided
from events.times import format_time
from events.topics import ROUTING_LOG
from tests.bench.printing import Row, print_table
from tests.bench.workload import Conversation, bench_policy

NOW_MS = 1_795_341_610_000
ORIGIN = Origin(topic=ROUTING_LOG, partition=0, log_id="bench", contact_partitions=1, workspace_partitions=1)
STAGES = ("decode", "read", "decide", "encode", "evolve", "outputs")
MEASURED = ("decide", "encode", "evolve")


def inputs(conversations: int) -> list[StoredRecord]:
    """Four inputs for each conversation, in the order of the conversations' steps."""
    talks = [Conversation(number, 1, format_time(NOW_MS)) for number in range(conversations)]
    steps: list[Callable[[Conversation], NewRecord]] = [
        Conversation.opened, Conversation.invalid, Conversation.valid, Conversation.crm_answer,
    ]  # fmt: skip
    records = [step(talk) for step in steps for talk in talks]
    return [StoredRecord(r.topic, 0, offset, r.key, r.value, (), NOW_MS) for offset, r in enumerate(records)]


def run(records: list[StoredRecord], made: list[bytes] | None = None) -> dict[str, float]:
    """Microseconds of each stage for one transition; the records that were made are added to ``made``.

    Inputs are worked in groups, each step over a whole group, as in a lane. A round that is measured keeps no records,
    as a lane does not.
    """
    policy = bench_policy()
    state = ROUTER.new_state()
    policies = LanePolicies(PolicyBook({"default": policy}))
    policies.add(policy, "default", 1)
    now = Moment.at(NOW_MS)
    clock = time.perf_counter
    spent = [0.0] * len(STAGES)
    for first in range(0, len(records), GROUP_INPUTS):
        group = records[first : first + GROUP_INPUTS]  # of as many contacts: a lane decides them all before it folds
        times = [clock()]
        events = [ROUTER.decoders[record.topic](record) for record in group]
        times.append(clock())
        read = [state.read(event, policies) for event in events]
        times.append(clock())
        decisions = [state.decide(event, policies, now.ms) for event in read]
        times.append(clock())
        built = [
            decided(ROUTING_LOG, decision, event, now, first=True, offset=offset, policy_offset=1)
            for offset, (event, decision) in enumerate(zip(read, decisions, strict=True), start=first + 2)
            if decision is not None
        ]
        times.append(clock())
        for one in built:
            state.evolve(one.record)
        times.append(clock())
        for one in built:
            ROUTER.outputs(one.record, ORIGIN)
        times.append(clock())
        assert len(built) == len(group)
        for stage, (began_s, ended_s) in enumerate(pairwise(times)):
            spent[stage] += ended_s - began_s
        if made is not None:
            made.extend(one.value for one in built)
        state.confirm()
    return {stage: seconds / len(records) * 1e6 for stage, seconds in zip(STAGES, spent, strict=True)}


def bare(records: list[StoredRecord], made: list[bytes]) -> float:
    """Microseconds of the bare loop for one input, writing records of the same size."""
    table = {"conversation.opened": 1}
    values = [orjson.loads(value) for value in made]
    began_s = time.perf_counter()
    for record, value in zip(records, values, strict=True):
        table.get(orjson.loads(record.value or b"")["type"])
        sha256(orjson.dumps(value)).hexdigest()
    return (time.perf_counter() - began_s) / len(records) * 1e6


def main(conversations: int = 2_000, rounds: int = 7) -> dict[str, float]:
    """Measure, print, and return the medians, microseconds for one transition."""
    tune_garbage_collection()
    records = inputs(conversations)
    made: list[bytes] = []
    run(records, made)
    runs: list[dict[str, float]] = []
    for _ in range(rounds):
        gc.collect()
        spent = run(records)
        spent["bare"] = bare(records, made)
        spent["decide + encode + evolve"] = sum(spent[stage] for stage in MEASURED)
        spent["ratio"] = spent["decide + encode + evolve"] / spent["bare"]
        runs.append(spent)
    medians = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
    rows = [
        Row(name, f"{value:.1f}", f"{value / medians['bare']:.2f}")
        for name, value in medians.items()
        if name != "ratio"
    ]
    rows.append(Row("ratio, median of the rounds", "", f"{medians['ratio']:.2f}"))
    print_table("One transition on one core", ("", "microseconds", "x bare"), rows)
    return medians


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
