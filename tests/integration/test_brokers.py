"""The brokers that the tests run on, and the proxy before them, do what they say."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.brokers import backends, container, probe
from tests.brokers.cluster import BrokerError, Cluster
from tests.brokers.fixtures import Brokers, fresh
from tests.brokers.node import CLUSTER_ID, Extra, State
from tests.brokers.proxy import PRODUCE, Kind, Lost, Proxied, proxied
from tests.processes import ROOT, wait_until

DEADLINE_S = 60.0
ASK_TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def behind_proxy(brokers: Brokers) -> Iterator[Proxied]:
    with proxied(brokers, 1) as both:
        yield both


def topic(kafka: Cluster, *, copies: int = 1) -> str:
    """A new topic of one partition, with all its replicas in sync."""
    name = fresh("brokers")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})  # kept: its answers end with it
    admin.create_topics([NewTopic(name, 1, copies)])[name].result(timeout=DEADLINE_S)
    kafka.wait_ready()
    return name


class Writer:
    """Writes one record after the other and knows which were acknowledged, at what offset."""

    def __init__(self, kafka: Cluster, name: str, *, idempotent: bool = True, timeout_ms: int = 60_000) -> None:
        self.topic = name
        self.offsets: list[int] = []
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "acks": "all",
                "enable.idempotence": idempotent,
                "linger.ms": 0,
                "retry.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "socket.timeout.ms": 4000,
                "message.timeout.ms": timeout_ms,
                "log_level": 0,
            }
        )

    def write(self, *values: bytes) -> None:
        """Write and wait for the acknowledgement; `KafkaException` where there is none."""
        for value in values:
            self._producer.produce(self.topic, value, partition=0, on_delivery=self._done)
            assert self._producer.flush(DEADLINE_S) == 0

    def _done(self, error: object, message: object) -> None:
        if error is not None:
            raise KafkaException(error)
        self.offsets.append(message.offset())  # type: ignore[attr-defined]


def values(kafka: Cluster, name: str) -> list[bytes | None]:
    """All that stands in the topic."""
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": name, "enable.auto.commit": False}
    reader = Consumer(settings)
    with contextlib.closing(reader):
        _, end = reader.get_watermark_offsets(TopicPartition(name, 0), timeout=DEADLINE_S)
        reader.assign([TopicPartition(name, 0, 0)])
        return [message.value() for message in reader.consume(end, timeout=DEADLINE_S)] if end else []


def leader(kafka: Cluster, name: str, *, ask: int) -> int:
    """The leader of the topic's partition, as one broker sees it, which may hear of a new topic a moment late."""
    found: list[int] = []

    def knows() -> bool:
        seen = probe.metadata(kafka[ask].address, timeout_s=ASK_TIMEOUT_S)
        found[:] = [part.leader for part in seen.partitions if part.topic == name]
        return bool(found)

    wait_until(knows, f"broker {ask} knows {name}")
    return found[0]


@pytest.mark.on_processes
def test_one_broker_is_a_real_apache_kafka(kafka: Cluster):
    """It serves Kafka's APIs under our cluster id, says its version, and keeps what it acknowledged."""
    assert probe.metadata(kafka[1].address, timeout_s=ASK_TIMEOUT_S)[:2] == (CLUSTER_ID, {1})
    assert len(probe.api_keys(kafka[1].address, timeout_s=ASK_TIMEOUT_S)) > 50
    assert "Kafka version: 4." in kafka[1].logs()
    writer = Writer(kafka, topic(kafka))
    writer.write(b"a", b"b")
    assert (writer.offsets, values(kafka, writer.topic)) == ([0, 1], [b"a", b"b"])


def test_no_topic_is_made_by_asking_for_it(kafka: Cluster):
    name = fresh("never-made")
    with pytest.raises(KafkaException):
        Writer(kafka, name, timeout_ms=1000).write(b"a")
    seen = probe.metadata(kafka[1].address, timeout_s=ASK_TIMEOUT_S)
    assert name not in {part.topic for part in seen.partitions}


@pytest.mark.on_processes
def test_killed_broker_is_gone_and_comes_back_with_its_disk(kafka: Cluster):
    """After SIGKILL nothing listens; after a restart every acknowledged record is there."""
    writer = Writer(kafka, topic(kafka))
    writer.write(b"a")
    kafka[1].kill()
    assert not kafka[1].alive()
    with pytest.raises(OSError, match=r"Errno|closed"):
        probe.metadata(kafka[1].address, timeout_s=ASK_TIMEOUT_S)
    kafka[1].restart()
    kafka.wait_ready()
    writer.write(b"b")
    assert values(kafka, writer.topic) == [b"a", b"b"]


