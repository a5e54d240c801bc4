"""What CRM look-ups cost beside the bare client, and what many that wait do to others: prints tables.

``python -m tests.bench.bench_crm`` starts a fast CRM as a process of its own. CPU is this process's, by look-up, with
all of ours in it (retries, limits, JSON, variables); the bare loops send the same request and read the answer.
Latency is from the publishing of an opening, whose contact's answer is in the cache, to the router's request for an
owner: once while nothing else happens, once while others wait for a CRM that hangs.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
from yarl import URL

from consumers.crm.client import CrmClient
from consumers.crm.consumer import CrmConsumer
from consumers.crm.outcomes import Answered, LookUp
from consumers.lane import Lane
from consumers.policy_book import PolicyBook
from consumers.runtime import tune_garbage_collection
from consumers.secrets import Secrets
from consumers.specs import ROUTER
from events import records
from events.log import NewRecord, TopicPartition
from events.memory import MemoryLog
from events.times import format_time
from events.topics import ASSIGNMENT_REQUESTS, CONVERSATION_EVENTS, ROUTING_LOG, partition_counts
from routing.policy import Policy
from routing.policy_file import parse_policy
from tests.bench.bench_sqlite import percentile, until
from tests.bench.printing import Row, print_table
from tests.bench.workload import event

FILES = 12_000
AT_ONCE = (1, 50, 500)
WARM = 20  #: contacts whose answers are in the cache
PROBES_A_SECOND = 100
OUTAGE_RATE = 50  #: requests a second
ROOT = Path(__file__).parents[2]
SECRETS = Secrets(environment={"CRM_TOKEN": "bench"})


def now_ms() -> int:
    """The clock of the bench."""
    return time.time_ns() // 1_000_000


def policy(port: int, path: str, **crm: Any) -> Policy:
    """A policy that looks people up at ``path`` of the bench's CRM."""
    settings = {"timeout": "60s", "attempts": 1, "deadline": "10m", "rate": {"concurrency": 2_000}, **crm}
    lines = "\n".join(f"{name} = {_toml(value)}" for name, value in settings.items())
    text = f"""
[crm]
url = "http://127.0.0.1:{port}{path}?email={{email}}"
headers = {{ Authorization = "Bearer ${{CRM_TOKEN}}" }}
{lines}
[crm.variables]
customer_type = "$.customerType"
[branch.vip]
conditions = [{{ variable = "customer_type", operator = "is equal to", value = "VIP" }}]
[route]
vip = {{ workspace = true }}
regular = {{ workspace = true }}
escalated = {{ workspace = true }}
"""
    return parse_policy(text, source="bench")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {one}" for name, one in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def ask(number: int) -> LookUp:
    """One contact's look-up."""
    return LookUp(
        workspace="default",
        contact=f"contact-{number:07}",
        conversation=f"conversation-{number:07}",
        lookup_id=f"conversation-{number:07}/3",
        email=f"ann.lee.{number}@example.com",
        deadline_ms=now_ms() + 600_000,
    )


