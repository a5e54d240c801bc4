"""Clients that are not ours: producers and plain consumers in other languages, with their default partitioners.

The Java client, librdkafka and a Node client write conversations at the same time, in both modes of CloudEvents, and
read who was assigned. A process of ours is between them, twice: the second goes on where the first has stopped.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from events.topics import partition_of
from tests.brokers.cluster import Cluster
from tests.clients import java, kafkajs, librdkafka
from tests.clients.wire import ClientUnavailableError, Wire, binary, structured
from tests.output_checks import check_log, check_outputs, owners_of
from tests.processes import ROOT, crm, event, opened, policy_text, run

CLIENTS = ("java", "librdkafka", "node")
EACH = 12  #: contacts of each client
PARTITIONS = 4
VIP_EVERY = 3
SOMEBODY = "carla"  #: whom the policy does not name: nobody is routed to her

Event = dict[str, Any]


class Day(NamedTuple):
    """What stands in the topics when the clients and two processes of ours have done their work."""

    bootstrap: str
    prefix: str
    program: Path  #: the Node client's
    inputs: Sequence[tuple[int, Wire]]
    replies: Sequence[Event]
    assignments: Sequence[Event]
    log: Sequence[Event]

    def topic(self, name: str) -> str:
        """What the brokers call a topic."""
        return self.prefix + name


def contacts(client: str) -> list[str]:
    return [f"{client}-{number}" for number in range(EACH)]


def address(contact: str) -> str:
    return f"{contact}@example.com"


def taken_by_hand(client: str) -> str:
    """The contact whose conversation somebody takes in the end."""
    return contacts(client)[1]


def vips() -> set[str]:
    return {contact for client in CLIENTS for contact in contacts(client)[::VIP_EVERY]}


def story(client: str) -> list[Wire]:
    """For each contact: opened, an answer without address, one with it; contacts take turns, modes of events too."""
    steps: list[Callable[[str], Event]] = [
        opened,
        lambda contact: message(contact, "m1", "pourquoi, s'il vous plaît ?"),
        lambda contact: message(contact, "m2", address(contact)),
    ]
    events = [step(contact) for step in steps for contact in contacts(client)]
    return [(binary if number % 2 else structured)(one) for number, one in enumerate(events)]


def message(contact: str, id: str, text: str) -> Event:
    data = {"message_id": id, "text": text}
    return event("message.received", contact, f"v-{contact}", data, id=f"{id}-{contact}")


def by_hand(client: str) -> list[Wire]:
    contact = taken_by_hand(client)
    return [binary(event("assignee.changed", contact, f"v-{contact}", {"agent": SOMEBODY}))]


def produce_all(day: Day, stories: Callable[[str], list[Wire]]) -> None:
    """All clients at once."""
    topic = day.topic("conversations.events")
    with ThreadPoolExecutor() as pool:
        writing = [
            pool.submit(java.produce, day.bootstrap, topic, stories("java")),
            pool.submit(librdkafka.produce, day.bootstrap, topic, stories("librdkafka")),
            pool.submit(kafkajs.produce, day.program, day.bootstrap, topic, stories("node")),
        ]
        for one in writing:
            one.result()


def serve(day: Day, folder: Path) -> None:
    """A process of ours, until it has nothing left to do."""
    variables = {"VIP_ROUTER_LOG": f"kafka://{day.bootstrap}", "VIP_ROUTER_TOPIC_PREFIX": day.prefix}
    done = run("serve", "--policy", "policy.toml", "--until-idle", "2s", cwd=folder, env=variables)
    assert done.code == 0, done.err


def read(day: Day, name: str) -> list[Event]:
    return [json.loads(record.value) for record in librdkafka.consume(day.bootstrap, day.topic(name))]


def repeat_first_assignments(day: Day) -> None:
    """Copies of old outputs at the end, as a process leaves them that was killed before it could note them as sent."""
    topic = day.topic("assignments")
    firsts: dict[str, tuple[int, Wire]] = {}
    for partition, record in librdkafka.placed(day.bootstrap, topic):
        firsts.setdefault(record.key, (partition, record))
    for client in CLIENTS:
        librdkafka.put(day.bootstrap, topic, *firsts[taken_by_hand(client)])


@pytest.fixture(scope="module")
def day(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The whole scenario, once."""
    folder = tmp_path_factory.mktemp("clients")
    started = Day(kafka.bootstrap, f"{uuid.uuid4().hex[:8]}.", kafkajs.install(folder), (), (), (), ())
    log = ("--log", f"kafka://{kafka.bootstrap}", "--topic-prefix", started.prefix)
    made = run("topics", "create", *log, "--partitions", str(PARTITIONS), cwd=folder)
    assert made.code == 0, made.err
    with crm(folder, {address(contact): {"customerType": "VIP"} for contact in vips()}) as url:
        (folder / "policy.toml").write_text(policy_text(url))
        produce_all(started, story)
        serve(started, folder)
        produce_all(started, by_hand)
        serve(started, folder)
    repeat_first_assignments(started)
    return started._replace(
        inputs=librdkafka.placed(kafka.bootstrap, started.topic("conversations.events")),
        replies=read(started, "conversations.replies"),
        assignments=read(started, "assignments"),
        log=run("tail", "routing.log", "--json", *log, cwd=folder).events,
    )