@pytest.mark.on_processes
def test_paused_broker_accepts_and_does_not_answer(kafka: Cluster):
    """A paused broker is a hung one: a connection succeeds, the answer never comes; resumed, it goes on."""
    kafka[1].pause()
    assert kafka[1].alive()
    with pytest.raises(TimeoutError):
        probe.metadata(kafka[1].address, timeout_s=0.5)
    kafka[1].resume()
    kafka.wait_ready()


def test_paused_broker_can_be_killed(kafka: Cluster):
    kafka[1].pause()
    kafka[1].kill()
    assert not kafka[1].alive()
    kafka.heal()
    assert kafka[1].state is State.RUNNING


def test_a_test_finds_the_cluster_whole_whatever_the_one_before_did(kafka: Cluster):
    """The two tests before this one have killed the broker; nobody there has started it again but the fixture."""
    assert kafka[1].alive()
    assert probe.metadata(kafka[1].address, timeout_s=ASK_TIMEOUT_S).whole


@pytest.mark.on_processes
def test_three_brokers_lose_their_leader_and_nothing_else(kafka3: Cluster):
    """The leader is killed, then the next one paused: each time another takes over, and every record is kept."""
    writer = Writer(kafka3, topic(kafka3, copies=3))
    writer.write(b"0")
    first = leader(kafka3, writer.topic, ask=1)
    kafka3[first].kill()
    writer.write(b"1")
    second = leader(kafka3, writer.topic, ask=first % 3 + 1)
    assert second != first
    kafka3.heal()
    kafka3[second].pause()
    writer.write(b"2")
    kafka3.heal()
    assert (writer.offsets, values(kafka3, writer.topic)) == ([0, 1, 2], [b"0", b"1", b"2"])


def test_one_broker_of_three_acknowledges_nothing(kafka3: Cluster):
    """Below min.insync.replicas no write is acknowledged."""
    writer = Writer(kafka3, topic(kafka3, copies=3), timeout_ms=4000)
    last = leader(kafka3, writer.topic, ask=1)
    for node in kafka3:
        if node.id != last:
            node.pause()
    with pytest.raises(KafkaException):
        writer.write(b"a")
    assert writer.offsets == []


@pytest.mark.on_processes
def test_lost_response_is_an_append_that_the_client_does_not_know_of(behind_proxy: Proxied):
    """Exactly the next answer is lost: the broker has the record; the idempotent retry does not double it."""
    kafka, proxy = behind_proxy.cluster, behind_proxy.proxies[1]
    writer = Writer(kafka, topic(kafka))
    writer.write(b"0")
    before = list(proxy.lost)
    proxy.lose(Kind.RESPONSE, PRODUCE)
    writer.write(b"1", b"2")
    assert proxy.lost[len(before) :] == [Lost(Kind.RESPONSE, PRODUCE)]
    assert values(kafka, writer.topic) == [b"0", b"1", b"2"]


def test_lost_response_doubles_a_record_of_a_producer_without_idempotence(behind_proxy: Proxied):
    """The negative control: without idempotence the same fault leaves the record twice."""
    kafka, proxy = behind_proxy.cluster, behind_proxy.proxies[1]
    writer = Writer(kafka, topic(kafka), idempotent=False)
    proxy.lose(Kind.RESPONSE, PRODUCE)
    writer.write(b"1")
    assert values(kafka, writer.topic) == [b"1", b"1"]


def test_lost_request_never_reaches_the_broker(behind_proxy: Proxied):
    """The client gives up before its retry, and the topic stays empty."""
    kafka, proxy = behind_proxy.cluster, behind_proxy.proxies[1]
    writer = Writer(kafka, topic(kafka), timeout_ms=1500)
    before = len(proxy.lost)
    proxy.lose(Kind.REQUEST, PRODUCE, times=1_000)
    with pytest.raises(KafkaException):
        writer.write(b"1")
    proxy.wait_lost(before + 1, timeout_s=DEADLINE_S)
    proxy.lose(Kind.REQUEST, PRODUCE, times=-(1_000 - (len(proxy.lost) - before)))
    assert values(kafka, writer.topic) == []


