"""Bad input on Kafka: what strangers write, what batches hide, and topics that are not as they were.

Each record that no lane can use ends among the dead letters, the good ones around it are worked, and the process holds
no more memory than before. Where a lane must not go on, it ends with exit 3 and a sentence that names the way out.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import struct
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from events.kafka.log import KafkaLog
from events.log import NewRecord
from events.topics import CONVERSATION_EVENTS, INPUT_BYTES_MAX, partition_of
from tests.bad_inputs import ODD, RAW
from tests.brokers.cluster import Cluster
from tests.brokers.process import ProcessNode
from tests.kafka_given import delete
from tests.kafka_served import (
    CONTACTS,  # noqa: F401  # of the CRM in conftest.py
    LINES_MAX,
    System,
    customers,
    everywhere,
    memory_bytes,
    names,
    says,
    set_topic,
)
from tests.processes import Ended, json_lines, opened, policy_text, wait_until

MAKE = Callable[..., System]
MIB = 1024 * 1024
BOMB_BYTES = 40 * MIB
CODECS = ("gzip", "snappy", "lz4", "zstd")
TIMEOUT_S = 60.0


class Binary(NamedTuple):
    """An event in binary mode: attributes in headers."""

    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    reason: str


def ce(**changes: bytes) -> tuple[tuple[str, bytes], ...]:
    attributes = {"specversion": b"1.0", "id": b"b1", "source": b"/t", "type": b"conversation.opened"} | changes
    return tuple((f"ce_{name}", value) for name, value in attributes.items())


BINARY = {
    "binary: bytes that are no JSON": Binary(ce(), b"\x00\xff\x01", "not-json"),
    "binary: an image": Binary((*ce(), ("content-type", b"image/png")), b"{}", "bad-envelope"),
    "binary: a header that is not UTF-8": Binary(ce(id=b"\xff\xfe"), b"{}", "bad-envelope"),
    "binary: a header twice": Binary((*ce(), ("ce_id", b"b2")), b"{}", "duplicate-keys"),
    "binary: no id": Binary((("ce_specversion", b"1.0"),), b"{}", "bad-envelope"),
    "binary: another version": Binary(ce(specversion=b"9.9"), b"{}", "bad-envelope"),
    "binary: no data": Binary(ce(), b"", "bad-data"),
    "binary: unknown type": Binary(ce(type=b"no.such"), b"{}", "unknown-type"),
    "a batch of events": Binary((("content-type", b"application/cloudevents-batch+json"),), b"[]", "bad-envelope"),
}  # fmt: skip
LARGE = {
    "10 MB": (opened("bad", padding="x" * 10_000_000), "too-large", "none"),
    "2 MiB": (opened("bad", padding="x" * (2 * MIB)), "too-large", "none"),
    **{f"a {codec} bomb": (opened("bad", padding="x" * BOMB_BYTES), "unreadable", codec) for codec in CODECS},
}  # fmt: skip


@pytest.fixture
def make(kafka: Cluster, tmp_path: Path, crm_url: str) -> MAKE:
    """Makes systems with topics of their own."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    return partial(System, kafka.bootstrap, tmp_path)


def produce(system: System, value: bytes, codec: str) -> tuple[int, int] | str:
    """Write a record as librdkafka does; gives partition and offset, or what the broker said."""
    told: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": system.bootstrap, "compression.type": codec, "message.max.bytes": 2 * BOMB_BYTES}
    )
    home = partition_of("bad", system.partitions)
    producer.produce(
        system.prefix + CONVERSATION_EVENTS,
        key=b"bad", value=value, partition=home, on_delivery=lambda error, done: told.append((error, done)),
    )  # fmt: skip
    assert producer.flush(TIMEOUT_S) == 0
    [(error, done)] = told
    return str(error) if error is not None else (home, done.offset())


class World(NamedTuple):
    """What is there after everything went in and ``serve`` has worked it."""

    system: System
    placed: dict[str, tuple[int, int]]
    refused: dict[str, str]  #: what the broker said while the topic was as we make it
    letters: list[dict[str, Any]]
    ended: Ended
    grown_bytes: int


