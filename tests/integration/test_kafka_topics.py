"""``vip-router topics`` on real brokers: what it makes, what it finds, and how it ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from events.kafka.check import problems
from events.kafka.facts import TopicFacts, cluster_facts
from events.kafka.reach import admin_client
from events.kafka.settings import KafkaSettings, kafka_settings
from events.kafka.topics import create, existing_counts, wanted_topics
from events.log import LogError
from events.topics import (
    AGENT_EVENTS,
    CONVERSATION_EVENTS,
    INPUT_BYTES_MAX,
    LOG_BATCH_BYTES_MAX,
    TOPICS,
    batch_bytes_max,
    partition_counts,
)
from tests.brokers.cluster import Cluster
from tests.brokers.fixtures import fresh
from tests.clients import librdkafka
from tests.clients.wire import Wire
from tests.processes import policy_text, run

pytestmark = pytest.mark.on_processes


def at(cluster: Cluster) -> KafkaSettings:
    """Settings with a prefix that no other test has."""
    return kafka_settings(f"kafka://{cluster.bootstrap}", {}, topic_prefix=f"{fresh('topics')}.")


def where(settings: KafkaSettings) -> tuple[str, ...]:
    """The same as options of a command."""
    servers = ",".join(map(str, settings.brokers))
    return ("--log", f"kafka://{servers}", "--topic-prefix", settings.topic_prefix)


async def topics_of(settings: KafkaSettings) -> Mapping[str, TopicFacts]:
    async with admin_client(settings) as admin:
        return (await cluster_facts(admin, settings, list(TOPICS))).topics


async def set_config(settings: KafkaSettings, name: str, **configs: str) -> None:
    """Set these, and what else was set on the topic falls back to the brokers' defaults: Kafka's old API has it so."""
    dotted = {key.replace("_", "."): value for key, value in configs.items()}
    async with admin_client(settings) as admin:
        [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic(name), dotted)])
        assert [resource[0] for resource in answer.resources] == [0]


def test_three_brokers_get_three_copies(kafka3: Cluster, tmp_path: Path):
    """``create`` makes all topics with the settings that it prints; ``check`` then has nothing to say."""
    settings = at(kafka3)
    made = run("topics", "create", *where(settings), "--partitions", "6", "--json", cwd=tmp_path)
    assert (made.code, made.err) == (0, "")
    [said] = made.events
    assert (said["brokers"], said["existed"]) == (3, [])
    counts = {settings.topic(name): count for name, count in partition_counts(6, 1).items()}
    assert {topic["name"]: topic["partitions"] for topic in said["made"]} == counts
    assert {topic["replication"] for topic in said["made"]} == {3}
    assert {topic["configs"]["min.insync.replicas"] for topic in said["made"]} == {"2"}
    checked = run("topics", "check", *where(settings), cwd=tmp_path)
    assert (checked.code, checked.out) == (0, "Nothing differs from what the promises need.\n")


async def test_a_burst_of_a_client_that_packs_large_batches_is_taken(kafka: Cluster):
    """It packs up to 1 MB (librdkafka does) and splits nothing: a topic for one event refuses all."""
    settings = at(kafka)
    await create(settings, partition_counts(1, 1))
    burst = [Wire(f"c{number}", "x" * 500, ()) for number in range(10_000)]
    for topic in (CONVERSATION_EVENTS, AGENT_EVENTS):
        librdkafka.produce(kafka.bootstrap, settings.topic(topic), burst)
    await set_config(settings, CONVERSATION_EVENTS, max_message_bytes=str(INPUT_BYTES_MAX))
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        librdkafka.produce(kafka.bootstrap, settings.topic(CONVERSATION_EVENTS), burst)


async def test_the_brokers_have_what_was_asked(kafka3: Cluster):
    """Each setting is in force as wanted, read back from the brokers."""
    settings = at(kafka3)
    await create(settings, partition_counts(3, 2))
    facts = await topics_of(settings)
    for wanted in wanted_topics(partition_counts(3, 2), brokers=3):
        found = facts[wanted.name]
        assert (found.partitions, found.replication) == (wanted.partitions, 3)
        assert found.configs is not None
        assert {name: found.configs[name] for name in wanted.configs} == wanted.configs


def test_one_broker_is_said_in_words(kafka: Cluster, tmp_path: Path):
    """Fewer brokers give fewer copies; both commands say what that means, and it is no failure."""
    settings = at(kafka)
    made = run("topics", "create", *where(settings), cwd=tmp_path)
    assert made.code == 0
    assert "11 topics made, 0 existed" in made.out
    assert "what is acknowledged can be lost with a disk. Good for trying out only." in made.out
    assert f"{settings.topic('routing.log')}: 4 partitions, 1 replica\n" in made.out
    checked = run("topics", "check", *where(settings), cwd=tmp_path)
    assert checked.code == 0
    assert "note: brokers: their number is 1, not 3 or more" in checked.out
    assert "Nothing differs" in checked.out


async def test_a_second_create_changes_nothing(kafka: Cluster, tmp_path: Path):
    """What exists stays as it is, its partition counts are taken over, and only what is missing is made."""
    settings = at(kafka)
    counts = partition_counts(5, 2)
    await create(settings, {name: count for name, count in counts.items() if name != "crm.answers"})
    again = run("topics", "create", *where(settings), "--json", cwd=tmp_path)
    made = [(topic["name"], topic["partitions"]) for topic in again.events[0]["made"]]
    assert made == [(settings.topic("crm.answers"), 5)]
    assert settings.topic("routing.log") in again.events[0]["existed"]
    assert await existing_counts(settings) == counts
    assert (await create(settings, counts)).made == ()


async def test_another_count_is_refused(kafka: Cluster, tmp_path: Path):
    """Partition counts are fixed: asking for others is unusable, and nothing is made."""
    settings = at(kafka)
    await create(settings, {"conversations.events": 2})
    refused = run("topics", "create", *where(settings), "--partitions", "3", cwd=tmp_path)
    assert refused.code == 2
    assert refused.err.startswith("vip-router: --partitions: the topics exist with 2, and counts are fixed")
    with pytest.raises(LogError, match="exists with 2 partitions, not 3"):
        await create(settings, partition_counts(3, 1))
    assert await existing_counts(settings) == {"conversations.events": 2}


async def test_the_command_that_mends_a_missing_topic_works_as_it_is_printed(kafka: Cluster, tmp_path: Path):
    """It has the counts of the others, also when the input topic itself is missing; other counts are unusable."""
    settings = at(kafka)
    counts = partition_counts(2, 3)
    missing = ("conversations.events", "agents.events")
    await create(settings, {name: count for name, count in counts.items() if name not in missing})
    wrong = run("topics", "create", *where(settings), "--partitions", "4", cwd=tmp_path)
    assert (wrong.code, wrong.err[:50]) == (2, "vip-router: --partitions: the topics exist with 2,")
    found = run("topics", "check", *where(settings), cwd=tmp_path)
    assert found.code == 1
    (printed,) = {line.partition("vip-router ")[2] for line in found.out.splitlines() if "mend  vip-router" in line}
    assert printed.endswith("--partitions 2 --workspace-partitions 3")
    for mended in (printed, " ".join(printed.split()[:-4])):
        done = run(*mended.split(), cwd=tmp_path)
        assert done.code == 0, done.err
    assert await existing_counts(settings) == counts


@pytest.mark.parametrize(("name", "right"), [("conversations.events", "routing.log"), ("crm.answers", "routing.log")])
async def test_whoever_makes_topics_names_the_one_that_was_changed(
    kafka: Cluster, tmp_path: Path, name: str, right: str
):
    """Somebody added partitions to one topic: the sentence is that of ``topics check``, and blames no other topic."""
    settings = at(kafka)
    await create(settings, partition_counts(2, 1))
    async with admin_client(settings) as admin:
        await admin.create_partitions({settings.topic(name): NewPartitions(3)})
    found = run("topics", "check", *where(settings), "--json", cwd=tmp_path)
    (problem,) = [one for one in json.loads(found.out) if one["severity"] == "error"]
    assert (problem["subject"], problem["wanted"]) == (settings.topic(name), f"2 as {settings.topic(right)} has")
    said = (
        f"vip-router: {settings.topic(name)}: the number of partitions is 3, not {problem['wanted']}: "
        f"{problem['why']}. Mend it: {problem['mend']}\n"
    )
    made = run("topics", "create", *where(settings), cwd=tmp_path)
    assert (made.code, made.err) == (3, said)
    (tmp_path / "p.toml").write_text(policy_text("http://127.0.0.1:9"), encoding="utf-8")
    for options in ((), ("--partitions", "2")):
        served = run("serve", "--policy", "p.toml", *where(settings), *options, cwd=tmp_path)
        assert (served.code, served.err) == (3, said)


async def test_a_dry_run_makes_nothing(kafka: Cluster, tmp_path: Path):
    settings = at(kafka)
    done = run("topics", "create", *where(settings), "--dry-run", cwd=tmp_path)
    assert (done.code, "11 topics would be made" in done.out) == (0, True)
    assert await existing_counts(settings) == {}


async def test_what_differs_is_said_with_its_remedy(kafka: Cluster, tmp_path: Path):
    """A log that someone changed: exit 1, why it matters, and the command; set that way, it is sound again."""
    settings = at(kafka)
    await create(settings, partition_counts(2, 1))
    sound = {
        name.replace(".", "_"): value for name, value in wanted_topics({"routing.log": 2}, brokers=1)[0].configs.items()
    }
    await set_config(settings, "routing.log", **{**sound, "retention_ms": "1000"})
    found = run("topics", "check", *where(settings), cwd=tmp_path)
    assert found.code == 1
    name = settings.topic("routing.log")
    assert f"error: {name}: retention.ms is 1000, not -1\n" in found.out
    assert "  why   old records of the log are deleted, and the log is the truth\n" in found.out
    assert f"--entity-name {name} --add-config retention.ms=-1\n" in found.out
    assert found.out.endswith("1 difference from what the promises need\n")
    await set_config(settings, "routing.log", **sound)
    assert run("topics", "check", *where(settings), cwd=tmp_path).code == 0


async def test_topics_that_others_made_are_not_sound(kafka: Cluster):
    """What a broker makes by its own defaults misses the promises in these ways, and all are found."""
    settings = at(kafka)
    async with admin_client(settings) as admin:
        await admin.create_topics(
            [
                NewTopic(name=settings.topic(name), num_partitions=1, replication_factor=1, topic_configs={})
                for name in TOPICS
                if name != "dead-letters"
            ]
        )
    found = await problems(settings)
    assert {(each.subject, each.setting) for each in found if each.severity == "error"} >= {
        (settings.topic("routing.log"), "retention.ms"),
        (settings.topic("routing.log"), "message.timestamp.type"),
        (settings.topic("routing.log"), "max.message.bytes"),
        (settings.topic("routing.snapshots"), "cleanup.policy"),
        (settings.topic("dead-letters"), "the topic"),
    }


async def test_a_lane_batch_fits(kafka: Cluster):
    """The brokers take the largest append that the limits allow, and nothing above."""
    settings = at(kafka)
    await create(settings, partition_counts(1, 1))
    largest = LOG_BATCH_BYTES_MAX
    options = settings.client_options()
    async with AIOKafkaProducer(
        **options, acks="all", max_request_size=2 * largest, max_batch_size=largest
    ) as producer:
        await producer.send_and_wait(settings.topic("routing.log"), b"x" * (largest - 100))
        with pytest.raises(Exception, match="MessageSizeTooLarge"):
            await producer.send_and_wait(settings.topic("routing.log"), b"x" * largest)
        for name in ("conversations.events", "agents.events", "crm.answers"):
            await producer.send_and_wait(settings.topic(name), b"x" * (batch_bytes_max(name) - 100))


def test_without_brokers(tmp_path: Path):
    """Exit 3, and a sentence that says where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for command in ("create", "check"):
            ended = run("topics", command, "--log", f"kafka://127.0.0.1:{port}", cwd=tmp_path)
            assert ended.code == 3
            assert ended.err == (
                f"vip-router: Kafka cannot be reached. 127.0.0.1:{port}: nothing listens there: start the broker, or "
                "correct the host and port in the URL\n"
            )


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("create", ("--log", "sqlite:///x.db"), "--log: sqlite:///x.db is not on Kafka"),
        ("check", ("--log", "kafka://a b"), "Kafka's URL: 'a b' names no host"),
        ("acls", ("--log", "kafka://far"), "VIP_ROUTER_KAFKA_SECURITY: plaintext to far:9092 can be read"),
        (
            "check",
            ("--log", "kafka://localhost", "--topic-prefix", "a b"),
            "--topic-prefix or VIP_ROUTER_TOPIC_PREFIX:",
        ),
    ],
)
def test_unusable_arguments(tmp_path: Path, command: str, options: tuple[str, ...], says: str):
    """Exit 2, before anything is asked."""
    ended = run("topics", command, *options, cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"vip-router: {says}")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--partitions", "0"), "partitions of conversations.events: 0 is not between 1 and 10,000"),
        (("--retention-days", "0"), "--retention-days: 0 is not between 1 and 3,650"),
    ],
)
def test_numbers_that_cannot_be_meant(kafka: Cluster, tmp_path: Path, option: tuple[str, ...], says: str):
    ended = run("topics", "create", *where(at(kafka)), *option, cwd=tmp_path)
    assert (ended.code, ended.err) == (2, f"vip-router: {says}\n")


def test_a_prefix_is_for_kafka_only(tmp_path: Path):
    """On a log in a file a prefix is refused, as an option and as a variable, on every command."""
    (tmp_path / "e.jsonl").write_bytes(b"")
    blue = {"VIP_ROUTER_TOPIC_PREFIX": "blue."}
    for ended in (
        run("tail", "assignments", "--topic-prefix", "blue.", cwd=tmp_path),
        run("publish", "e.jsonl", cwd=tmp_path, env=blue),
        run("dead-letters", "list", "--topic-prefix", "blue.", cwd=tmp_path),
        run("audit", "verify", cwd=tmp_path, env=blue),
    ):
        assert ended.code == 2
        assert "a topic prefix (blue.) is for Kafka; leave --topic-prefix out" in ended.err