@contextmanager
def crm_process() -> Iterator[int]:
    """The bench's CRM; its port."""
    command = [sys.executable, "-m", "tests.bench.crm_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


# --- CPU ---


async def spent_us(count: int, at_once: int, one: Callable[[int], Awaitable[None]]) -> float:
    """Microseconds of CPU for each of ``count`` calls; every connection has been used before."""
    numbers = iter(range(count + 2 * at_once))

    async def some(until_number: int) -> None:
        for number in numbers:
            await one(number)
            if number >= until_number:
                return

    await asyncio.gather(*(some(at_once) for _ in range(at_once)))
    began_s = time.process_time()
    await asyncio.gather(*(some(count + at_once) for _ in range(at_once)))
    return (time.process_time() - began_s) / count * 1e6


async def bare_aiohttp(port: int, count: int, at_once: int) -> float:
    """Aiohttp as it is."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one(number: int) -> None:
            url = URL(f"http://127.0.0.1:{port}/v1?email=ann.lee.{number}%40example.com", encoded=True)
            async with session.get(url, headers={"Authorization": "Bearer bench"}) as response:
                orjson.loads(await response.read())

        return await spent_us(count, at_once, one)


async def bare_httpx(port: int, count: int, at_once: int) -> float:
    """Httpx with its own transport."""
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=None) as client:

        async def one(number: int) -> None:
            url = f"http://127.0.0.1:{port}/v1?email=ann.lee.{number}%40example.com"
            orjson.loads((await client.get(url, headers={"Authorization": "Bearer bench"})).content)

        return await spent_us(count, at_once, one)


async def ours(port: int, count: int, at_once: int) -> float:
    """A whole look-up."""
    looked_up = policy(port, "/v1")
    async with CrmClient(clock=now_ms, secrets=SECRETS) as client:

        async def one(number: int) -> None:
            outcome = await client.look_up(ask(number), looked_up)
            assert isinstance(outcome, Answered), outcome

        return await spent_us(count, at_once, one)


def cpu(port: int, count: int, rounds: int, many: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """By look-ups at a time: microseconds of bare aiohttp, of ours, and of httpx with its own transport."""
    found = {}
    for at_once in many:
        total = count if at_once > 1 else max(50, count // 10)
        bare, own = [], []
        for _ in range(rounds):
            bare.append(asyncio.run(bare_aiohttp(port, total, at_once)))
            own.append(asyncio.run(ours(port, total, at_once)))
        slow = asyncio.run(bare_httpx(port, max(50, total // 10), at_once))
        found[at_once] = (statistics.median(bare), statistics.median(own), slow)
    rows = [
        Row(f"{at_once} at a time", f"{own:.0f}", f"{bare:.0f}, x{own / bare:.1f}; httpx's own transport {slow:.0f}")
        for at_once, (bare, own, slow) in found.items()
    ]
    print_table("CPU of a look-up, microseconds", ("", "vip-router", "bare aiohttp"), rows)
    return found


# --- waiting ---


def asking(number: int, looked_up: Policy) -> NewRecord:
    """A record of ``routing.log`` that asks for a look-up."""
    one = ask(number)
    data = {
        "seq": 3, "policy": looked_up.version, "pii": {"email": one.email},
        "lookup": {"id": one.lookup_id, "deadline_ms": one.deadline_ms, "policy_offset": 0},
    }  # fmt: skip
    value = {
        "type": "email.accepted", "workspace": one.workspace, "partitionkey": one.contact,
        "subject": one.conversation, "data": data,
    }  # fmt: skip
    return NewRecord(ROUTING_LOG, 0, one.contact.encode(), orjson.dumps(value))


@asynccontextmanager
async def consuming(log: MemoryLog) -> AsyncIterator[tuple[CrmConsumer, CrmClient]]:
    """The CRM role on partition 0."""
    stop = asyncio.Event()
    async with CrmClient(clock=now_ms, secrets=SECRETS) as client:
        consumer = CrmConsumer(log, [0], client=client, clock=now_ms, cached=client.cached, drain_s=0.0)
        running = asyncio.create_task(consumer.run(stop))
        try:
            yield consumer, client
        finally:
            stop.set()
            await running


async def bytes_each(port: int, count: int, connections: int) -> float:
    """Bytes that the CRM role holds by look-up on its way, ``connections`` of them at the CRM, which hangs."""
    hanging = policy(port, "/hang", rate={"concurrency": connections})
    async with MemoryLog(cluster_id="bench", clock_ms=now_ms, topics=partition_counts(1, 1)) as log:
        recorded = records.policy_recorded(ROUTING_LOG, hanging, "default", 0, records.Moment.at(now_ms()))
        place = TopicPartition(ROUTING_LOG, 0)
        await log.append(place, [NewRecord(ROUTING_LOG, 0, None, recorded), asking(count, hanging)], expected=0)
        new = [asking(number, hanging) for number in range(count)]
        async with consuming(log) as (consumer, client):
            await until(lambda: client.counts["requests"] == 1)
            gc.collect()
            tracemalloc.start()
            await log.append(place, new, expected=2)
            await until(lambda: consumer._bounds.held.total() == count + 1)
            await until(lambda: client.counts["requests"] == min(count + 1, connections))
            await asyncio.sleep(0.5)  # the connections are made
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    return held / count


async def bare_bytes_each(port: int, count: int) -> float:
    """The same for requests of aiohttp as it is, all of them at the CRM."""
    gc.collect()
    tracemalloc.start()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one(number: int) -> None:
            async with session.get(f"http://127.0.0.1:{port}/hang?email=ann.lee.{number}%40example.com") as response:
                await response.read()

        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        await until(lambda: len(connector._acquired) == count)
        await asyncio.sleep(0.5)  # the connections are made
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return held / count


def memory(port: int, count: int) -> dict[str, float]:
    """Bytes of a look-up on its way: in line, and at the CRM; and of a bare request."""
    at_crm = min(1_000, count)
    found = {
        "in line": asyncio.run(bytes_each(port, count, min(100, count // 10))),
        "at the CRM": asyncio.run(bytes_each(port, at_crm, at_crm)),
        "bare aiohttp": asyncio.run(bare_bytes_each(port, at_crm)),
    }
    rows = [Row(what, f"{held:,.0f}") for what, held in found.items()]
    print_table("Memory of a look-up on its way, bytes", ("", "bytes"), rows)
    return found


# --- others ---


class Desk:
    """A router and a CRM role on a log in memory; contacts of one workspace wait, those of the other are known."""

    def __init__(self, log: MemoryLog, router: Lane) -> None:
        self._log = log
        self._router = router
        self._number = 0

    async def open(self, count: int, workspace: str) -> None:
        """So many conversations of contacts with an address."""
        for first in range(0, count, 500):
            await self._log.publish([self._opened(workspace) for _ in range(first, min(count, first + 500))])

    def _opened(self, workspace: str) -> NewRecord:
        self._number += 1
        email = f"known{self._number % WARM}@example.com" if workspace == "quick" else f"a{self._number}@example.com"
        contact = f"contact-{self._number:07}"
        value = orjson.loads(
            event(
                "conversation.opened",
                f"o-{self._number}",
                contact,
                f"v-{self._number:07}",
                format_time(now_ms()),
                {"contact": {"id": contact, "email": email}, "channel": {"type": "whatsapp", "id": "1"}},
            )
        )
        return NewRecord(CONVERSATION_EVENTS, 0, contact.encode(), orjson.dumps(value | {"workspace": workspace}))

    async def latencies_ms(self, count: int) -> list[float]:
        """From an opening to the request for an owner, one after the other, ``PROBES_A_SECOND``."""
        place = TopicPartition(ASSIGNMENT_REQUESTS, 0)
        reader = self._log.reader({place: await self._log.end_offset(place)})
        times = []
        for _ in range(count):
            began_s = time.perf_counter()
            await self.open(1, "quick")
            while not await reader.fetch(records_max=10, timeout_s=None):
                pass
            times.append((time.perf_counter() - began_s) * 1000)
            await asyncio.sleep(max(0.0, 1 / PROBES_A_SECOND - times[-1] / 1000))
        await reader.close()
        return times


async def beside_waiting(port: int, waiting: int, probes: int) -> tuple[float, float]:
    """p99 in milliseconds of those whose answer is known: alone, and beside so many that wait for a CRM that hangs."""
    policies = {
        "quick": policy(port, "/v1", cache="1h"),
        "slow": policy(port, "/hang", timeout="5m", deadline="1h", rate={"concurrency": 100}),
    }
    async with MemoryLog(cluster_id="bench", clock_ms=now_ms, topics=partition_counts(1, 1)) as log:
        router = Lane(log, ROUTER, 0, PolicyBook(policies), clock=now_ms)
        stop = asyncio.Event()
        running = asyncio.create_task(router.run(stop))
        async with consuming(log) as (consumer, _):
            desk = Desk(log, router)
            await desk.latencies_ms(3 * WARM)
            alone = await desk.latencies_ms(probes)
            await desk.open(waiting, "slow")
            await until(lambda: consumer._bounds.held["slow"] == waiting)
            await desk.latencies_ms(3 * WARM)
            beside = await desk.latencies_ms(probes)
            assert consumer._bounds.held["slow"] == waiting
        stop.set()
        await running
    return percentile(alone, 0.99), percentile(beside, 0.99)


def others(port: int, waiting: int, probes: int) -> float:
    """What those who wait do to the p99 of the others; prints, and returns the ratio."""
    alone, beside = asyncio.run(beside_waiting(port, waiting, probes))
    rows = [Row(f"beside {waiting:,} that wait", f"{beside:.1f}", f"{alone:.1f}, x{beside / alone:.2f}")]
    print_table("p99 from opening to routing, answer in the cache, ms", ("", "p99", "alone"), rows)
    return beside / alone


# --- after an outage ---


async def most_after_outage(port: int, count: int) -> int:
    """The most requests that a CRM gets in any second once it is back, from look-ups that all wait for it."""
    down = policy(port, "/outage", timeout="1s", attempts=10, rate={"per_second": OUTAGE_RATE, "concurrency": 100})
    async with CrmClient(clock=now_ms, secrets=SECRETS) as client, httpx.AsyncClient(trust_env=False) as admin:
        asked = [asyncio.create_task(client.look_up(ask(number), down)) for number in range(count)]
        await until(lambda: "open" in client.breakers().values())
        await admin.get(f"http://127.0.0.1:{port}/recover")
        outcomes = await asyncio.gather(*asked)
        answered = sum(isinstance(outcome, Answered) for outcome in outcomes)
        most: int = (await admin.get(f"http://127.0.0.1:{port}/most")).json()["most"]
    rows = [Row(f"{answered:,} of {count:,} answered", str(most), str(OUTAGE_RATE))]
    print_table("The most requests in any second after an outage", ("", "most", "allowed"), rows)
    return most


def main(
    count: int = 5_000, rounds: int = 3, waiting: int = 100_000, probes: int = 500, *, many: Sequence[int] = AT_ONCE
) -> dict[str, Any]:
    """Measure and print; returns the figures."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard))
    tune_garbage_collection()
    with crm_process() as port:
        return {
            "cpu_us": cpu(port, count, rounds, many),
            "bytes": memory(port, max(200, waiting // 10)),
            "p99_ratio": others(port, waiting, probes),
            "most": asyncio.run(most_after_outage(port, max(100, count // 10))),
        }


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
