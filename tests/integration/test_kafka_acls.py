"""The permissions of ``topics acls`` on a broker that allows nothing else: enough for each role, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as ConfluentError
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from events.kafka.acls import ROLES, acls
from events.kafka.check import problems
from events.kafka.facts import cluster_facts
from events.kafka.log import KafkaLog
from events.kafka.reach import admin_client
from events.kafka.settings import KafkaSettings, kafka_settings
from events.kafka.topics import create
from events.log import LogError, NewRecord
from events.log import TopicPartition as Place
from events.topics import TOPICS, partition_counts
from tests.brokers import backends
from tests.brokers.cluster import Cluster
from tests.brokers.node import Extra

pytestmark = pytest.mark.on_processes

PREFIX = "desk."
STRANGER = "stranger"  # a user who was given nothing
TIMEOUT_S = 20
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Create": AclOperation.CREATE,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A broker with an authorizer, a user for each role, the topics and the permissions; nothing else is allowed."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    users = " ".join(f'user_{name}="{name}-password"' for name in (*ROLES, STRANGER))
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.roles.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.roles.plain.sasl.jaas.config": f"{module} required {users};",
    }
    extra = Extra(config=config, listeners={"ROLES": "SASL_PLAINTEXT"})
    with Cluster(1, extra, backend=backends.choose().backend) as cluster:
        grant(cluster)
        owner = kafka_settings(f"kafka://{cluster.bootstrap}", {}, topic_prefix=PREFIX)
        counts = {name: count for name, count in partition_counts(1, 1).items() if name != "dead-letters"}
        asyncio.run(create(owner, counts))
        asyncio.run(create(as_("operator", cluster), partition_counts(1, 1)))  # the last one is made by that role
        yield cluster


def grant(cluster: Cluster) -> None:
    """What ``kafka-acls`` does with the printed commands."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    bindings = [
        AclBinding(
            RESOURCES[each.resource],
            each.name,
            ResourcePatternType.PREFIXED if each.prefixed else ResourcePatternType.LITERAL,
            each.principal,
            "*",
            OPERATIONS[each.operation],
            AclPermissionType.ALLOW,
        )
        for each in acls(PREFIX, {role: f"User:{role}" for role in ROLES})
    ]
    for made in admin.create_acls(bindings).values():
        made.result(timeout=TIMEOUT_S)


def as_(user: str, cluster: Cluster) -> KafkaSettings:
    """Settings of a user; in plaintext, for it never leaves this machine."""
    environment = {
        "VIP_ROUTER_KAFKA_SECURITY": "sasl-plaintext",
        "VIP_ROUTER_KAFKA_SASL_MECHANISM": "plain",
        "VIP_ROUTER_KAFKA_ALLOW_PLAINTEXT": "1",
        "VIP_ROUTER_KAFKA_USERNAME": user,
        "VIP_ROUTER_KAFKA_PASSWORD": f"{user}-password",
    }
    return kafka_settings(f"kafka://{cluster.bootstrap_of('ROLES')}", environment, topic_prefix=PREFIX)


async def may_write(settings: KafkaSettings, names: Iterable[str], *, idempotent: bool = True) -> set[str]:
    """The topics among ``names`` that take a record from this user, written as the adapter does.

    Who may write nowhere gets no producer id: ``idempotent`` False tries him without one.
    """
    producer = AIOKafkaProducer(**settings.client_options(), acks="all", enable_idempotence=idempotent)
    written = set()
    try:
        await producer.start()
        for name in names:
            with suppress(TopicAuthorizationFailedError):
                await producer.send_and_wait(settings.topic(name), b"{}", key=b"k", partition=0)
                written.add(name)
    finally:
        await producer.stop()
    return written


