"""What of a cluster is judged unfit, how badly, and with which words; and the tables that ``deploy`` shows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from consumers.lane_spec import LaneLimits
from events.kafka.acls import ROLES, Rights, acls, commands
from events.kafka.check import Problem, judged
from events.kafka.facts import ClusterFacts, TopicFacts
from events.kafka.settings import Broker, KafkaSettings, kafka_settings
from events.kafka.topics import DECOMPRESSED, unequal, wanted_topics
from events.topics import (
    DEAD_LETTERS,
    INPUT_BYTES_MAX,
    LOG_BATCH_BYTES_MAX,
    RECORD_BYTES_MAX,
    TOPICS,
    batch_bytes_max,
    counts_among,
    packed_bytes_max,
    partition_counts,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
HERE = kafka_settings("kafka://localhost:9092", {})
LOGS = [name for name, topic in TOPICS.items() if topic.written_by == "append"]
OTHERS = [name for name in TOPICS if name not in LOGS]
BROKER_CONFIGS = {
    "auto.create.topics.enable": "false",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
}


def brokers(count: int, host: str = "localhost") -> tuple[Broker, ...]:
    return tuple(Broker(host, 9092 + number) for number in range(count))


def sound(count: int = 3, **changes: object) -> ClusterFacts:
    """A cluster of ``count`` brokers on which ``topics create`` has run."""
    facts = ClusterFacts(
        brokers=brokers(count),
        broker_configs=BROKER_CONFIGS,
        topics={
            wanted.name: TopicFacts(
                partitions=wanted.partitions, replication=wanted.replication, configs=dict(wanted.configs)
            )
            for wanted in wanted_topics(partition_counts(4, 1), brokers=count)
        },
        forbidden=(),
    )
    return msgspec.structs.replace(facts, **changes)


def changed(name: str, setting: str, value: str, *, count: int = 3) -> list[Problem]:
    """What is found when one setting of one topic is another."""
    facts = sound(count)
    configs = facts.topics[name].configs
    assert configs is not None
    assert setting in configs
    configs[setting] = value
    return judged(facts, HERE)


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_what_create_makes_is_sound():
    """On three brokers nothing differs; on one or two only their number is noted."""
    assert judged(sound(3), HERE) == []
    assert judged(sound(7), HERE) == []
    for count in (1, 2):
        note = only(judged(sound(count), HERE))
        assert (note.severity, note.subject, note.found) == ("note", "brokers", str(count))


@pytest.mark.parametrize(
    ("names", "setting", "value", "severity"),
    [
        (list(TOPICS), "unclean.leader.election.enable", "true", "error"),
        (list(TOPICS), "min.insync.replicas", "1", "error"),
        (list(TOPICS), "min.insync.replicas", "3", "warning"),
        (list(TOPICS), "min.insync.replicas", "4", "error"),
        (LOGS, "message.timestamp.type", "CreateTime", "error"),
        (OTHERS, "message.timestamp.type", "CreateTime", "warning"),
        (LOGS, "cleanup.policy", "compact", "error"),
        (LOGS, "cleanup.policy", "compact,delete", "error"),
        (LOGS, "retention.ms", "604800000", "error"),
        (LOGS, "retention.bytes", "1000000000", "error"),
        (LOGS, "max.message.bytes", "1048588", "error"),
        (["routing.snapshots", "assignments.snapshots"], "cleanup.policy", "delete", "error"),
        (["conversations.events", "assignments"], "cleanup.policy", "compact", "error"),
        (["conversations.events", "assignments"], "retention.ms", "3600000", "warning"),
        (["conversations.events", "assignments"], "retention.bytes", "1000", "warning"),
        ([DEAD_LETTERS], "retention.ms", "604800000", "warning"),
        (["conversations.events", "agents.events"], "max.message.bytes", "262144", "warning"),  # earlier versions
        (["conversations.events", "agents.events"], "max.message.bytes", "1000000", "warning"),  # librdkafka's batches
        (["conversations.events", "agents.events"], "max.message.bytes", "1048588", "note"),  # Kafka's own default
        (["conversations.events", "agents.events"], "max.message.bytes", "16777216", "warning"),
        (["conversations.events", "agents.events"], "max.message.bytes", "100000", "warning"),
        (["crm.answers", "assignment.requests", DEAD_LETTERS], "max.message.bytes", "1048576", "error"),
        (list(TOPICS), DECOMPRESSED, "2147483639", "warning"),
    ],
)
def test_a_setting_that_differs_is_found(names: list[str], setting: str, value: str, severity: str):
    """It is found alone, with its severity, and the command that mends it sets what ``create`` would have set."""
    for name in names:
        problem = only(changed(name, setting, value))
        assert (problem.severity, problem.subject, problem.setting, problem.found) == (severity, name, setting, value)
        assert problem.mend.startswith("kafka-configs --bootstrap-server localhost:9092 --alter --entity-type topics")
        assert problem.mend.endswith(f"--entity-name {name} --add-config {setting}={problem.wanted}")
        assert changed(name, setting, problem.wanted) == []


@pytest.mark.parametrize("value", ["-1", "86400000", "2592000000"])
def test_inputs_may_be_kept_for_as_long_as_one_likes(value: str):
    """From one day on, retention is the operator's choice."""
    assert changed("conversations.events", "retention.ms", value) == []


