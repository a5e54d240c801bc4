"""What the state costs: ``python -m tests.bench.bench_state`` prints bytes for a conversation and records a second.

Memory is what ``tracemalloc`` counts, so it is exact and the same in every run. Restoring folds a log from its first
record, with every check of the chain; beside it stands a bare loop that parses and hashes the same records.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from hashlib import sha256

import orjson

from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail, fold
from consumers.runtime import tune_garbage_collection
from consumers.specs import ROUTER
from events.chain import NOTHING_BEFORE, Entry, Progress, seal
from events.log import TopicPartition
from events.memory import MemoryLog
from events.records import Moment, genesis, hash_of, policy_recorded
from events.topics import ROUTING_LOG, partition_counts
from routing.decider import LaneState
from tests.bench.bench_decide import NOW_MS, inputs, run
from tests.bench.printing import Row, print_table
from tests.bench.workload import bench_policy

BATCH = 200
LOG_ID = "bench"
PLACE = TopicPartition(ROUTING_LOG, 0)
CHECKPOINTS = {"asking": 2, "looking up": 3, "routed": 4}  #: inputs of each conversation that are decided by then


async def log_of(values: list[bytes]) -> MemoryLog:
    """A routing log that holds these records."""
    log = MemoryLog(cluster_id="bench", clock_ms=lambda: NOW_MS)
    await log.create_topics(partition_counts(1, 1))
    now = Moment.at(NOW_MS)
    first = genesis(ROUTING_LOG, 0, now, log_id=LOG_ID, cluster_id="bench", count=1)
    text = policy_recorded(ROUTING_LOG, bench_policy(), "default", 0, now)
    entries = [Entry(b"", value, hash_of(value)) for value in (first, text, *values)]
    after, end = NOTHING_BEFORE, 0
    for start in range(0, len(entries), BATCH):
        batch = entries[start : start + BATCH]
        progress = Progress(positions={"conversations.events": start, "crm.answers": 0}, mark=start)
        records = seal(PLACE, batch, expected=end, log_id=LOG_ID, after=after, progress=progress)
        end = (await log.append(PLACE, records, expected=end)).offset_next
        after = batch[-1].hash
    return log


async def restored(log: MemoryLog) -> tuple[LaneState, float]:
    """The state that the log folds to, and the seconds of CPU."""
    state = ROUTER.new_state()
    tail = Tail(log_id=LOG_ID)
    began_s = time.process_time()
    await fold(log, PLACE, state, tail, LanePolicies(PolicyBook({})))
    state.confirm()
    state.taken_over(NOW_MS)
    return state, time.process_time() - began_s


def bytes_each(values: list[bytes], conversations: int) -> float:
    """Bytes of memory that the fold of these records keeps for each conversation."""
    log = asyncio.run(log_of(values))
    gc.collect()
    tracemalloc.start()
    state, _ = asyncio.run(restored(log))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(1 for _ in state.parts()) == conversations
    return held / conversations


def main(conversations: int = 5_000, rounds: int = 3) -> dict[str, float]:
    """Measure, print, and return bytes for a conversation in each state."""
    tune_garbage_collection()
    made: list[bytes] = []
    run(inputs(conversations), made)
    memory = {name: bytes_each(made[: steps * conversations], conversations) for name, steps in CHECKPOINTS.items()}
    rows = [Row(f"memory of a conversation: {name}", f"{held:,.0f} bytes") for name, held in memory.items()]
    log = asyncio.run(log_of(made))
    for number in range(rounds):
        gc.collect()
        _, spent_s = asyncio.run(restored(log))
        began_s = time.process_time()
        for value in made:
            orjson.loads(value)
            sha256(value).hexdigest()
        bare_s = time.process_time() - began_s
        rate, bare_rate = len(made) / spent_s, len(made) / bare_s
        rows.append(Row(f"restore, round {number + 1}: records/s", f"{rate:,.0f}", f"{bare_rate:,.0f}"))
    print_table("State", ("", "vip-router", "bare: parse and hash"), rows)
    return memory


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
