"""Opens the log of a URL, making it with its topics where there is none.

Partition counts are fixed when a log is made; a log that exists keeps its own, also for topics that it lacks. Whoever
makes one says so: a slip of the pen in its name makes one, too.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from consumers.settings import PARTITIONS, WORKSPACE_PARTITIONS, SettingsError
from events.log import Log, UnknownTopicError
from events.open_log import OwnedLog, open_log
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS, TOPICS, counts_among, partition_counts

KAFKA: Final = "kafka://"

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """P and W of a log."""

    contacts: int
    workspaces: int


@asynccontextmanager
async def opened(url: str, *, read_only: bool = False, topic_prefix: str = "") -> AsyncIterator[OwnedLog]:
    """A log that exists. Raises ``SettingsError`` for a URL that names none, and ``LogError``."""
    try:
        log = open_log(url, create=None, read_only=read_only, topic_prefix=topic_prefix)
    except ValueError as error:
        raise SettingsError(f"--log: {error}") from None
    async with log:
        yield log


@asynccontextmanager
async def opened_to_publish(
    url: str, *, topic_prefix: str = "", tell: Callable[[str], None] = logger.info
) -> AsyncIterator[OwnedLog]:
    """A log that takes events. A file that is not there is made; on Kafka the topics must be there.

    ``tell`` gets a sentence about what was made. Raises ``SettingsError`` for a URL that names no log, and ``LogError``
    with what to do, also where Kafka lacks the topics of inputs.
    """
    if not url.startswith(KAFKA):
        async with opened_or_made(url, topic_prefix=topic_prefix, tell=tell) as log:
            yield log
        return
    async with opened(url, topic_prefix=topic_prefix) as log:
        await counts_of(log)
        yield log


@asynccontextmanager
async def opened_or_made(
    url: str,
    *,
    partitions: int | None = None,
    workspace_partitions: int | None = None,
    topic_prefix: str = "",
    tell: Callable[[str], None] = logger.info,
) -> AsyncIterator[OwnedLog]:
    """A log with all its topics. The counts are for a log that is made now; an existing one keeps its own.

    ``tell`` gets a sentence about what was made.
    """
    try:
        log = open_log(url, create={}, topic_prefix=topic_prefix)
    except ValueError as error:
        raise SettingsError(f"--log: {error}") from None
    async with log:
        existing = {name: count for name in TOPICS if (count := await _count(log, name)) is not None}
        has_contacts, has_workspaces = counts_among(existing)
        made = Counts(
            has_contacts or partitions or PARTITIONS, has_workspaces or workspace_partitions or WORKSPACE_PARTITIONS
        )
        await log.create_topics(partition_counts(*made))
        if len(existing) < len(TOPICS):
            tell(_what_was_made(url, topic_prefix, made, [name for name in TOPICS if name not in existing]))
        yield log


def _what_was_made(url: str, topic_prefix: str, counts: Counts, missing: Sequence[str]) -> str:
    fixed = f"partitions {counts.contacts} by contact and {counts.workspaces} by workspace, fixed for ever"
    is_new = len(missing) == len(TOPICS)
    if is_new and not url.startswith(KAFKA):
        return f"made a new log, {url}: {fixed}"
    names = "" if is_new else f" ({', '.join(topic_prefix + name for name in missing)})"
    prefix = f'with the prefix "{topic_prefix}"' if topic_prefix else "without a prefix"
    made = "made 1 topic" if len(missing) == 1 else f"made {len(missing)} topics"
    return (
        f"{made} on {url}, {prefix}{names}: {fixed}. If they should have been there: stop, and correct --topic-prefix "
        "or --log"
    )


async def counts_of(log: Log) -> Counts:
    """P and W of a log that has its topics."""
    return Counts(await log.partition_count(CONVERSATION_EVENTS), await log.partition_count(AGENT_EVENTS))


async def _count(log: Log, topic: str) -> int | None:
    try:
        return await log.partition_count(topic)
    except UnknownTopicError:
        return None
