"""Who works on the log that is chatted on: somebody else's ``serve``, or one in this process for as long as the chat.

The one in here has the example CRM and, unless another policy is given, the example policy and agents. It must not
decide what others have published for their own policy: it is for logs that are empty or were made by the examples.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import orjson
from msgspec import structs

from consumers.demo.crm_policy import WORKSPACE as DEMO_WORKSPACE
from consumers.demo.crm_policy import with_crm
from consumers.demo.crm_server import TOKEN
from consumers.demo.examples import CRM_DATA, POLICY, Examples
from consumers.opening import counts_of
from consumers.policies import load_policies
from consumers.publisher import publish_all
from consumers.serve import serve
from consumers.settings import ServeSettings
from events.log import Log, TopicPartition
from events.records import POLICY_RECORDED, parse
from events.topics import CONVERSATION_EVENTS, ROUTING_LOG
from routing.policy_file import parse_policy

FIRST_RECORDS: Final = 20  #: of a partition: its first policy stands among them, before the first conversation


async def is_ours(log: Log, examples: Examples) -> bool:
    """Whether the log is empty, or whatever it began with was decided under a policy of the examples."""
    ours = load_policies(examples.folder / POLICY)["default"].workflow.name
    published = decided = 0
    for number in range(await log.partition_count(CONVERSATION_EVENTS)):
        published += await log.end_offset(TopicPartition(CONVERSATION_EVENTS, number))
        fetched = await log.read(TopicPartition(ROUTING_LOG, number), 0, records_max=FIRST_RECORDS)
        for record in map(parse, fetched.records):
            if record.type == POLICY_RECORDED:
                decided += 1
                if parse_policy(record.data["text"], source="the log").workflow.name != ours:
                    return False
    return published == 0 or decided > 0


@asynccontextmanager
async def serving_here(
    log: Log,
    url: str,
    examples: Examples,
    policy: Path | None,
    *,
    workspace: str = DEMO_WORKSPACE,
    topic_prefix: str = "",
    tell: Callable[[str], None],
) -> AsyncIterator[asyncio.Task[object]]:
    """Run all roles in this process for ``workspace``; gives the task that does, which ends with what stopped it.

    Raises ``PolicyError`` and ``LogError``, and ``ChildError`` if the example CRM does not start.
    """
    async with with_crm(policy or examples.folder / POLICY, examples.folder / CRM_DATA) as stand_in:
        os.environ["CRM_TOKEN"] = TOKEN  # the example CRM takes no other
        if policy is None:
            await _open_the_desk(log, examples, workspace)
        stop, is_ready = asyncio.Event(), asyncio.Event()

        def heard(sentence: str) -> None:
            if sentence == "ready":
                is_ready.set()
            else:
                tell(sentence)

        settings = ServeSettings(policy=stand_in.file, log_url=url, topic_prefix=topic_prefix, workspace=workspace)
        working: asyncio.Task[object] = asyncio.create_task(serve(settings, stop, tell=heard))
        try:
            await _first(working, asyncio.create_task(is_ready.wait()))
            yield working
        finally:
            stop.set()
            await asyncio.wait({working})
        working.result()


async def _first(working: asyncio.Task[object], ready: asyncio.Task[bool]) -> None:
    """Wait for readiness; raises what ended the work before."""
    await asyncio.wait({working, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        working.result()


async def _open_the_desk(log: Log, examples: Examples, workspace: str) -> None:
    """Publish the agents that are there when the examples begin; told again, it changes nothing."""
    counts, first = await counts_of(log), examples.scenes()[0]
    steps = [step for step in examples.steps if step.of_agent and step.scene == first]
    if workspace != DEMO_WORKSPACE:
        steps = [structs.replace(step, raw=_moved(step.raw, workspace)) for step in steps]
    await publish_all(log, [step.record(counts) for step in steps])


def _moved(event: bytes, workspace: str) -> bytes:
    """The agent's event in another workspace."""
    return orjson.dumps(orjson.loads(event) | {"workspace": workspace, "partitionkey": workspace})
