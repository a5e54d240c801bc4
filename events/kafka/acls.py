"""Who may do what on Kafka: for each role exactly what it has to do, as ACLs and as ``kafka-acls`` commands.

A log whose appends are conditional holds only if nobody else writes it: that is the brokers' to enforce.
``deploy/acls.toml`` shows ``ROLES`` as data; a test holds them equal.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from events.kafka.settings import GROUP_PREFIX, KafkaSettings
from events.topics import (
    AGENT_EVENTS,
    ASSIGNMENT_REQUESTS,
    ASSIGNMENTS,
    ASSIGNMENTS_LOG,
    ASSIGNMENTS_SNAPSHOTS,
    CONVERSATION_EVENTS,
    CRM_ANSWERS,
    DEAD_LETTERS,
    REPLIES,
    ROUTING_LOG,
    ROUTING_SNAPSHOTS,
    TOPICS,
)

Resource: TypeAlias = Literal["topic", "group", "cluster"]

CLUSTER_NAME: Final = "kafka-cluster"  #: Kafka's own name of the only cluster resource
_ALL: Final = tuple(TOPICS)


class Rights(Struct, frozen=True, kw_only=True):
    """What a role may do; topics by our names, groups by how their names begin."""

    what: str  #: who that is
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    describe: tuple[str, ...] = ()  #: names, partitions and settings; reading and writing include the first two
    create: tuple[str, ...] = ()
    alter: tuple[str, ...] = ()  #: settings
    groups: tuple[str, ...] = ()  #: join, and commit positions
    groups_seen: tuple[str, ...] = ()  #: see members and positions
    cluster: tuple[str, ...] = ()  #: operations on the cluster


ROLES: Final[dict[str, Rights]] = {
    "producer": Rights(
        what="whoever publishes conversations and agents: the platform's adapter; publish, which sees to all topics",
        write=(CONVERSATION_EVENTS, AGENT_EVENTS),
        describe=_ALL,
    ),
    "channel": Rights(
        what="whoever sends the replies to contacts",
        read=(REPLIES,),
        groups=("channel.",),
    ),
    "reader": Rights(
        what="whoever acts on assignments",
        read=(ASSIGNMENTS,),
        groups=("reader.",),
    ),
    "router": Rights(
        what="vip-router serve --roles router; sends inputs that lie on a foreign partition on to the right one",
        read=(CONVERSATION_EVENTS, CRM_ANSWERS, ROUTING_LOG, ROUTING_SNAPSHOTS),
        write=(CONVERSATION_EVENTS, ROUTING_LOG, ROUTING_SNAPSHOTS, ASSIGNMENT_REQUESTS, REPLIES, DEAD_LETTERS),
        describe=_ALL,
        groups=(f"{GROUP_PREFIX}router",),
        cluster=("DescribeConfigs",),
    ),
    "crm": Rights(
        what="vip-router serve --roles crm",
        read=(ROUTING_LOG,),
        write=(CRM_ANSWERS, DEAD_LETTERS),
        describe=_ALL,
        groups=(f"{GROUP_PREFIX}crm",),
        cluster=("DescribeConfigs",),
    ),
    "assigner": Rights(
        what="vip-router serve --roles assigner; sends agents' events on a foreign partition on to the right one",
        read=(ASSIGNMENT_REQUESTS, AGENT_EVENTS, ASSIGNMENTS_LOG, ASSIGNMENTS_SNAPSHOTS),
        write=(AGENT_EVENTS, ASSIGNMENTS_LOG, ASSIGNMENTS_SNAPSHOTS, ASSIGNMENTS, DEAD_LETTERS),
        describe=_ALL,
        groups=(f"{GROUP_PREFIX}assigner",),
        cluster=("DescribeConfigs",),
    ),
    "auditor": Rights(
        what="vip-router audit, tail and dead-letters list: reads everything, writes nothing",
        read=_ALL,
        describe=_ALL,
        groups_seen=(GROUP_PREFIX,),
        cluster=("DescribeConfigs",),
    ),
    "operator": Rights(
        what="vip-router topics create and check, dead-letters retry; cannot read the logs",
        read=(DEAD_LETTERS,),
        write=(CONVERSATION_EVENTS, AGENT_EVENTS),
        describe=_ALL,
        create=_ALL,
        alter=_ALL,
        groups_seen=(GROUP_PREFIX,),
        cluster=("DescribeConfigs",),
    ),
}


class Acl(NamedTuple):
    """One permission, as Kafka takes it."""

    role: str
    principal: str
    resource: Resource
    name: str
    prefixed: bool  #: whether ``name`` is only how the names begin
    operation: str


def acls(topic_prefix: str, principals: Mapping[str, str]) -> tuple[Acl, ...]:
    """The permissions of the roles in ``principals`` (role: principal), each once."""
    return tuple(
        Acl(role, principals[role], resource, name, prefixed, operation)
        for role, rights in ROLES.items()
        if role in principals
        for resource, names, prefixed, operations in _granted(rights, topic_prefix)
        for name in names
        for operation in operations
    )


def commands(settings: KafkaSettings, principals: Mapping[str, str]) -> Iterator[str]:
    """``kafka-acls`` commands that add these permissions; with a comment before each role. To run again is safe."""
    at = ["--bootstrap-server", ",".join(map(str, settings.brokers))]
    if settings.security != "plaintext":
        at += ["--command-config", "client.properties"]
    for role, rights in ROLES.items():
        if role not in principals:
            continue
        yield f"# {role}: {rights.what}"
        for resource, names, prefixed, operations in _granted(rights, settings.topic_prefix):
            words = ["kafka-acls", *at, "--add", "--allow-principal", principals[role]]
            for operation in operations:
                words += ["--operation", operation]
            if resource == "cluster":
                words.append("--cluster")
            else:
                for name in names:
                    words += [f"--{resource}", name]
                words += ["--resource-pattern-type", "prefixed" if prefixed else "literal"]
            yield shlex.join(words)


def _granted(rights: Rights, topic_prefix: str) -> Iterator[tuple[Resource, tuple[str, ...], bool, tuple[str, ...]]]:
    """Resource, names, whether they are prefixes, operations; nothing twice."""
    by_operations: dict[tuple[str, ...], list[str]] = {}
    for topic in TOPICS:
        operations = tuple(operation for operation, topics in _operations(rights) if topic in topics)
        if operations:
            by_operations.setdefault(operations, []).append(topic_prefix + topic)
    for operations, names in by_operations.items():
        yield "topic", tuple(names), False, operations
    if rights.groups:
        yield "group", tuple(topic_prefix + name for name in rights.groups), True, ("Read",)
    if rights.groups_seen:
        yield "group", tuple(topic_prefix + name for name in rights.groups_seen), True, ("Describe",)
    if rights.cluster:
        yield "cluster", (CLUSTER_NAME,), False, rights.cluster


def _operations(rights: Rights) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Kafka lets whoever may read or write also describe, but not see the settings."""
    return (
        ("Read", rights.read),
        ("Write", rights.write),
        ("Describe", rights.describe),
        ("DescribeConfigs", rights.describe),
        ("Create", rights.create),
        ("AlterConfigs", rights.alter),
    )
