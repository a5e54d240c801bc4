"""``serve`` on brokers that refuse it, or do not answer: who is not let in, what is not allowed, what is away.

Each refusal ends the process with exit 3 and a sentence that names what to mend; a broker that is away is waited for,
in few words and few requests. Nothing that was decided is lost by either.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from events.kafka.acls import Acl, acls
from tests.brokers.cluster import Cluster
from tests.brokers.fixtures import Brokers
from tests.brokers.node import Extra
from tests.brokers.proxy import Proxy
from tests.kafka_served import (
    CONTACTS,  # noqa: F401  # of the CRM in conftest.py
    LINES_MAX,
    System,
    customers,
    memory_bytes,
    names,
    says,
)
from tests.processes import wait_until

TIMEOUT_S = 60.0
MIB = 1024 * 1024
REQUESTS_MAX = 400  #: in the ten seconds or so that a process needs to say that nobody answers
USER = "desk"
SERVING = ("router", "crm", "assigner")
OPERATIONS = {"Read": AclOperation.READ, "Write": AclOperation.WRITE, "Describe": AclOperation.DESCRIBE,
              "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS}  # fmt: skip
RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}


class Guarded(NamedTuple):
    """A broker that allows nothing by itself; whoever comes by the proxy may everything."""

    cluster: Cluster
    proxy: Proxy

    def admin(self) -> AdminClient:
        """Whoever runs it."""
        return AdminClient({"bootstrap.servers": self.cluster[1].address})


@pytest.fixture(scope="module")
def guarded(brokers: Brokers) -> Iterator[Guarded]:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.roles.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.roles.plain.sasl.jaas.config": f'{module} required user_{USER}="right";',
    }
    with Proxy() as proxy:
        extra = Extra(config=config, listeners={"ROLES": "SASL_PLAINTEXT"}, advertised={1: proxy.address})
        with brokers(1, extra) as cluster:
            proxy.target = cluster[1].address
            yield Guarded(cluster, proxy)


class User(System):
    """A system whose processes come in as a user; the tests themselves do not."""

    def __init__(self, guarded: Guarded, folder: Path, *, password: str = "right") -> None:
        super().__init__(
            guarded.cluster.bootstrap,
            folder,
            partitions=2,
            SECURITY="sasl-plaintext",
            SASL_MECHANISM="plain",
            ALLOW_PLAINTEXT="1",
            USERNAME=USER,
            PASSWORD=password,
        )
        self.guarded = guarded

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "VIP_ROUTER_LOG": f"kafka://{self.guarded.cluster.bootstrap_of('ROLES')}"}

    def rights(self) -> Sequence[Acl]:
        """What its processes need."""
        return acls(self.prefix, dict.fromkeys(SERVING, f"User:{USER}"))

    def allow(self, rights: Sequence[Acl]) -> None:
        bindings = [_binding(AclBinding, each) for each in dict.fromkeys(each._replace(role="") for each in rights)]
        admin = self.guarded.admin()  # its answers come only while it is held
        for done in admin.create_acls(bindings).values():
            done.result(timeout=TIMEOUT_S)

    def forbid(self, right: Acl) -> None:
        admin = self.guarded.admin()
        for done in admin.delete_acls([_binding(AclBindingFilter, right)]).values():
            assert done.result(timeout=TIMEOUT_S), "there was such a permission"


def _binding(kind: Callable[..., Any], each: Acl) -> Any:
    pattern = ResourcePatternType.PREFIXED if each.prefixed else ResourcePatternType.LITERAL
    return kind(
        RESOURCES[each.resource], each.name, pattern, each.principal, "*", OPERATIONS[each.operation],
        AclPermissionType.ALLOW,
    )  # fmt: skip


def has_owners(system: System, count: int) -> bool:
    return len(system.owners()) >= count


def test_wrong_credentials_are_said(guarded: Guarded, folder: Path) -> None:
    done = User(guarded, folder, password="wrong").run("serve", "--policy", "p.toml")
    says(done, "it refused the user or the password: correct VIP_ROUTER_KAFKA_USERNAME and VIP_ROUTER_KAFKA_PASSWORD")


def test_topics_that_may_not_be_made_are_said(guarded: Guarded, folder: Path) -> None:
    """All the rights of its roles are not enough for the first start: an operator makes the topics."""
    system = User(guarded, folder)
    system.allow(system.rights())
    sentence = "cannot be made: allow this user Create on it, or let an operator make the topics"
    says(system.run("serve", "--policy", "p.toml"), sentence)
    says(
        system.run("publish", "-"),
        "there is no topic .* on these brokers.* make the topics with vip-router topics create",
    )


@pytest.mark.parametrize(
    ("topic", "operation"),
    [("conversations.events", "Read"), ("routing.log", "Write"), ("assignments", "Write"), ("crm.answers", "Write")],
)
def test_a_permission_that_is_taken_away_stops_it_and_nothing_is_lost(
    guarded: Guarded, folder: Path, topic: str, operation: str
) -> None:
    """It ends with what to do; given back, the next start does what is left."""
    system = User(guarded, folder)
    system.create()
    rights = system.rights()
    system.allow(rights)
    right = next(each for each in rights if (each.name, each.operation) == (system.prefix + topic, operation))
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 20))
        wait_until(partial(has_owners, system, 20), "all assignments")
        system.forbid(right)
        system.publish(*customers(20, 20))
        ended = serve.end()
    says(ended, rf"{topic}/\d: the brokers do not allow it to this user: give it the rights of its roles \(ACLs\)")
    system.allow([right])
    system.serve_until_idle()
    system.check(names(0, 40), copies=True)
    system.audit()


def test_a_group_that_is_forbidden_is_said(guarded: Guarded, folder: Path) -> None:
    system = User(guarded, folder)
    system.create()
    system.allow([each for each in system.rights() if each.resource != "group"])
    says(system.run("serve", "--policy", "p.toml"), "do not allow this user the consumer group: give it the right")


def test_a_broker_that_answers_nothing_is_waited_for_in_few_words_and_requests(guarded: Guarded, folder: Path) -> None:
    """Neither requests nor memory pile up while the network swallows everything; then all goes on."""
    system = System(guarded.cluster.bootstrap, folder, partitions=2)
    system.create()
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 20))
        wait_until(partial(has_owners, system, 20), "all assignments")
        held_bytes = memory_bytes(serve)
        guarded.proxy.silent = True
        guarded.proxy.seen.clear()
        try:
            serve.wait_for("no answer for")
        finally:
            guarded.proxy.silent = False
        assert sum(guarded.proxy.seen.values()) < REQUESTS_MAX
        assert memory_bytes(serve) - held_bytes < 16 * MIB
        system.publish(*customers(20, 20))
        wait_until(partial(has_owners, system, 40), "all assignments")
        ended = serve.end(signal.SIGTERM)
    assert ended.code == 0, ended.err
    assert len(ended.err.splitlines()) < LINES_MAX
    system.check(names(0, 40), copies=True)


def test_an_expired_certificate_is_said(folder: Path) -> None:
    """Nothing is sent to a broker whose certificate has expired."""
    certificates = Path(__file__).parents[1] / "certificates"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "expired.pem")
    loop = asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)

    server = loop.run_until_complete(listen())
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        system = System(f"127.0.0.1:{port}", folder, SECURITY="tls", CA_FILE=str(certificates / "ca.pem"))
        done = system.run("serve", "--policy", "p.toml")
        says(done, rf"127.0.0.1:{port}: its certificate has expired: give the broker a new one")
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
