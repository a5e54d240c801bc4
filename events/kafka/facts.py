"""What Kafka's brokers say of themselves and of our topics: brokers, partitions, configuration.

aiokafka's admin client hands back bare responses with error codes in them; here they become facts or errors. What the
facts are worth is ``events/kafka/check.py``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from msgspec import Struct

from events.kafka.settings import Broker, KafkaSettings
from events.log import LogError

_UNKNOWN_TOPIC: Final = 3
_FORBIDDEN: Final = (29, 31)  #: topic, cluster authorization failed


class TopicFacts(Struct, frozen=True, kw_only=True):
    """A topic that exists."""

    partitions: int
    replication: int  #: of the partition that has the fewest replicas
    configs: dict[str, str] | None  #: as they count, whoever set them; None: we may not read them


class ClusterFacts(Struct, frozen=True, kw_only=True):
    """The brokers, and those of our topics that exist, by their names without prefix."""

    brokers: tuple[Broker, ...]  #: as they advertise themselves
    broker_configs: dict[str, str] | None  #: of one broker; None: we may not read them
    topics: dict[str, TopicFacts]
    forbidden: tuple[str, ...]  #: topics that we may not even see

    @property
    def counts(self) -> dict[str, int]:
        """How many partitions each topic has."""
        return {name: topic.partitions for name, topic in self.topics.items()}


async def cluster_facts(admin: AIOKafkaAdminClient, settings: KafkaSettings, names: Sequence[str]) -> ClusterFacts:
    """Ask for the brokers and for the topics ``names``; raises ``LogError`` for an answer that cannot be used."""
    cluster = await admin.describe_cluster()
    brokers = tuple(Broker(each["host"], each["port"]) for each in cluster["brokers"])
    described = {
        settings.name_of(each["topic"]): each
        for each in await admin.describe_topics([settings.topic(n) for n in names])
    }
    seen = [name for name in names if described[name]["error_code"] == 0]
    configs = await _topic_configs(admin, settings, seen)
    first = next((each["node_id"] for each in cluster["brokers"]), None)
    return ClusterFacts(
        brokers=brokers,
        broker_configs=None if first is None else await _broker_configs(admin, first),
        topics={name: _topic(described[name], configs[name]) for name in seen},
        forbidden=tuple(name for name in names if _is_forbidden(described[name]["error_code"], name)),
    )


def _topic(described: dict[str, Any], configs: dict[str, str] | None) -> TopicFacts:
    partitions = described["partitions"]
    return TopicFacts(
        partitions=len(partitions),
        replication=min((len(each["replicas"]) for each in partitions), default=0),
        configs=configs,
    )


async def _topic_configs(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, names: Sequence[str]
) -> dict[str, dict[str, str] | None]:
    if not names:
        return {}
    wanted = [ConfigResource(ConfigResourceType.TOPIC, settings.topic(name)) for name in names]
    found: dict[str, dict[str, str] | None] = {}
    for response in await admin.describe_configs(wanted, include_synonyms=False):
        for code, _message, _kind, topic, entries in (resource[:5] for resource in response.resources):
            name = settings.name_of(topic)
            found[name] = None if _is_forbidden(code, name) else {entry[0]: entry[1] or "" for entry in entries}
    return found


async def _broker_configs(admin: AIOKafkaAdminClient, node_id: int) -> dict[str, str] | None:
    wanted = [ConfigResource(ConfigResourceType.BROKER, str(node_id))]
    [response] = await admin.describe_configs(wanted, include_synonyms=False)
    [(code, _message, _kind, _name, entries)] = (resource[:5] for resource in response.resources)
    return None if _is_forbidden(code, "the brokers") else {entry[0]: entry[1] or "" for entry in entries}


def _is_forbidden(code: int, what: str) -> bool:
    """Whether an error code says that we may not look; any other than "unknown" raises ``LogError``."""
    if code in (0, _UNKNOWN_TOPIC):
        return False
    if code in _FORBIDDEN:
        return True
    raise LogError(f"Kafka will not describe {what} ({errors.for_code(code).__name__}): try again, see its own log")