def by_contact(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for one in events:
        found[one["partitionkey"]].append(one)
    return found


def is_rerouted(record: Wire) -> bool:
    return any(name == "rerouted-from" for name, _ in record.headers)


def without_mark(record: Wire) -> Wire:
    """As its producer wrote it."""
    return record._replace(headers=tuple(header for header in record.headers if header[0] != "rerouted-from"))


@pytest.mark.parametrize("client", CLIENTS)
def test_every_conversation_comes_out_right(day: Day, client: str):
    """Asked, asked again, thanked, in this order; VIPs to their agent, the others to somebody; one decision each."""
    replies, assigned = by_contact(day.replies), by_contact(day.assignments)
    for contact in contacts(client):
        kinds = [one["data"]["kind"] for one in replies[contact] if one["type"] == "reply.requested"]
        assert kinds == ["ask", "retry", "success"], contact
        first = assigned[contact][0]["data"]
        assert first["route"] == ("vip" if contact in vips() else "regular")
        assert first["agent"] == "anna" or contact not in vips()
    check_outputs(day.replies, copies=False)
    check_outputs(day.assignments, copies=True)
    check_log(day.log)


def test_librdkafkas_records_on_foreign_partitions_are_sent_on_in_order(day: Day):
    """What CRC32 puts elsewhere stands again on the contact's partition, marked, in the order of its producer."""
    moved: dict[str, list[Wire]] = defaultdict(list)
    written: dict[str, list[Wire]] = defaultdict(list)
    for partition, record in day.inputs:
        if is_rerouted(record):
            assert partition == partition_of(record.key, PARTITIONS)
            moved[record.key].append(record)
        elif record.key.startswith("librdkafka") and partition != partition_of(record.key, PARTITIONS):
            written[record.key].append(record)
    assert 0 < len(written) < EACH, "some of its records are at home, some are not"
    assert moved.keys() == written.keys()
    for contact, records in moved.items():
        assert [without_mark(record) for record in records] == written[contact]


@pytest.mark.parametrize("client", ["java", "node"])
def test_the_default_partitioner_of_java_and_node_is_ours(day: Day, client: str):
    """Their records lie at home: nothing of them is sent on."""
    # A set: kafkajs is not idempotent by default, and writes a batch twice whose acknowledgement was late.
    records = {(partition, record) for partition, record in day.inputs if record.key.startswith(client)}
    assert len(records) == 3 * EACH + 1
    for partition, record in records:
        assert partition == partition_of(record.key, PARTITIONS)
        assert not is_rerouted(record)


def test_both_modes_of_cloudevents_were_written(day: Day):
    """Each client has written events as a whole, and with their attributes in headers."""
    for client in CLIENTS:
        modes = {dict(record.headers)["content-type"] for _, record in day.inputs if record.key.startswith(client)}
        assert modes == {"application/cloudevents+json", "application/json"}


def test_without_a_registry_the_node_client_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("registry", "http://127.0.0.1:9/"), ("cache", str(tmp_path)), ("fetch_retries", "0")):
        monkeypatch.setenv(f"npm_config_{name}", value)
    with pytest.raises(ClientUnavailableError, match="Make an npm registry reachable"):
        kafkajs.install(tmp_path)