def test_one_broker_may_acknowledge_alone():
    """Where there are no three copies, min.insync.replicas 1 is all that there can be."""
    assert [each.severity for each in judged(sound(2), HERE)] == ["note"]
    assert [each.severity for each in changed("routing.log", "min.insync.replicas", "2", count=2)] == [
        "warning",
        "note",
    ]


LIKE = {"routing.log": "conversations.events has", "assignments.log": "agents.events has"}


@pytest.mark.parametrize("name", list(TOPICS))
def test_unequal_counts_are_found(name: str):
    """Topics that are read together need the same number of partitions; the one that differs is named, no other."""
    facts = sound()
    facts.topics[name] = msgspec.structs.replace(facts.topics[name], partitions=6)
    found = [each for each in judged(facts, HERE) if each.setting == "the number of partitions"]
    assert {each.severity for each in found} == {"error"}
    assert [each.subject for each in found] == [name]
    assert found[0].wanted == ("1 as " if TOPICS[name].keyed_by == "workspace" else "4 as ") + LIKE.get(
        name, "assignments.log has" if TOPICS[name].keyed_by == "workspace" else "routing.log has"
    )


def test_of_two_counts_that_are_equally_frequent_the_logs_is_right():
    """A log cannot be made anew."""
    existing = {"conversations.events": 3, "routing.log": 2, "agents.events": 5}
    assert [str(each).partition(":")[0] for each in unequal(HERE, existing)] == ["conversations.events"]
    assert counts_among(existing) == (2, 5)
    assert counts_among({"assignments.log": 7}) == (None, 7)


def test_a_missing_topic_is_an_error():
    """It names the command that makes it, with prefix and the counts that the others have."""
    settings = kafka_settings("kafka://localhost", {}, topic_prefix="blue.")
    facts = sound()
    del facts.topics["crm.answers"]
    problem = only(judged(facts, settings))
    assert (problem.severity, problem.subject, problem.found) == ("error", "blue.crm.answers", "missing")
    command = "vip-router topics create --log kafka://localhost:9092 --topic-prefix blue."
    assert problem.mend == f"{command} --partitions 4 --workspace-partitions 1"
    facts.topics.clear()
    assert {each.mend for each in judged(facts, settings) if each.found == "missing"} == {command}


def test_what_may_not_be_seen_is_no_all_clear():
    """A topic, its settings or the brokers' that are hidden from us are warnings that name the permission."""
    facts = sound(broker_configs=None, forbidden=("crm.answers",))
    del facts.topics["crm.answers"]
    facts.topics["routing.log"] = msgspec.structs.replace(facts.topics["routing.log"], configs=None)
    found = judged(facts, HERE)
    assert {each.severity for each in found} == {"warning"}
    assert {each.subject for each in found} == {"brokers", "crm.answers", "routing.log"}
    assert all("kafka-acls" in each.mend and "DescribeConfigs" in each.mend for each in found)


def test_too_few_copies_are_found():
    facts = sound()
    configs = {**(facts.topics["routing.log"].configs or {}), "min.insync.replicas": "1"}
    facts.topics["routing.log"] = TopicFacts(partitions=4, replication=1, configs=configs)
    problem = only(judged(facts, HERE))
    assert (problem.severity, problem.setting, problem.found, problem.wanted) == (
        "warning",
        "the number of replicas",
        "1",
        "3",
    )


def test_brokers_that_send_us_elsewhere_in_plaintext():
    """A broker on this machine may advertise another: what is allowed to loopback is not allowed there."""
    facts = sound(brokers=brokers(3, "kafka.example.com"))
    problem = only(judged(facts, HERE))
    assert (problem.severity, problem.setting) == ("error", "advertised.listeners")
    allowed = kafka_settings("kafka://localhost", {"VIP_ROUTER_KAFKA_ALLOW_PLAINTEXT": "1"})
    assert judged(facts, allowed) == []
    assert judged(facts, kafka_settings("kafka://localhost", {"VIP_ROUTER_KAFKA_SECURITY": "tls"})) == []


def test_a_session_that_the_brokers_refuse():
    settings: KafkaSettings = msgspec.structs.replace(HERE, session_timeout_ms=3_000)
    problem = only(judged(sound(), settings))
    assert problem.severity == "error"
    assert problem.mend == "set VIP_ROUTER_KAFKA_SESSION_TIMEOUT to 6s or more, up to 1800s"


def test_topics_that_make_themselves_are_noted():
    problem = only(judged(sound(broker_configs={**BROKER_CONFIGS, "auto.create.topics.enable": "true"}), HERE))
    assert (problem.severity, problem.setting) == ("note", "auto.create.topics.enable")