def may_read(user: str, cluster: Cluster, names: Iterable[str]) -> set[str]:
    """The topics among ``names`` that this user can read, by partition; each has a record, so each answers.

    They must be visible: on one that is hidden from it a client waits for ever.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap_of("ROLES"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": f"{user}-password",
            "group.id": "none",
            "enable.auto.commit": False,
        }
    )
    topics = {PREFIX + name: name for name in names}
    read: set[str] = set()
    refused: set[str] = set()
    try:
        consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])
        while len(read | refused) < len(topics):
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"no answer on {set(topics.values()) - read - refused}"
            topic, error = message.topic(), message.error()
            if topic is None:  # librdkafka looks for the group's coordinator though nothing needs it
                assert error is not None
                assert error.code() == ConfluentError.GROUP_AUTHORIZATION_FAILED
                continue
            assert error is None or error.code() == ConfluentError.TOPIC_AUTHORIZATION_FAILED
            (read if error is None else refused).add(topics[topic])
    finally:
        consumer.close()
    assert not read & refused
    return read


async def may_join(settings: KafkaSettings, group: str, name: str) -> bool:
    """Whether this user can be a member of a group and keep positions there."""
    consumer = AIOKafkaConsumer(
        settings.topic(name),
        **settings.client_options(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        await asyncio.wait_for(consumer.getone(), timeout=TIMEOUT_S)
        await consumer.commit()
    except GroupAuthorizationFailedError:
        return False
    else:
        return True
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
def filled(guarded: Cluster) -> Cluster:
    """A record in each topic, so that whoever may read has something to read."""

    async def fill() -> None:
        owner = kafka_settings(f"kafka://{guarded.bootstrap}", {}, topic_prefix=PREFIX)
        async with AIOKafkaProducer(**owner.client_options(), acks="all") as producer:
            for name in TOPICS:
                await producer.send_and_wait(owner.topic(name), b"{}", key=b"k", partition=0)

    asyncio.run(fill())
    return guarded


async def test_whoever_may_everything_writes_everything(filled: Cluster):
    """Guards the tests below: a topic that took nobody's record would pass for one that is guarded."""
    owner = kafka_settings(f"kafka://{filled.bootstrap}", {}, topic_prefix=PREFIX)
    assert await may_write(owner, TOPICS) == set(TOPICS)


@pytest.mark.parametrize("role", list(ROLES))
async def test_a_role_writes_what_it_has_to_and_nothing_else(filled: Cluster, role: str):
    """Every topic is tried: only the role's own take a record."""
    writes = set(ROLES[role].write)
    assert await may_write(as_(role, filled), TOPICS, idempotent=bool(writes)) == writes


async def test_what_the_issue_asks_by_name(filled: Cluster):
    """The router's credentials cannot write ``crm.answers``, nor a producer's ``routing.log``."""
    assert await may_write(as_("router", filled), ["crm.answers"]) == set()
    assert await may_write(as_("producer", filled), ["routing.log"]) == set()
    assert await may_write(as_("crm", filled), ["crm.answers"]) == {"crm.answers"}
    assert await may_write(as_("router", filled), ["routing.log"]) == {"routing.log"}


@pytest.mark.parametrize("role", list(ROLES))
async def test_a_role_reads_what_it_has_to_and_nothing_else(filled: Cluster, role: str):
    """What is neither read nor written nor described by a role is hidden from it altogether."""
    rights, settings = ROLES[role], as_(role, filled)
    async with admin_client(settings) as admin:
        hidden = (await cluster_facts(admin, settings, list(TOPICS))).forbidden
    assert set(hidden) == set(TOPICS) - {*rights.read, *rights.write, *rights.describe}
    assert may_read(role, filled, set(TOPICS) - set(hidden)) == set(rights.read)


@pytest.mark.parametrize("role", [role for role, rights in ROLES.items() if rights.groups])
async def test_a_role_joins_its_own_groups_only(filled: Cluster, role: str):
    """Nobody can take partitions away from another role by joining its group."""
    settings = as_(role, filled)
    own, other = ROLES[role].groups[0], "vip-router.assigner" if role != "assigner" else "vip-router.router"
    assert await may_join(settings, f"{PREFIX}{own}", ROLES[role].read[0])
    assert not await may_join(settings, f"{PREFIX}{other}", ROLES[role].read[0])