def put_all(system: System) -> dict[str, tuple[int, int]]:
    """Write every bad record; good ones stand before and behind them on every partition."""
    ends = dict.fromkeys(range(system.partitions), 0)
    records: list[NewRecord] = []
    placed: dict[str, tuple[int, int]] = {}

    def add(record: NewRecord, name: str | None = None) -> None:
        if name is not None:
            placed[name] = (record.partition, ends[record.partition])
        ends[record.partition] += 1
        records.append(record)

    for one in (*everywhere("before", system.partitions), *ODD):
        add(system.record(one["partitionkey"], json.dumps(one).encode()))
    for name, raw in RAW.items():
        record = system.record((raw.key or b"bad").decode(), raw.value, raw.key)
        add(record if raw.key is not None else record._replace(key=None), name)
    for name, (headers, value, _reason) in BINARY.items():
        add(system.record("bad", value)._replace(headers=headers), name)
    add(system.record("miskeyed", json.dumps(opened("miskeyed")).encode(), b"\xff\x00 no text"))
    add(system.record("keyless", json.dumps(opened("keyless")).encode())._replace(key=None))
    system.write(*records)
    for name, (one, _reason, codec) in LARGE.items():
        at = produce(system, json.dumps(one).encode(), codec)
        assert isinstance(at, tuple), at
        placed[name] = at
    system.publish(*everywhere("after", system.partitions))
    return placed


@pytest.fixture(scope="module")
def world(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory, crm_url: str) -> World:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    system = System(kafka.bootstrap, folder)
    system.create()
    refused = {name: produce(system, json.dumps(one).encode(), codec) for name, (one, _, codec) in LARGE.items()}
    with system.serving() as serve:
        serve.wait_for("ready")
        before_bytes = memory_bytes(serve)
        set_topic(
            system, CONVERSATION_EVENTS, max_message_bytes=str(16 * MIB), max_decompressed_message_bytes=str(512 * MIB)
        )
        placed = put_all(system)
        after = {one["partitionkey"] for one in everywhere("after", system.partitions)}
        wait_until(
            lambda: after <= {one["partitionkey"] for one in system.stored("conversations.replies")}, "all are asked"
        )
        grown_bytes = memory_bytes(serve) - before_bytes
        ended = serve.end(signal.SIGTERM)
    letters = [one["data"] for one in system.stored("dead-letters")]
    return World(system, placed, {k: str(v) for k, v in refused.items()}, letters, ended, grown_bytes)