def test_commands_for_brokers_with_a_login_name_its_file():
    """Kafka's own tools take how to log in from a file; a command without it would only wait."""
    login = {"SECURITY": "sasl-tls", "USERNAME": "operator", "PASSWORD": "not-shown"}
    settings = kafka_settings("kafka://far", {f"VIP_ROUTER_KAFKA_{name}": value for name, value in login.items()})
    facts = sound()
    configs = facts.topics["routing.log"].configs
    assert configs is not None
    configs["retention.ms"] = "1000"
    lines = [only(judged(facts, settings)).mend, *list(commands(settings, {"crm": "User:crm"}))[1:]]
    assert len(lines) > 3
    assert all(" --bootstrap-server far:9092 --command-config client.properties " in line for line in lines)
    assert "not-shown" not in "".join(lines)


def test_errors_come_first():
    facts = sound(1)
    for name in ("dead-letters", "routing.log"):
        configs = facts.topics[name].configs
        assert configs is not None
        configs["message.timestamp.type"] = "CreateTime"
    assert [each.severity for each in judged(facts, HERE)] == ["error", "warning", "note"]


# --- sizes ---


def test_an_append_fits_into_its_topic():
    """A lane's largest append, with what a batch, its records and the adapter's headers add, is below the limit."""
    record_bytes_min, added_bytes = 500, 300  # the smallest record of a log has more; headers and lengths have fewer
    largest = LaneLimits().append_bytes_max
    assert largest + largest // record_bytes_min * added_bytes < LOG_BATCH_BYTES_MAX
    assert all(batch_bytes_max(name) == LOG_BATCH_BYTES_MAX for name in LOGS)


def test_one_record_fits_into_its_topic():
    """With room for the batch around it, and, in a public input, for what producers send unless told otherwise."""
    kafka_default_bytes = 1024 * 1024 + 12
    for name, topic in TOPICS.items():
        assert batch_bytes_max(name) > RECORD_BYTES_MAX >= topic.record_bytes_max
        assert batch_bytes_max(name) > kafka_default_bytes
    assert packed_bytes_max("agents.events") == INPUT_BYTES_MAX, "what earlier versions made takes no more"


# --- the tables in deploy ---


def test_the_topics_in_deploy_are_these():
    """``deploy/topics.toml`` says what ``topics create`` makes on three brokers."""
    shown = tomllib.loads((DEPLOY / "topics.toml").read_text())["topics"]
    made = {
        wanted.name: {
            "keyed_by": TOPICS[wanted.name].keyed_by,
            "partitions": wanted.partitions,
            "replication": wanted.replication,
            "configs": wanted.configs,
        }
        for wanted in wanted_topics(partition_counts(4, 1), brokers=3)
    }
    assert list(shown) == list(made)
    assert shown == made


def test_the_permissions_in_deploy_are_these():
    """``deploy/acls.toml`` says what ``topics acls`` prints."""
    shown = tomllib.loads((DEPLOY / "acls.toml").read_text())
    assert msgspec.convert(shown, dict[str, Rights]) == ROLES
    assert {key for rights in shown.values() for key in rights} <= set(Rights.__struct_fields__)


def test_each_log_has_one_writer():
    """What P1 rests on, and what the design's table says of the internal topics."""
    writers = {name: {role for role, rights in ROLES.items() if name in rights.write} for name in TOPICS}
    assert writers["routing.log"] == writers["routing.snapshots"] == writers["assignment.requests"] == {"router"}
    assert writers["conversations.replies"] == {"router"}
    assert writers["assignments.log"] == writers["assignments.snapshots"] == writers["assignments"] == {"assigner"}
    assert writers["crm.answers"] == {"crm"}
    assert writers["dead-letters"] == {"router", "crm", "assigner"}
    assert writers["conversations.events"] == {"producer", "router", "operator"}
    assert writers["agents.events"] == {"producer", "assigner", "operator"}


def test_commands_and_permissions_say_the_same():
    """Taking the printed commands apart gives exactly the permissions, prefix included."""
    settings = kafka_settings("kafka://localhost", {}, topic_prefix="blue.")
    principals = {role: f"User:{role}" for role in ROLES}
    from_commands = set()
    for line in commands(settings, principals):
        if line.startswith("#"):
            continue
        assert line.startswith("kafka-acls --bootstrap-server localhost:9092 --add --allow-principal User:")
        words = re.findall(r"--(\S+)(?: (?!--)(\S+))?", line)
        principal = next(value for name, value in words if name == "allow-principal")
        prefixed = ("resource-pattern-type", "prefixed") in words
        named = [(kind, value) for kind, value in words if kind in ("topic", "group")] or [("cluster", "kafka-cluster")]
        from_commands |= {
            (principal, kind, name, prefixed, value)
            for kind, name in named
            for key, value in words
            if key == "operation"
        }
    assert from_commands == {each[1:] for each in acls("blue.", principals)}
    assert len(acls("blue.", principals)) == len(set(acls("blue.", principals)))
    assert all(each.name.startswith("blue.") for each in acls("blue.", principals) if each.resource != "cluster")