@pytest.mark.parametrize("role", ["router", "crm", "assigner", "auditor", "operator"])
async def test_the_check_at_the_start_needs_no_more(filled: Cluster, role: str):
    """Whoever runs ``serve`` or ``topics check`` sees all settings: nothing is hidden, nothing is wrong."""
    found = await problems(as_(role, filled))
    assert [(each.severity, each.subject) for each in found] == [("note", "brokers")]


async def test_a_stranger_may_nothing(filled: Cluster):
    """He sees no topic, and the check says so instead of an all-clear; he cannot make topics either."""
    stranger = as_(STRANGER, filled)
    found = await problems(stranger)
    assert {each.found for each in found if each.subject.startswith(PREFIX)} == {"hidden from this user"}
    assert len(found) == len(TOPICS) + 2
    assert await may_write(stranger, ["conversations.events", "routing.log"], idempotent=False) == set()
    with pytest.raises(LogError, match="cannot be made: allow this user Create on it"):
        await create(stranger, {"assignments": 1})


async def test_only_the_operator_changes_settings(filled: Cluster):
    """Retention of a log is what a role's stolen password must not change."""

    async def answer(role: str) -> Any:
        settings = as_(role, filled)
        wanted = ConfigResource(ConfigResourceType.TOPIC, settings.topic("dead-letters"), {"segment.bytes": "1048576"})
        async with admin_client(settings) as admin:
            [response] = await admin.alter_configs([wanted])
            return response.resources[0][0]

    assert await answer("operator") == 0
    for role in ("router", "assigner", "crm", "producer", "auditor"):
        assert await answer(role) == TopicAuthorizationFailedError.errno


# --- through the adapter ---


def log_of(user: str, cluster: Cluster) -> KafkaLog:
    return KafkaLog(as_(user, cluster), create=None)


async def ends_after(log: KafkaLog, *names: str) -> list[int]:
    """Publish a record to each of these topics; returns how many records each had before."""
    before = [await log.end_offset(Place(name, 0)) for name in names]
    await log.publish([NewRecord(name, 0, b"k", b"{}") for name in names])
    return before


async def test_roles_work_through_the_adapter(filled: Cluster):
    """Each role publishes and reads with the adapter what its lanes and commands do."""
    async with log_of("router", filled) as log:
        await ends_after(log, "routing.snapshots", "assignment.requests", "conversations.replies", "dead-letters")
        await log.create_topics(
            partition_counts(1, 1)
        )  # all are there: nothing is asked of the brokers that it may not
        assert (await log.read(Place("conversations.events", 0), 0, records_max=1)).records
    async with log_of("crm", filled) as log:
        await ends_after(log, "crm.answers", "dead-letters")
    async with log_of("assigner", filled) as log:
        await ends_after(log, "assignments", "assignments.snapshots", "agents.events")
        assert (await log.read(Place("assignment.requests", 0), 0, records_max=1)).records
    async with log_of("auditor", filled) as log:
        for name in TOPICS:
            assert await log.end_offset(Place(name, 0)) > 0
    async with log_of("producer", filled) as log:
        await log.create_topics(partition_counts(1, 1))
        await ends_after(log, "conversations.events", "agents.events")


@pytest.mark.parametrize(("role", "name"), [("router", "crm.answers"), ("crm", "conversations.replies")])
async def test_the_adapter_says_what_is_not_allowed(filled: Cluster, role: str, name: str):
    """A permission that is missing is an error at once, with the topic in it, and not a wait for better times."""
    async with log_of(role, filled) as log:
        with pytest.raises(LogError, match=name):
            await asyncio.wait_for(ends_after(log, name), timeout=TIMEOUT_S)
