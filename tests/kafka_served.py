"""A system of ours on a cluster: its processes, its topics, and what stands in them, for tests of the whole command."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from prometheus_client.parser import text_string_to_metric_families

from consumers.audit.replay import replay
from consumers.audit.verify import verify
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings, kafka_settings
from events.log import NewRecord, StoredRecord, TopicPartition
from events.topics import CONVERSATION_EVENTS, partition_counts, partition_of
from tests.kafka_given import everything
from tests.output_checks import check_log, check_outputs, owners_of
from tests.processes import DEADLINE_S, Ended, Running, event, opened, run

CUSTOMERS = 400
CONTACTS: dict[str, dict[str, Any]] = {
    f"c{n}@example.com": {"customerType": "VIP" if n % 3 == 0 else "standard"} for n in range(CUSTOMERS)
}
IDLE = ("--until-idle", "1s")
LINES_MAX = 150  #: what a process may say on stderr in a test; one that spins says thousands

Event = dict[str, Any]


class System:
    """Topics with a prefix of their own, and a folder with a policy ``p.toml``."""

    def __init__(self, bootstrap: str, folder: Path, *, partitions: int = 4, **variables: str) -> None:
        self.folder = folder
        self.partitions = partitions
        self.prefix = f"{uuid.uuid4().hex[:8]}."
        self.bootstrap = bootstrap
        self.variables = {"SESSION_TIMEOUT": "3s", "REQUEST_TIMEOUT": "2s", **variables}

    @property
    def env(self) -> dict[str, str]:
        """The environment of its commands."""
        return {
            "VIP_ROUTER_LOG": f"kafka://{self.bootstrap}",
            "VIP_ROUTER_TOPIC_PREFIX": self.prefix,
            "VIP_ROUTER_PARTITIONS": str(self.partitions),
            **{f"VIP_ROUTER_KAFKA_{name}": value for name, value in self.variables.items()},
        }

    @property
    def settings(self) -> KafkaSettings:
        """How the tests themselves reach it."""
        return kafka_settings(f"kafka://{self.bootstrap}", {}, topic_prefix=self.prefix)

    # --- commands ---

    def run(self, *arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        """A command, to its end."""
        return run(*arguments, cwd=self.folder, stdin=stdin, env={**self.env, **variables})

    def create(self) -> None:
        """Its topics."""

        async def make() -> None:
            async with KafkaLog(self.settings, create=partition_counts(self.partitions, 1)):
                pass

        asyncio.run(make())

    def serving(self, *arguments: str, **variables: str) -> Running:
        """A ``serve``."""
        env = {**self.env, **variables}
        return Running("serve", "--policy", "p.toml", "-v", *arguments, cwd=self.folder, env=env)

    def serve_until_idle(self, *arguments: str) -> Ended:
        """A ``serve`` that does all there is; fails unless it ends well."""
        done = self.run("serve", "--policy", "p.toml", *IDLE, *arguments)
        assert done.code == 0, done.err
        return done

    def audit(self) -> None:
        """``verify`` and ``replay`` have nothing to object to."""

        async def look() -> None:
            async with KafkaLog(self.settings) as log:
                for audit in (verify, replay):
                    report = await audit(log)
                    assert report.passed, report.first_difference

        asyncio.run(look())

    # --- topics ---

    def publish(self, *events: Mapping[str, Any]) -> None:
        """Events where they belong, written as ``publish`` writes them."""
        self.write(*(self.record(one["partitionkey"], json.dumps(one).encode()) for one in events))

    def record(self, contact: str, value: bytes | None, key: bytes | None = None) -> NewRecord:
        """A record of ``conversations.events`` on the partition of a contact."""
        place = TopicPartition(CONVERSATION_EVENTS, partition_of(contact, self.partitions))
        return NewRecord(*place, contact.encode() if key is None else key, value)

    def write(self, *records: NewRecord) -> None:
        """Records as they are."""

        async def write() -> None:
            async with KafkaLog(self.settings) as log:
                await log.publish(records)

        asyncio.run(write())

    def records(self, topic: str) -> list[StoredRecord]:
        """All that stands in a topic and exists, partition after partition."""

        async def read() -> list[StoredRecord]:
            async with KafkaLog(self.settings) as log:
                places = [TopicPartition(topic, number) for number in range(await log.partition_count(topic))]
                return [record for place in places for record in await everything(log, place)]

        return asyncio.run(read())

    def stored(self, topic: str) -> list[Event]:
        """The events of a topic."""
        return [json.loads(record.value) for record in self.records(topic) if record.value is not None]

    def owners(self) -> dict[str, str]:
        """Who got which contact so far; fails if one was assigned twice."""
        return owners_of(self.stored("assignments"))

    def check(self, contacts: Sequence[str], *, copies: bool) -> None:
        """Each of ``contacts`` has one owner and nobody else has, VIPs their agent; outputs and logs are in order."""
        found = self.owners()
        assert set(found) == set(contacts), "nothing is missing, nothing came out of nowhere"
        wrong = [contact for contact in contacts if int(contact[1:]) % 3 == 0 and found[contact] != "anna"]
        assert wrong == []
        for topic in ("assignments", "conversations.replies", "assignment.requests"):
            check_outputs(self.stored(topic), copies=copies)
        for topic in ("routing.log", "assignments.log"):
            check_log(self.stored(topic))


def customers(first: int = 0, count: int = CUSTOMERS) -> list[Event]:
    """Openings of contacts whose address is known."""
    return [opened(f"c{n}", email=f"c{n}@example.com") for n in range(first, first + count)]


def names(first: int = 0, count: int = CUSTOMERS) -> list[str]:
    """The contacts of ``customers``."""
    return [f"c{n}" for n in range(first, first + count)]


def everywhere(word: str, partitions: int) -> list[Event]:
    """Openings without address, one of a contact on each partition."""
    found: dict[int, Event] = {}
    number = 0
    while len(found) < partitions:
        contact = f"{word}{number}"
        found.setdefault(partition_of(contact, partitions), opened(contact))
        number += 1
    return list(found.values())


def message(contact: str, number: int, text: str) -> Event:
    """A message of a contact in the conversation that ``opened`` makes."""
    data = {"message_id": f"m{number}", "text": text}
    return event(
        "message.received", contact, f"v-{contact}", data, id=f"m-{contact}-{number}", time="2099-01-01T00:00:00Z"
    )


def set_topic(system: System, topic: str, **settings: str) -> None:
    """Change settings of a topic, with ``_`` for ``.`` in their names; the others stay."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, system.prefix + topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": system.bootstrap})  # its answers come only while it is held
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(timeout=DEADLINE_S)