REASONS = {
    **{name: raw.reason for name, raw in RAW.items()},
    **{name: binary.reason for name, binary in BINARY.items()},
    **{name: reason for name, (_, reason, _codec) in LARGE.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_it_ends_among_the_dead_letters_with_its_place_and_reason(world: World, name: str) -> None:
    """One letter for each, which says where it lies, why, and what to do."""
    letters = [one for one in world.letters if (one["partition"], one["offset"]) == world.placed[name]]
    (letter,) = letters
    assert (letter["topic"], letter["reason"]) == (CONVERSATION_EVENTS, REASONS[name])
    assert letter["detail"]


def test_the_partitions_move_on_and_nothing_else_is_set_aside(world: World) -> None:
    """Good inputs before, between and behind are worked, whatever the record's key; the log is whole."""
    assert world.ended.code == 0, world.ended.err
    assert len(world.letters) == len(REASONS)
    started = {
        one["partitionkey"] for one in world.system.stored("routing.log") if one["type"] == "conversation.started"
    }
    good = {one["partitionkey"] for word in ("before", "after") for one in everywhere(word, 4)}
    assert good | {"miskeyed", "keyless", "early", "twice", "gone", "mute"} == started
    world.system.audit()


def test_bombs_and_10_mb_take_no_memory_that_stays_and_few_words(world: World) -> None:
    """Six batches of up to 40 MiB went through; a process that kept them would hold 170 MiB more."""
    assert world.grown_bytes < 64 * MIB
    assert len(world.ended.err.splitlines()) < LINES_MAX


@pytest.mark.parametrize("name", LARGE)
def test_a_topic_as_we_make_it_takes_none_of_the_large_ones(world: World, name: str) -> None:
    """The broker refuses them, also small batches that unpack to much."""
    assert re.search("too large|larger than|INVALID_RECORD|validation|Message size", world.refused[name]), (
        world.refused[name]
    )


def sized(contact: str, size_bytes: int) -> bytes:
    """An opening whose value has exactly so many bytes."""
    empty = len(json.dumps(opened(contact, padding="")))
    return json.dumps(opened(contact, padding="x" * (size_bytes - empty))).encode()


def test_sizes_up_to_what_producers_send_by_default(make: MAKE) -> None:
    """256 KiB of value are an event; up to 1 MiB lands among the dead letters; ``publish`` and the router say the same.

    A record that would not fit with what sending it to its partition adds is set aside, too: it must stop no lane.
    """
    system = make()
    system.create()
    largest, over, huge = sized("largest", INPUT_BYTES_MAX), sized("over", 300_000), sized("huge", 1_000_000)
    published = system.run("publish", "-", stdin=largest)
    assert published.code == 0, published.err
    refused = system.run("publish", "-", stdin=over)
    assert (refused.code, "line 1: no event: too-large: 300,000 bytes; at most 262,144" in refused.err) == (2, True)
    foreign = (partition_of("moved", 4) + 1) % 4
    moved = NewRecord(CONVERSATION_EVENTS, foreign, b"k" * 786_432, sized("moved", INPUT_BYTES_MAX), ())
    near = NewRecord(CONVERSATION_EVENTS, foreign, b"moved", sized("moved", INPUT_BYTES_MAX), ())
    system.write(system.record("over", over), system.record("huge", huge), moved, near)
    ended = system.serve_until_idle()
    assert len(ended.err.splitlines()) < LINES_MAX
    asked = {one["partitionkey"] for one in system.stored("conversations.replies")}
    assert asked == {"largest", "moved"}
    letters = {one["data"]["detail"].partition(";")[0]: one["data"] for one in system.stored("dead-letters")}
    assert [letters[f"{size} bytes"]["reason"] for size in ("300,000", "1,000,000")] == ["too-large"] * 2
    assert b64decode(letters["300,000 bytes"]["value_base64"]) == over, "held whole"
    assert letters["1,000,000 bytes"]["value_bytes"] == 1_000_000, "named, and to be found in its topic"
    assert [one["reason"] for one in letters.values() if "too large to be sent on" in one["detail"]] == [
        "wrong-partition"
    ]
    assert len(letters) == 3


# --- a damaged disk ---


def damage(folder: Path, spoil: Callable[[bytearray, int], None]) -> None:
    """Spoil the second batch of a partition's only segment."""
    (file,) = folder.glob("*.log")
    data = bytearray(file.read_bytes())
    spoil(data, struct.unpack_from(">i", data, 8)[0] + 12)
    file.write_bytes(data)


def wrong_checksum(data: bytearray, begin: int) -> None:
    data[begin + 70] ^= 255


def unknown_codec(data: bytearray, begin: int) -> None:
    data[begin + 22] |= 7


@pytest.mark.on_processes
def test_damaged_batches_are_passed_over_in_inputs_and_stop_a_log(tmp_path: Path, crm_url: str) -> None:
    """A dead letter names the range and the others are worked; a damaged log ends the process with what to do."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    with Cluster(1, backend="processes") as kafka:
        system = System(kafka.bootstrap, tmp_path, partitions=2)
        system.create()
        by_partition = [[name for name in map("c{}".format, range(40)) if partition_of(name, 2) == p] for p in (0, 1)]
        for first, second in zip(*by_partition, strict=False):
            if int(first[1:]) < 8 or int(second[1:]) < 8:
                system.publish(opened(first), opened(second))  # each a batch of its own
        stop_cleanly(kafka)
        for number, spoil in enumerate((wrong_checksum, unknown_codec)):
            damage(data_of(kafka, system, CONVERSATION_EVENTS, number), spoil)
        start_again(kafka)
        system.serve_until_idle()
        letters = [one["data"] for one in system.stored("dead-letters")]
        assert [(one["partition"], one["offset"], one["reason"]) for one in letters] == [
            (0, 1, "unreadable"),
            (1, 1, "unreadable"),
        ]
        assert all("offset 1 cannot be read: its checksum is wrong" in one["detail"] for one in letters)
        bad = {by_partition[0][1], by_partition[1][1]}
        written = {json.loads(r.value)["partitionkey"] for r in system.records(CONVERSATION_EVENTS) if r.value}
        asked = {one["partitionkey"] for one in system.stored("conversations.replies")}
        assert asked == written - bad
        system.audit()
        stop_cleanly(kafka)
        damage(data_of(kafka, system, "routing.log", 0), wrong_checksum)
        start_again(kafka)
        done = system.run("serve", "--policy", "p.toml")
        says(done, r"routing.log/0: offsets \d+ to \d+ cannot be read: its checksum is wrong.*restore the partition")


def stop_cleanly(kafka: Cluster) -> None:
    node = kafka[1]
    assert isinstance(node, ProcessNode)
    node.process.terminate()  # it trusts its files at the next start
    node.process.wait()


def start_again(kafka: Cluster) -> None:
    kafka[1].restart()
    kafka.wait_ready()


def data_of(kafka: Cluster, system: System, topic: str, partition: int) -> Path:
    node = kafka[1]
    assert isinstance(node, ProcessNode)
    return node.data / f"{system.prefix}{topic}-{partition}"


# --- topics that are not as they were ---


def given_way_out(system: System, sentence: str) -> Ended:
    """Run the command that a sentence ends with."""
    found = re.search(r"vip-router (topics skip .*) --reason TEXT$", sentence)
    assert found, sentence
    return system.run(*shlex.split(found[1]), "--reason", "this test deleted it")


def has_owners(system: System, count: int) -> bool:
    return len(system.owners()) >= count


def test_topics_that_are_missing_are_named(make: MAKE) -> None:
    """Whoever only reads makes nothing: the sentence names the topic and how it is made."""
    system = make()
    for command in (["audit", "verify"], ["dead-letters", "list"], ["topics", "skip", "crm.answers", "--partition",
                    "0", "--to", "start", "--reason", "x"]):  # fmt: skip
        done = system.run(*command)
        says(done, rf"there is no topic {system.prefix}\S+ on these brokers.*vip-router topics create")
    says(system.run("tail", "assignments"), "TOPIC: there is no topic 'assignments'", code=2)
    told = says(
        system.run("publish", "-", stdin=json_lines(customers(0, 3))), f"no topic {system.prefix}{CONVERSATION_EVENTS}"
    )
    assert "correct --topic-prefix, or make the topics with vip-router topics create" in told
    says(system.run("chat", "--no-serve"), f"there is no topic {system.prefix}")
    assert "11 topics would be made, 0 existed" in system.run("topics", "create", "--dry-run").out, "nobody made any"


@pytest.mark.parametrize(("topic", "count"), [("crm.answers", 2), ("assignment.requests", 3)])
def test_unequal_partition_counts_are_refused(make: MAKE, topic: str, count: int) -> None:
    """Records of a contact would not meet: nothing is decided."""
    system = make()
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    counts = {topic: count, CONVERSATION_EVENTS: 4, "agents.events": 1}
    for made in admin.create_topics([NewTopic(system.prefix + name, n, 1) for name, n in counts.items()]).values():
        made.result(timeout=TIMEOUT_S)
    wanted = "1 as PREFIXagents.events" if topic == "assignment.requests" else f"4 as PREFIX{CONVERSATION_EVENTS}"
    done = system.run("serve", "--policy", "p.toml")
    wanted = wanted.replace("PREFIX", system.prefix)
    says(done, rf"{system.prefix}{topic}: the number of partitions is {count}, not {wanted} has.*make the topics anew")


def test_an_input_topic_made_anew_under_a_running_router_stops_it_and_skip_goes_on(make: MAKE) -> None:
    """It ends with the command that goes on; that is recorded; what is published then is worked; the audits pass."""
    system = make(partitions=2)
    system.create()
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 40))
        wait_until(partial(has_owners, system, 40), "all assignments")
        refused = system.run(
            "topics", "skip", CONVERSATION_EVENTS, "--partition", "0", "--to", "start", "--reason", "x"
        )
        says(refused, "a serve works as router on this log: stop it first")
        remake(system, CONVERSATION_EVENTS, system.partitions)
        ended = serve.end()
    says(ended, f"{CONVERSATION_EVENTS}.*(the topic was made anew.*vip-router topics skip|was deleted: restore)")
    again = system.run("serve", "--policy", "p.toml")
    told = says(again, "the topic was made anew. Restore the topic from a copy that keeps offsets; if there is none")
    moved = set()
    for _ in range(system.partitions):
        wait_until(partial(is_free, system), "the group has forgotten it")
        done = given_way_out(system, told)
        assert done.code == 0, done.err
        moved.add(told)
        again = system.run("serve", "--policy", "p.toml", "--until-idle", "500ms")
        if again.code == 0:
            break
        told = says(again, "the topic was made anew")
    assert len(moved) == system.partitions
    system.publish(*customers(40, 20))
    system.serve_until_idle()
    system.check(names(0, 60), copies=True)
    skips = [one["data"]["skip"] for one in system.stored("routing.log") if "skip" in one["data"]]
    assert [(one["topic"], one["to"], one["reason"]) for one in skips] == [
        (CONVERSATION_EVENTS, 0, "this test deleted it")
    ] * system.partitions
    system.audit()


def is_free(system: System) -> bool:
    """Whether nobody is a member of the router's group any more."""

    async def ask() -> bool:
        async with KafkaLog(system.settings) as log:
            return not await log.is_owned("router")

    return asyncio.run(ask())


def test_partitions_added_to_an_input_topic_stop_a_running_router(make: MAKE) -> None:
    """The sentence names the topic as the brokers call it, both counts, and what to do; so does the next start."""
    system = make(partitions=2)
    system.create()
    with system.serving("--roles", "router") as serve:
        serve.wait_for("ready")
        admin = AdminClient({"bootstrap.servers": system.bootstrap})
        name = system.prefix + CONVERSATION_EVENTS
        for done in admin.create_partitions([NewPartitions(name, 3)]).values():
            done.result(timeout=TIMEOUT_S)
        says(
            serve.end(), f"{name} had 2 partitions and has 3 now: .* stop all producers and roles, make the topics anew"
        )
    again = system.run("serve", "--policy", "p.toml")
    says(
        again,
        f"{name}: the number of partitions is 3, not 2 as {system.prefix}routing.log has: .* make the topics anew",
    )


def test_an_input_topic_that_was_deleted_is_said(make: MAKE) -> None:
    """A router whose inputs are gone does not wait for ever."""
    system = make(partitions=2)
    system.create()
    with system.serving("--roles", "router") as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 5))
        asyncio.run(delete(system.settings, CONVERSATION_EVENTS))
        says(serve.end(), f"the topic {system.prefix}{CONVERSATION_EVENTS} was deleted: restore it from a copy")


