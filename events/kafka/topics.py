"""The topics as Kafka is to keep them: partitions, replication and settings; and makes those that are missing.

What the design's table says of a topic stands in ``events/topics.py``; this is what it means to a broker.
``deploy/topics.toml`` shows the same as data; a test holds them equal. What exists is never changed here:
``events/kafka/check.py`` says what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from msgspec import Struct, structs

from events.adapter import check_partitions
from events.kafka.facts import cluster_facts
from events.kafka.reach import admin_client
from events.kafka.settings import KafkaSettings
from events.log import LogError
from events.topics import DEAD_LETTERS, TOPICS, Topic, batch_bytes_max, leader

REPLICATION: Final = 3  #: where there are as many brokers
INSYNC_MIN: Final = 2  #: of them; what fewer have is not acknowledged
RETENTION_DAYS: Final = 7  #: of inputs and outputs: how long a consumer of theirs may be away
RETENTION_DAYS_MAX: Final = 3_650
DEAD_LETTER_DAYS: Final = 30
DECOMPRESSED_BYTES_MAX: Final = 4 * 1024 * 1024  #: of a batch; above librdkafka's largest, which packs well
DECOMPRESSED: Final = "max.decompressed.message.bytes"  #: since Kafka 4.2.2
DAY_MS: Final = 86_400_000
WHY_EQUAL: Final = "a contact's or workspace's records would meet on different partitions; no lane starts"
MEND_UNEQUAL: Final = (
    "counts cannot be mended: stop all producers and roles, make the topics anew under another --topic-prefix, and "
    "publish what was not worked there again"
)

_MIB: Final = 1024 * 1024
_ALREADY_EXISTS: Final = 36
_FORBIDDEN: Final = (29, 31)


class WantedTopic(Struct, frozen=True, kw_only=True):
    """A topic as it should be."""

    name: str  #: without the prefix
    partitions: int
    replication: int
    configs: dict[str, str]


class Unequal(NamedTuple):
    """A topic with another number of partitions than those that its records meet."""

    topic: str  #: as the brokers call it
    found: int
    wanted: str  #: how many, and which topic has as many

    def __str__(self) -> str:
        return (
            f"{self.topic}: the number of partitions is {self.found}, not {self.wanted}: {WHY_EQUAL}. "
            f"Mend it: {MEND_UNEQUAL}"
        )


class Created(Struct, frozen=True, kw_only=True):
    """What ``create`` did, or would do."""

    brokers: int
    made: tuple[WantedTopic, ...]
    existed: tuple[str, ...]


def wanted_topic(topic: Topic, *, partitions: int, brokers: int, retention_days: int = RETENTION_DAYS) -> WantedTopic:
    """How ``brokers`` brokers should keep ``topic``; with fewer than three there are as many copies as brokers."""
    replication = min(REPLICATION, brokers)
    common = {
        "message.timestamp.type": "LogAppendTime",  # retention and clock checks go by one clock, the brokers'
        "min.insync.replicas": str(INSYNC_MIN if replication == REPLICATION else 1),
        "unclean.leader.election.enable": "false",  # a leader that lacks acknowledged records would lose them
        "max.message.bytes": str(batch_bytes_max(topic.name)),
        DECOMPRESSED: str(DECOMPRESSED_BYTES_MAX),
    }
    return WantedTopic(
        name=topic.name,
        partitions=partitions,
        replication=replication,
        configs=common | _keeping(topic, retention_days),
    )


def wanted_topics(
    partitions: Mapping[str, int], *, brokers: int, retention_days: int = RETENTION_DAYS
) -> tuple[WantedTopic, ...]:
    """All topics of ``partitions``, in the design's order; ``ValueError`` for a count or days that cannot be meant."""
    if not 1 <= retention_days <= RETENTION_DAYS_MAX:
        raise ValueError(f"--retention-days: {retention_days} is not between 1 and {RETENTION_DAYS_MAX:,}")
    for name, count in partitions.items():
        check_partitions(name, count)
    return tuple(
        wanted_topic(topic, partitions=partitions[name], brokers=brokers, retention_days=retention_days)
        for name, topic in TOPICS.items()
        if name in partitions
    )