# --- plain consumers ---


def readme_consumer() -> Callable[..., None]:
    """The consumer that the README shows."""
    found = re.search(r"```python\n(def consume\(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    consume: Callable[..., None] = names["consume"]
    return consume


def owners(events: Iterable[Mapping[str, Any]], consume: Callable[..., None]) -> dict[str, str]:
    """Who owns which contact's conversation, for a consumer that keeps a table."""
    table: dict[str, str] = {}

    def act(one: Mapping[str, Any]) -> None:
        contact = one["data"]["contact"]["id"]
        if one["type"] == "conversation.assigned":
            table[contact] = one["data"]["agent"]
        elif one["type"] == "conversation.released":
            table.pop(contact, None)

    last: dict[Any, Any] = {}
    for one in events:
        consume(one, last, act)
    return table


def expected_owners(day: Day) -> dict[str, str]:
    first = {contact: events[0]["data"]["agent"] for contact, events in by_contact(day.assignments).items()}
    return first | {taken_by_hand(client): SOMEBODY for client in CLIENTS}


def test_the_readmes_consumer_on_the_java_client_ends_with_one_owner_each(day: Day):
    """A dozen lines over what the Java client reads, repeated outputs included, end with whom the router named last."""
    records = java.consume(day.bootstrap, day.topic("assignments"), len(day.assignments))
    found = owners([json.loads(record.value) for record in records], readme_consumer())
    assert found == expected_owners(day)


def test_the_readmes_consumer_on_librdkafka_ends_with_one_owner_each(day: Day):
    assert owners(day.assignments, readme_consumer()) == expected_owners(day)


def test_the_readmes_consumer_keeps_one_table_for_both_topics(day: Day):
    """Every output is acted on once; replies and assignments share ids, and places of a conversation."""
    acted: list[tuple[str, str]] = []
    last: dict[Any, Any] = {}
    consume = readme_consumer()
    for one in (*day.replies, *day.assignments):
        consume(one, last, lambda event: acted.append((event["source"], event["id"])))
    assert len(acted) == len(set(acted))
    assert set(acted) == {(one["source"], one["id"]) for one in (*day.replies, *day.assignments)}
    assert len({name for _, name in acted}) < len(acted), "ids alone are not enough here"


def test_a_plain_node_consumer_ends_with_one_owner_each(day: Day):
    found = kafkajs.owners(day.program, day.bootstrap, day.topic("assignments"), len(day.assignments))
    assert found == expected_owners(day)


def test_a_consumer_that_drops_nothing_ends_with_a_wrong_owner(day: Day):
    """The rule is needed: what stands there again would undo what came after it."""
    found = owners(day.assignments, lambda one, _last, act: act(one))
    wrong = {contact for contact, agent in expected_owners(day).items() if found.get(contact) != agent}
    assert wrong == {taken_by_hand(client) for client in CLIENTS}


def test_nobody_was_routed_twice(day: Day):
    """Beside what somebody took by hand, each contact was assigned by one decision."""
    routed = [one for one in day.assignments if one["data"].get("agent") != SOMEBODY]
    assert owners_of(routed).keys() == {contact for client in CLIENTS for contact in contacts(client)}