@pytest.mark.parametrize("topic", ["routing.log", "assignments.log"])
def test_a_log_made_anew_under_a_running_router_stops_it(make: MAKE, topic: str) -> None:
    """What was decided is gone: nobody decides on top of that, also after a restart of nothing else."""
    system = make(partitions=4)
    system.create()
    with system.serving() as serve:
        serve.wait_for("ready")
        system.publish(*customers(0, 40))
        wait_until(partial(has_owners, system, 40), "all assignments")
        remake(system, topic, 4 if topic == "routing.log" else 1)
        with suppress(KafkaException):
            system.publish(*customers(40, 40))
        ended = serve.end()
    says(ended, rf"{topic}\S* .*(made anew under us|was deleted).*[Rr]estore")
    assert set(system.owners()) <= set(names(0, 80))


def remake(system: System, topic: str, count: int) -> None:
    """Delete a topic and make it again, empty."""
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    for done in admin.delete_topics([system.prefix + topic]).values():
        done.result(timeout=TIMEOUT_S)

    def made() -> bool:
        try:
            for done in admin.create_topics([NewTopic(system.prefix + topic, count, 1)]).values():
                done.result(timeout=TIMEOUT_S)
        except KafkaException:
            return False
        return True

    wait_until(made, "it is made anew")


def test_offsets_that_expired_stop_a_lane_and_skip_goes_on(make: MAKE) -> None:
    """Records were deleted before they were read: the sentence names the command, which passes over just those."""
    system = make(partitions=1)
    system.create()
    system.publish(*customers(0, 10))
    system.serve_until_idle()
    system.publish(*customers(10, 10))
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    for deleted in admin.delete_records([TopicPartition(system.prefix + CONVERSATION_EVENTS, 0, 15)]).values():
        deleted.result(timeout=TIMEOUT_S)
    told = says(
        system.run("serve", "--policy", "p.toml"),
        "conversations.events/0 holds offsets 15 to 20, and the log has decided all below 10: records were deleted",
    )
    wait_until(partial(is_free, system), "the group has forgotten it")
    done = given_way_out(system, told)
    assert done.out.startswith("conversations.events/0: goes on at 15, not at 10; recorded in routing.log/0@"), done
    system.serve_until_idle()
    system.check([*names(0, 10), *names(15, 5)], copies=False)
    system.audit()