def unequal(settings: KafkaSettings, existing: Mapping[str, int]) -> Iterator[Unequal]:
    """Which of the topics that exist, with these partition counts, have not as many as most of their kind."""
    for by_workspace in (False, True):
        right = leader(existing, by_workspace=by_workspace)
        for name, topic in TOPICS.items():
            if (topic.keyed_by == "workspace") is not by_workspace or right is None or name not in existing:
                continue
            if existing[name] != existing[right]:
                yield Unequal(settings.topic(name), existing[name], f"{existing[right]} as {settings.topic(right)} has")


async def create(
    settings: KafkaSettings,
    partitions: Mapping[str, int],
    *,
    retention_days: int = RETENTION_DAYS,
    dry_run: bool = False,
) -> Created:
    """Make the topics of ``partitions`` that do not exist; ``dry_run``: the brokers only say whether they would.

    Raises ``ValueError`` for a count that cannot be meant, ``LogError`` if topics exist with unequal or other partition
    counts (nothing was made) or a broker refuses, and ``LogUnavailableError``. Others may make the same topics
    meanwhile.
    """
    async with admin_client(settings) as admin:
        facts = await cluster_facts(admin, settings, list(partitions))
        wanted = wanted_topics(partitions, brokers=len(facts.brokers), retention_days=retention_days)
        differs = next(unequal(settings, facts.counts), None)
        if differs is not None:
            raise LogError(str(differs))
        for topic in wanted:
            _check_count(settings, topic, facts.topics[topic.name].partitions if topic.name in facts.topics else None)
        missing = [topic for topic in wanted if topic.name not in facts.topics]
        if facts.broker_configs is not None and DECOMPRESSED not in facts.broker_configs:
            missing = [_without_decompressed(topic) for topic in missing]
        await _make(admin, settings, missing, dry_run=dry_run)
    return Created(brokers=len(facts.brokers), made=tuple(missing), existed=tuple(facts.topics))


async def existing_counts(settings: KafkaSettings) -> dict[str, int]:
    """The partition counts of those of our topics that exist. Raises ``LogUnavailableError`` and ``LogError``."""
    async with admin_client(settings) as admin:
        facts = await cluster_facts(admin, settings, list(TOPICS))
    return facts.counts


def _keeping(topic: Topic, retention_days: int) -> dict[str, str]:
    if topic.keeps == "for ever":
        return {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "segment.bytes": str(1024 * _MIB),
        }
    if topic.keeps == "compacted":
        return {
            "cleanup.policy": "compact",
            "segment.bytes": str(64 * _MIB),  # only closed segments are compacted
            "max.compaction.lag.ms": str(7 * DAY_MS),  # what was overwritten or erased is gone after a week
        }
    days = DEAD_LETTER_DAYS if topic.name == DEAD_LETTERS else retention_days
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS),
        "retention.bytes": "-1",
        "segment.bytes": str(256 * _MIB),
    }


def _check_count(settings: KafkaSettings, topic: WantedTopic, existing: int | None) -> None:
    if existing is not None and existing != topic.partitions:
        raise LogError(
            f"topic {settings.topic(topic.name)} exists with {existing} partitions, not {topic.partitions}: counts are "
            f"fixed when topics are made; ask for {existing}, or use another --topic-prefix"
        )


def _without_decompressed(topic: WantedTopic) -> WantedTopic:
    configs = {name: value for name, value in topic.configs.items() if name != DECOMPRESSED}
    return structs.replace(topic, configs=configs)


async def _make(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, topics: Sequence[WantedTopic], *, dry_run: bool
) -> None:
    if not topics:
        return
    response = await admin.create_topics(
        [
            NewTopic(
                name=settings.topic(topic.name),
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                topic_configs=topic.configs,
            )
            for topic in topics
        ],
        timeout_ms=settings.request_timeout_ms,
        validate_only=dry_run,
    )
    for topic, code, message in (error[:3] for error in response.topic_errors):  # it raises nothing by itself
        if code not in (0, _ALREADY_EXISTS):
            raise LogError(_refusal(topic, code, message))


def _refusal(topic: str, code: int, message: str | None) -> str:
    if code in _FORBIDDEN:
        return f"topic {topic} cannot be made: allow this user Create on it, or let an operator make the topics"
    return f"topic {topic} cannot be made ({message or for_code(code).__name__}): mend that, then create again"