def test_latency_is_added_both_ways(behind_proxy: Proxied):
    """An exchange takes at least twice the latency, and none when it is taken back."""
    proxy = behind_proxy.proxies[1]
    proxy.latency_ms = 300
    with pytest.raises(TimeoutError):
        probe.api_keys(proxy.address, timeout_s=0.5)
    proxy.latency_ms = 0
    assert probe.api_keys(proxy.address, timeout_s=ASK_TIMEOUT_S)


def test_cut_resets_connections_and_a_client_comes_back(behind_proxy: Proxied):
    kafka, proxy = behind_proxy.cluster, behind_proxy.proxies[1]
    writer = Writer(kafka, topic(kafka))
    writer.write(b"0")
    proxy.cut()
    writer.write(b"1")
    assert values(kafka, writer.topic) == [b"0", b"1"]


def test_silent_proxy_keeps_connections_and_answers_nothing(behind_proxy: Proxied):
    proxy = behind_proxy.proxies[1]
    proxy.silent = True
    with pytest.raises(TimeoutError):
        probe.api_keys(proxy.address, timeout_s=0.3)
    proxy.silent = False
    assert probe.api_keys(proxy.address, timeout_s=ASK_TIMEOUT_S)


def test_closed_proxy_resets_new_connections(behind_proxy: Proxied):
    proxy = behind_proxy.proxies[1]
    proxy.closed = True
    with pytest.raises(OSError, match=r"Errno|closed"):
        probe.api_keys(proxy.address, timeout_s=ASK_TIMEOUT_S)
    proxy.closed = False


@pytest.mark.on_processes
def test_killed_test_run_leaves_no_broker(brokers: Brokers):
    """A process dies with the tests; a container is removed when the next run begins."""
    del brokers  # it is only started here, by another process
    choice = backends.choose()
    command = [sys.executable, "-c", RUN, choice.backend]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        address = run.stdout.readline().strip()
        assert answers(address)
        run.kill()
    if choice.backend == "containers":
        container.prepare()
    wait_until(lambda: not answers(address), "the broker is gone")


RUN = """
import sys
from tests.brokers.cluster import Cluster
with Cluster(1, backend=sys.argv[1]) as kafka:
    print(kafka[1].address, flush=True)
    sys.stdin.read()
"""


def answers(address: str) -> bool:
    try:
        return bool(probe.api_keys(address, timeout_s=ASK_TIMEOUT_S))
    except OSError:
        return False


def test_broker_that_cannot_start_fails_at_once_with_its_log():
    """A setting that Kafka refuses is seen in the message; nobody waits for the time-out."""
    extra = Extra(config={"num.io.threads": "none"})
    with (
        pytest.raises(BrokerError, match=r"has died(.|\n)*num\.io\.threads"),
        Cluster(1, extra, backend=backends.choose().backend),
    ):
        pass


def test_log_directory_of_limited_size_gets_full(brokers: Brokers):
    """The broker stops with a full disk: what a test of that fault needs."""
    extra = Extra(log_bytes_max=24 * 1024 * 1024)
    with brokers(1, extra) as kafka:
        writer = Writer(kafka, topic(kafka), timeout_ms=8000)
        with pytest.raises(KafkaException):
            writer.write(*[bytes(900_000)] * 40)
        assert "No space left on device" in kafka[1].logs()
        assert 0 < len(writer.offsets) < 40


def test_further_listeners_take_their_settings_from_extra(brokers: Brokers):
    """Roles log in on a listener of their own while the tests' stays plaintext."""
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="pw-1";'
    extra = Extra(
        listeners={"ROLES": "SASL_PLAINTEXT"},
        config={
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.roles.plain.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    with brokers(1, extra) as kafka:
        name = topic(kafka)
        assert name not in topics_seen(kafka.bootstrap_of("ROLES"), password="pw-1"), "ann has no rights"
        assert name in topics_seen(kafka.bootstrap)
        with pytest.raises(KafkaException):
            topics_seen(kafka.bootstrap_of("ROLES"), password="pw-2")


def topics_seen(bootstrap: str, *, password: str = "") -> set[str]:
    login = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "ann",
        "sasl.password": password,
    }
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 0}
    settings.update(login if password else {})
    return set(AdminClient(settings).list_topics(timeout=5).topics)
