"""Says in words what of Kafka's brokers and topics differs from what the promises need, why, and what mends it.

It only reads. An *error* makes a promise false or stops a lane: ``serve`` refuses to start. A *warning* makes it weaker
or shorter. A *note* says what a small or a default cluster cannot give; nothing is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from events.kafka.facts import ClusterFacts, TopicFacts, cluster_facts
from events.kafka.reach import admin_client
from events.kafka.settings import PREFIX, KafkaSettings, is_loopback
from events.kafka.topics import (
    DAY_MS,
    DEAD_LETTER_DAYS,
    DECOMPRESSED,
    INSYNC_MIN,
    MEND_UNEQUAL,
    REPLICATION,
    WHY_EQUAL,
    WantedTopic,
    unequal,
)
from events.kafka.topics import wanted_topic as wanted_of
from events.topics import (
    AGENT_EVENTS,
    CONVERSATION_EVENTS,
    DEAD_LETTERS,
    RECORD_BYTES_MAX,
    TOPICS,
    Topic,
    counts_among,
)

Severity: TypeAlias = Literal["error", "warning", "note"]


class Problem(Struct, frozen=True, kw_only=True):
    """Something that differs. ``str()`` is a sentence or three."""

    severity: Severity
    subject: str  #: a topic as the brokers call it, or "brokers"
    setting: str
    found: str
    wanted: str
    why: str
    mend: str  #: a command, or what to do

    def __str__(self) -> str:
        return f"{self.subject}: {self.setting} is {self.found}, not {self.wanted}: {self.why}. Mend it: {self.mend}"


async def problems(settings: KafkaSettings) -> list[Problem]:
    """What differs, errors first. Raises ``LogUnavailableError`` and ``LogError`` if nobody can say."""
    async with admin_client(settings) as admin:
        facts = await cluster_facts(admin, settings, list(TOPICS))
    return judged(facts, settings)


def judged(facts: ClusterFacts, settings: KafkaSettings) -> list[Problem]:
    """What differs in ``facts``, errors first."""
    found = [*_brokers(facts, settings), *_counts(facts, settings)]
    for topic in TOPICS.values():
        if topic.name in facts.topics:
            found.extend(_topic(topic, facts.topics[topic.name], facts, settings))
        else:
            found.append(_absent(topic, facts, settings))
    order: tuple[Severity, ...] = ("error", "warning", "note")
    return sorted(found, key=lambda problem: order.index(problem.severity))


# --- the brokers ---


def _brokers(facts: ClusterFacts, settings: KafkaSettings) -> Iterator[Problem]:
    if len(facts.brokers) < REPLICATION:
        yield Problem(
            severity="note",
            subject="brokers",
            setting="their number",
            found=str(len(facts.brokers)),
            wanted=f"{REPLICATION} or more",
            why="what one broker alone holds is lost with its disk",
            mend="run three brokers before anything depends on it, then give the topics three replicas",
        )
    foreign = [broker for broker in facts.brokers if not is_loopback(broker.host)]
    if foreign and not settings.encrypted and not settings.plaintext_allowed:
        yield Problem(
            severity="error",
            subject="brokers",
            setting="advertised.listeners",
            found=str(foreign[0]),
            wanted="an address of this machine, or TLS",
            why=f"{settings.security} to another machine can be read and changed on the way",
            mend=f"set {PREFIX}SECURITY to tls or sasl-tls, or {PREFIX}ALLOW_PLAINTEXT to 1 if the network is safe",
        )
    configs = facts.broker_configs
    if configs is None:
        yield _unread("brokers", "--cluster", settings, "what they allow cannot be checked")
        return
    if configs.get("auto.create.topics.enable") == "true":
        yield Problem(
            severity="note",
            subject="brokers",
            setting="auto.create.topics.enable",
            found="true",
            wanted="false",
            why="whoever mistypes a topic's name, or asks for one that was deleted, makes one with unfit settings",
            mend="set auto.create.topics.enable=false in the brokers' server.properties",
        )
    yield from _session(configs, settings)


def _session(configs: dict[str, str], settings: KafkaSettings) -> Iterator[Problem]:
    low, high = (int(configs.get(f"group.{word}.session.timeout.ms") or -1) for word in ("min", "max"))
    if low >= 0 and high >= 0 and not low <= settings.session_timeout_ms <= high:
        yield Problem(
            severity="error",
            subject="brokers",
            setting="group.min.session.timeout.ms and group.max.session.timeout.ms",
            found=f"{low} and {high}",
            wanted=f"around our {settings.session_timeout_ms}",
            why="no process could join its group",
            mend=f"set {PREFIX}SESSION_TIMEOUT to {-(-low // 1000)}s or more, up to {high // 1000}s",
        )


# --- how many partitions ---


def _counts(facts: ClusterFacts, settings: KafkaSettings) -> Iterator[Problem]:
    for topic, found, wanted in unequal(settings, facts.counts):
        yield Problem(
            severity="error",
            subject=topic,
            setting="the number of partitions",
            found=str(found),
            wanted=wanted,
            why=WHY_EQUAL,
            mend=MEND_UNEQUAL,
        )


# --- each topic ---


def _absent(topic: Topic, facts: ClusterFacts, settings: KafkaSettings) -> Problem:
    hidden = topic.name in facts.forbidden
    name = settings.topic(topic.name)
    return Problem(
        severity="warning" if hidden else "error",
        subject=name,
        setting="the topic",
        found="hidden from this user" if hidden else "missing",
        wanted="there",
        why="it cannot be checked" if hidden else "no role can work without it",
        mend=_allow(name, settings) if hidden else _create(facts, settings),
    )


def _create(facts: ClusterFacts, settings: KafkaSettings) -> str:
    """The command that makes what is missing, with the counts that the others have."""
    prefix = f" --topic-prefix {settings.topic_prefix}" if settings.topic_prefix else ""
    contacts, workspaces = counts_among(facts.counts)
    counts = f" --partitions {contacts}" if contacts else ""
    counts += f" --workspace-partitions {workspaces}" if workspaces else ""
    return f"vip-router topics create --log {_url(settings)}{prefix}{counts}"


def _topic(topic: Topic, found: TopicFacts, facts: ClusterFacts, settings: KafkaSettings) -> Iterator[Problem]:
    wanted = wanted_of(topic, partitions=found.partitions, brokers=len(facts.brokers))
    name = settings.topic(topic.name)
    if found.replication < wanted.replication:
        yield Problem(
            severity="warning",
            subject=name,
            setting="the number of replicas",
            found=str(found.replication),
            wanted=str(wanted.replication),
            why="what is acknowledged is lost with fewer disks than it need be",
            mend=f"kafka-reassign-partitions {_at(settings)} --execute with a plan that names "
            f"{wanted.replication} brokers for each partition of {name}",
        )
    if found.configs is None:
        yield _unread(name, f"--topic {name}", settings, "whether it keeps what the promises need cannot be checked")
        return
    for rule in _RULES:
        yield from rule(topic, found, wanted, settings)


def _differs(
    topic: Topic, setting: str, found: str, wanted: str, settings: KafkaSettings, severity: Severity, why: str
) -> Problem:
    name = settings.topic(topic.name)
    value = f"[{wanted}]" if "," in wanted else wanted
    return Problem(
        severity=severity,
        subject=name,
        setting=setting,
        found=found,
        wanted=wanted,
        why=why,
        mend=f"kafka-configs {_at(settings)} --alter --entity-type topics --entity-name {name} "
        f"--add-config {setting}={value}",
    )


def _unclean(topic: Topic, found: TopicFacts, wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    setting = "unclean.leader.election.enable"
    if _value(found, setting) != "false":
        why = "a leader that lacks acknowledged records may be elected, and they are lost"
        yield _differs(topic, setting, _value(found, setting), wanted.configs[setting], settings, "error", why)


def _insync(topic: Topic, found: TopicFacts, _wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    setting = "min.insync.replicas"
    count = _number(found, setting)
    if found.replication >= REPLICATION and count < INSYNC_MIN:
        why = "a record that one broker alone holds is acknowledged, and lost with it"
        yield _differs(topic, setting, str(count), str(INSYNC_MIN), settings, "error", why)
    elif count > max(1, found.replication - 1):
        fits = str(max(1, found.replication - 1))
        severity: Severity = "error" if count > found.replication else "warning"
        why = "nothing can be written while one broker is away" if count <= found.replication else "nothing is written"
        yield _differs(topic, setting, str(count), fits, settings, severity, why)


def _timestamps(topic: Topic, found: TopicFacts, wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    setting = "message.timestamp.type"
    if _value(found, setting) != wanted.configs[setting]:
        is_log = topic.written_by == "append"
        why = (
            "a lane could not tell its own clock's error from the broker's"
            if is_log
            else "retention goes by the writers' clocks: what a wrong one wrote goes too early or never"
        )
        severity: Severity = "error" if is_log else "warning"
        yield _differs(topic, setting, _value(found, setting), wanted.configs[setting], settings, severity, why)


def _keeps(topic: Topic, found: TopicFacts, wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    setting = "cleanup.policy"
    policy = _value(found, setting)
    if policy != wanted.configs[setting]:
        why = {
            "for ever": "compaction takes records out of the log, and the log is the truth",
            "compacted": "a snapshot that is deleted while others build on it is missing from the state",
            "days": "inputs and outputs share keys: compaction takes those away that are not read yet",
        }[topic.keeps]
        yield _differs(topic, setting, policy, wanted.configs[setting], settings, "error", why)


def _retention(topic: Topic, found: TopicFacts, _wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    if topic.keeps == "compacted":
        return
    kept_ms, kept_bytes = _number(found, "retention.ms"), _number(found, "retention.bytes")
    if topic.keeps == "for ever":
        for setting, kept in (("retention.ms", kept_ms), ("retention.bytes", kept_bytes)):
            if kept != -1:
                why = "old records of the log are deleted, and the log is the truth"
                yield _differs(topic, setting, str(kept), "-1", settings, "error", why)
        return
    days = DEAD_LETTER_DAYS if topic.name == DEAD_LETTERS else 1
    if 0 <= kept_ms < days * DAY_MS:
        why = "what is not read in time is deleted, and a position below the start stops the lane"
        yield _differs(topic, "retention.ms", str(kept_ms), str(days * DAY_MS), settings, "warning", why)
    if kept_bytes != -1:
        why = "a burst deletes what is not read yet"
        yield _differs(topic, "retention.bytes", str(kept_bytes), "-1", settings, "warning", why)


def _sizes(topic: Topic, found: TopicFacts, wanted: WantedTopic, settings: KafkaSettings) -> Iterator[Problem]:
    setting = "max.message.bytes"
    size, needed = _number(found, setting), int(wanted.configs[setting])
    public = topic.name in (CONVERSATION_EVENTS, AGENT_EVENTS)
    if size < needed and not public:
        why = "the brokers refuse what a lane has to write, and the lane stands still"
        yield _differs(topic, setting, str(size), str(needed), settings, "error", why)
    elif size < needed:
        why = "larger events are refused, and bursts of producers that pack larger batches (librdkafka: 1 MB)"
        severity: Severity = "warning" if size < RECORD_BYTES_MAX else "note"
        yield _differs(topic, setting, str(size), str(needed), settings, severity, why)
    elif size > needed and public:
        why = "whoever may write there can fill memory and disk with what becomes dead letters"
        yield _differs(topic, setting, str(size), str(needed), settings, "warning", why)
    if found.configs is not None and DECOMPRESSED in found.configs:
        unpacked, limit = _number(found, DECOMPRESSED), int(wanted.configs[DECOMPRESSED])
        if unpacked > limit:
            why = "a small batch can unpack to gigabytes in every reader"
            yield _differs(topic, DECOMPRESSED, str(unpacked), str(limit), settings, "warning", why)


_Rule: TypeAlias = Callable[[Topic, TopicFacts, WantedTopic, KafkaSettings], Iterator[Problem]]
_RULES: Final[tuple[_Rule, ...]] = (_unclean, _insync, _timestamps, _keeps, _retention, _sizes)


# --- words ---


def _unread(subject: str, option: str, settings: KafkaSettings, why: str) -> Problem:
    return Problem(
        severity="warning",
        subject=subject,
        setting="the configuration",
        found="hidden from this user",
        wanted="readable",
        why=why,
        mend=_allow(option.removeprefix("--topic "), settings)
        if option.startswith("--topic")
        else (f"kafka-acls {_at(settings)} --add --allow-principal User:NAME --operation DescribeConfigs --cluster"),
    )


def _allow(topic: str, settings: KafkaSettings) -> str:
    return (
        f"kafka-acls {_at(settings)} --add --allow-principal User:NAME "
        f"--operation Describe --operation DescribeConfigs --topic {topic}"
    )


def _at(settings: KafkaSettings) -> str:
    """Where Kafka's tools find the brokers, and the file that tells them how to log in."""
    secured = "" if settings.security == "plaintext" else " --command-config client.properties"
    return f"--bootstrap-server {_servers(settings)}{secured}"


def _servers(settings: KafkaSettings) -> str:
    return ",".join(map(str, settings.brokers))


def _url(settings: KafkaSettings) -> str:
    return f"kafka://{_servers(settings)}"


def _value(found: TopicFacts, setting: str) -> str:
    assert found.configs is not None
    return found.configs.get(setting, "unknown")


def _number(found: TopicFacts, setting: str) -> int:
    return int(_value(found, setting))