def says(ended: Ended, sentence: str, *, code: int = 3) -> str:
    """The process ended with this code and, after few words, this sentence; gives the line."""
    assert ended.code == code, ended.err
    lines = ended.err.splitlines()
    assert len(lines) < LINES_MAX
    assert "Traceback" not in ended.err
    assert lines[-1].startswith("vip-router: ")
    assert re.search(sentence, lines[-1]), lines[-1]
    return lines[-1]


class Metrics:
    """The port that a ``serve --metrics 0`` has."""

    def __init__(self, process: Running) -> None:
        process.wait_for("metrics on http://127.0.0.1:")
        (line,) = [line for line in process.lines["err"] if "metrics on http" in line]
        self._port = int(line.rsplit(":", 1)[1].removesuffix("/metrics"))

    def get(self, path: str) -> bytes:
        """What it answers, whatever the status."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def readiness(self) -> dict[str, Any]:
        """What ``/readyz`` says."""
        told: dict[str, Any] = json.loads(self.get("/readyz"))
        return told

    def partitions(self, role: str) -> set[int]:
        """Those of a role that this process works on and has taken over."""
        told = self.readiness()["roles"].get(role, {"partitions": {}})["partitions"]
        return {int(number) for number, state in told.items() if state == "ready"}

    def samples(self) -> dict[str, float]:
        """The figures, those of one name added up."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics").decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0) + sample.value
        return found


def memory_bytes(process: Running) -> int:
    """What a process holds in memory now."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def worked_on(process: Running, role: str) -> list[set[int]]:
    """The partitions of a role that a process has had, in turn, as it says itself."""
    told = [re.search(rf"{role}: works on partitions \[(.*)\]", line) for line in process.lines["err"]]
    return [{int(number) for number in found[1].split(", ") if number} for found in told if found]
