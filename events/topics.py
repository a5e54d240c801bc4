"""The topics: names, keys, how many partitions, what they keep, and which record belongs on which partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

CONVERSATION_EVENTS: Final = "conversations.events"
AGENT_EVENTS: Final = "agents.events"
CRM_ANSWERS: Final = "crm.answers"
ROUTING_LOG: Final = "routing.log"
ROUTING_SNAPSHOTS: Final = "routing.snapshots"
ASSIGNMENT_REQUESTS: Final = "assignment.requests"
ASSIGNMENTS_LOG: Final = "assignments.log"
ASSIGNMENTS_SNAPSHOTS: Final = "assignments.snapshots"
REPLIES: Final = "conversations.replies"
ASSIGNMENTS: Final = "assignments"
DEAD_LETTERS: Final = "dead-letters"

INPUT_BYTES_MAX: Final = 256 * 1024  #: an input event: its value, in binary mode with its headers
RECORD_BYTES_MAX: Final = 1024 * 1024  #: a record, with key and headers; a dead letter holds a whole input in base64
LOG_BATCH_BYTES_MAX: Final = 2 * 1024 * 1024  #: one append as one batch: a lane's largest, and what the wire adds to it
BATCH_OVERHEAD_BYTES_MAX: Final = 64 * 1024  #: what the wire adds to the records of one published batch


class Topic(NamedTuple):
    """What the design's table says of a topic."""

    name: str
    keyed_by: Literal["contact", "workspace", "source"]
    keeps: Literal["days", "for ever", "compacted"]
    written_by: Literal["append", "publish"]
    record_bytes_max: int


TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic(CONVERSATION_EVENTS, "contact", "days", "publish", RECORD_BYTES_MAX),
        Topic(AGENT_EVENTS, "workspace", "days", "publish", RECORD_BYTES_MAX),
        Topic(CRM_ANSWERS, "contact", "days", "publish", INPUT_BYTES_MAX),
        Topic(ROUTING_LOG, "contact", "for ever", "append", RECORD_BYTES_MAX),
        Topic(ROUTING_SNAPSHOTS, "contact", "compacted", "publish", RECORD_BYTES_MAX),
        Topic(ASSIGNMENT_REQUESTS, "workspace", "days", "publish", RECORD_BYTES_MAX),
        Topic(ASSIGNMENTS_LOG, "workspace", "for ever", "append", RECORD_BYTES_MAX),
        Topic(ASSIGNMENTS_SNAPSHOTS, "workspace", "compacted", "publish", RECORD_BYTES_MAX),
        Topic(REPLIES, "contact", "days", "publish", RECORD_BYTES_MAX),
        Topic(ASSIGNMENTS, "contact", "days", "publish", RECORD_BYTES_MAX),
        Topic(DEAD_LETTERS, "source", "days", "publish", RECORD_BYTES_MAX),
    )
}


def partition_counts(contacts: int, workspaces: int) -> dict[str, int]:
    """The partition count of every topic, for P = ``contacts`` and W = ``workspaces``."""
    return {name: workspaces if topic.keyed_by == "workspace" else contacts for name, topic in TOPICS.items()}


def leader(existing: Mapping[str, int], *, by_workspace: bool) -> str | None:
    """Which of the topics that exist, with these partition counts, has as many as its kind should; None: none exists.

    Most have as many as it has; of two counts that are equally frequent, the log's is right: it cannot be made anew.
    """
    names = [
        topic.name
        for topic in sorted(TOPICS.values(), key=lambda topic: topic.keeps != "for ever")
        if (topic.keyed_by == "workspace") is by_workspace and topic.name in existing
    ]
    frequency = Counter(existing[name] for name in names)
    return max(names, key=lambda name: frequency[existing[name]], default=None)  # the first of several


def counts_among(existing: Mapping[str, int]) -> tuple[int | None, int | None]:
    """P and W of the topics that exist, with these partition counts; None where there is none of the kind."""
    leaders = (leader(existing, by_workspace=False), leader(existing, by_workspace=True))
    contacts, workspaces = (None if name is None else existing[name] for name in leaders)
    return contacts, workspaces


def batch_bytes_max(name: str) -> int:
    """The largest record batch that the topic takes on Kafka, its ``max.message.bytes``; writers stay below it.

    The public inputs take all that producers send unless told otherwise (1 MiB): librdkafka packs bursts into batches
    of that size and splits none that is refused; and an event over ``INPUT_BYTES_MAX`` is to be among the dead letters,
    where somebody sees it.
    """
    topic = TOPICS.get(name)
    if topic is not None and topic.written_by == "append":
        return LOG_BATCH_BYTES_MAX
    return RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX


def packed_bytes_max(name: str) -> int:
    """So large a batch of several records may be; one record alone may fill ``batch_bytes_max``.

    Public inputs that were made by an earlier version take no more than ``INPUT_BYTES_MAX``.
    """
    return INPUT_BYTES_MAX if name in (CONVERSATION_EVENTS, AGENT_EVENTS) else batch_bytes_max(name)


def murmur2(key: bytes) -> int:
    """Kafka's default partitioner's hash, as an unsigned 31-bit number (``toPositive(murmur2(key))``)."""
    size = len(key)
    m = 0x5BD1E995
    h = (0x9747B28C ^ size) & 0xFFFFFFFF
    whole = size & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * m & 0xFFFFFFFF
    return (h ^ (h >> 15)) & 0x7FFFFFFF


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition that a contact id or a workspace belongs on, as Kafka's default partitioner has it."""
    return murmur2(key.encode()) % partitions if partitions > 1 else 0
