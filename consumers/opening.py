"""Opens the log of a URL, making it with its topics where there is none.

Partition counts are fixed when a log is made; a log that exists keeps its own, also for topics that it lacks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from consumers.settings import PARTITIONS, WORKSPACE_PARTITIONS, SettingsError
from events.log import Log, UnknownTopicError
from events.open_log import OwnedLog, open_log
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS, partition_counts


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
async def opened_or_made(
    url: str, *, partitions: int | None = None, workspace_partitions: int | None = None, topic_prefix: str = ""
) -> AsyncIterator[OwnedLog]:
    """A log with all its topics. The counts are for a log that is made now; an existing one keeps its own."""
    try:
        log = open_log(url, create={}, topic_prefix=topic_prefix)
    except ValueError as error:
        raise SettingsError(f"--log: {error}") from None
    async with log:
        contacts = await _count(log, CONVERSATION_EVENTS) or partitions or PARTITIONS
        workspaces = await _count(log, AGENT_EVENTS) or workspace_partitions or WORKSPACE_PARTITIONS
        await log.create_topics(partition_counts(contacts, workspaces))
        yield log


async def counts_of(log: Log) -> Counts:
    """P and W of a log that has its topics."""
    return Counts(await log.partition_count(CONVERSATION_EVENTS), await log.partition_count(AGENT_EVENTS))


async def _count(log: Log, topic: str) -> int | None:
    try:
        return await log.partition_count(topic)
    except UnknownTopicError:
        return None
