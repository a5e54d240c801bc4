"""Logs to audit: real lanes over a real log, a clock that the test moves, a CRM that answers at once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import orjson
from msgspec import msgpack

from consumers.lane import Lane
from consumers.lane_spec import LaneLimits
from consumers.policy_book import PolicyBook
from consumers.specs import ASSIGNER, ROUTER
from events import topics
from events.log import Log, NewRecord, TopicPartition
from events.records import hash_of
from events.sqlite.log import SqliteLog
from events.times import format_time
from events.topics import partition_of
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text

START_MS = 1_795_300_000_000
LIMITS = LaneLimits(wait_max_s=0.002, clock_stop_ms=10**15, clock_warn_ms=10**15)
TURNS_MAX = 20_000


def policy(*changes: tuple[str, str]) -> Policy:
    """The template's policy with lines of it changed."""
    text = template_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_policy(text, source="test")


class Town:
    """A log with its lanes; ``async with`` runs them."""

    def __init__(self, log: Log, policies: dict[str, Policy], *, contacts: int = 2, workspaces: int = 1) -> None:
        self.log = log
        self.counts = {"contacts": contacts, "workspaces": workspaces}
        self.book = PolicyBook(policies)
        self.now_ms = START_MS
        self.published = 0
        self._ids = 0
        self._asked: dict[int, int] = dict.fromkeys(range(contacts), 0)
        self.crm: dict[str, Any] = {}  #: variables by contact; an int is a status, a str a failure
        self.personal: frozenset[str] = frozenset()  #: names of variables that the CRM's answers keep apart

    async def __aenter__(self) -> Self:
        await self.log.create_topics(topics.partition_counts(**self.counts))
        self._begin()
        await self.settle()
        return self

    def _begin(self) -> None:
        self._stop = asyncio.Event()
        self.lanes = [
            Lane(self.log, spec, number, self.book, clock=lambda: self.now_ms, limits=LIMITS)
            for spec, count in ((ROUTER, self.counts["contacts"]), (ASSIGNER, self.counts["workspaces"]))
            for number in range(count)
        ]
        self._tasks = [asyncio.create_task(lane.run(self._stop)) for lane in self.lanes]

    async def crash(self) -> None:
        """The lanes end wherever they are, and others take over: they publish again what is not marked as out."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._begin()
        await self.settle()

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def settle(self) -> None:
        """Until everything that was published, and what follows from it, is decided and out."""
        quiet = 0
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0.0005)
            for task in self._tasks:
                if task.done():
                    task.result()
            if all(lane.is_idle() for lane in self.lanes) and await self._caught_up():
                quiet += 1
                if quiet < 3:
                    continue
                if not await self._answer():
                    return
            quiet = 0
        raise AssertionError("the lanes do not come to rest")

    async def _caught_up(self) -> bool:
        for lane in self.lanes:
            for topic in lane._spec.decoders:
                place = TopicPartition(topic, lane._place.partition)
                if lane._positions[topic] < await self.log.end_offset(place):
                    return False
            due = lane._state.next_due_ms()
            if due is not None and due <= self.now_ms:
                return False
        return True

    async def _answer(self) -> bool:
        """The CRM answers what was asked since the last time."""
        answers: list[NewRecord] = []
        for number, position in self._asked.items():
            place = TopicPartition(topics.ROUTING_LOG, number)
            fetched = await self.log.read(place, position, records_max=10_000)
            self._asked[number] = fetched.offset_next
            for stored in fetched.records:
                event = orjson.loads(stored.value or b"")
                if "lookup" in event["data"]:
                    answers += self._answer_to(event, number)
        if answers:
            await self.log.publish(answers)
        return bool(answers)

    def _answer_to(self, event: dict[str, Any], partition: int) -> list[NewRecord]:
        contact = event["partitionkey"]
        known = self.crm.get(contact, {"customer_type": "regular"})
        if known is None:
            return []
        data: dict[str, Any] = {"lookup_id": event["data"]["lookup"]["id"], "attempts": 1}
        if isinstance(known, str):
            kind, data = "crm.failed", {**data, "reason": known}
        else:
            status, variables = (known, {}) if isinstance(known, int) else (200, known)
            apart = {name: value for name, value in variables.items() if name in self.personal}
            variables = {name: value for name, value in variables.items() if name not in apart}
            kind, data = "crm.answered", {**data, "status": status, "variables": variables, "latency_ms": 3}
            if apart:
                data["personal_variables"] = apart
        value = self._event(
            kind, f"{event['id'][:-2]}/crm", event["subject"], contact, data, event["workspace"], "/vip-router/crm"
        )
        return [NewRecord(topics.CRM_ANSWERS, partition, contact.encode(), value)]

    def _event(
        self, kind: str, id: str, subject: str | None, key: str, data: Any, workspace: str, source: str
    ) -> bytes:
        event = {
            "specversion": "1.0", "id": id, "source": source, "type": kind, "time": format_time(self.now_ms),
            "partitionkey": key, "workspace": workspace, "data": data,
        }  # fmt: skip
        if subject is not None:
            event["subject"] = subject
        return orjson.dumps(event)

    async def tell(
        self, kind: str, subject: str | None, who: str, /, *, workspace: str = "default", id: str = "", **data: Any
    ) -> None:
        """Publish an event of a conversation, a second after the one before; does not wait."""
        self.now_ms += 1_000
        self._ids += 1
        if kind == "message.received":
            data.setdefault("message_id", f"m{self._ids}")
            data.setdefault("sent_at", format_time(self.now_ms))
        value = self._event(kind, id or f"e{self._ids}", subject, who, data, workspace, "/chat")
        partition = partition_of(who, self.counts["contacts"])
        await self.log.publish([NewRecord(topics.CONVERSATION_EVENTS, partition, who.encode(), value)])

    async def agent(self, kind: str, agent: str, *, workspace: str = "default", **data: Any) -> None:
        """Publish an event of an agent."""
        self.now_ms += 1_000
        self._ids += 1
        value = self._event(kind, f"a{self._ids}", agent, workspace, data, workspace, "/desk")
        partition = partition_of(workspace, self.counts["workspaces"])
        await self.log.publish([NewRecord(topics.AGENT_EVENTS, partition, workspace.encode(), value)])

    async def passes(self, ms: int) -> None:
        """Time passes, and every deadline in it fires."""
        self.now_ms += ms
        await self.settle()


async def ordinary_day(town: Town) -> None:
    """A few conversations with everything that a log usually holds: at least one of each kind of record."""
    await town.agent("agent.updated", "sam", teams=["support"], max_open=2)
    await town.agent("agent.updated", "tess", teams=["support", "managers"], max_open=3)
    await town.agent("agent.updated", "maya", teams=["managers"], email="maya@example.com", name="Maya Berg")
    town.crm.update(c1={"customer_type": "VIP"}, c4="time-out", c5=404)
    await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1", "name": "Ann Lee", "language": "fr"},
                    channel={"type": "whatsapp", "id": "w1"})  # fmt: skip
    await town.settle()
    town.now_ms += 10_000
    await town.tell("message.received", "v1", "c1", text="no thanks")
    await town.settle()
    town.now_ms += 10_000
    await town.tell("message.received", "v1", "c1", text="all right: ann.lee@example.com")
    await town.settle()
    for number in range(2, 9):
        await town.tell("conversation.opened", f"v{number}", f"c{number}",
                        contact={"id": f"c{number}", "email": f"c{number}@example.com"})  # fmt: skip
        await town.settle()  # one by one: over partitions, nobody promises an order
    await town.tell("conversation.opened", "v1b", "c1", contact={"id": "c1"})
    await town.tell("conversation.opened", "v9", "c9", contact={"id": "c9"}, opened_by="workflow")
    await town.tell("conversation.opened", "v10", "c10", contact={"id": "c10"})
    await town.tell("assignee.changed", "v2", "c2", agent="sam")
    await town.tell("message.received", "v77", "c77", text="hello?")
    await town.settle()
    await town.agent("agent.presence", "sam", status="away")
    await town.agent("agent.removed", "tess")
    await town.settle()
    await town.tell("contact.updated", None, "c10", contact={"id": "c10", "email": "ten@example.com"})
    await town.tell("conversation.closed", "v3", "c3", reason="solved")
    await town.settle()
    await town.tell("conversation.closed", "v4", "c4", reason="solved")
    await town.settle()
    await town.tell("conversation.opened", "v3", "c3", contact={"id": "c3"})
    await town.settle()
    await town.tell("conversation.opened", "v11", "c11", contact={"id": "c11"})
    await town.settle()
    await town.passes(13 * 3_600_000)


async def random_day(town: Town, seed: int, steps: int) -> None:
    """Anything, in any order, in two workspaces."""
    dice = random.Random(seed)
    spaces = town.book.workspaces()
    town.crm.update({f"c{n}": dice.choice([{"customer_type": "VIP"}, {"customer_type": "x"}, 404, "dns", None])
                     for n in range(12)})  # fmt: skip
    for _ in range(steps):
        space, n = dice.choice(spaces), dice.randrange(12)
        contact, conversation = f"c{n}", f"v{n}-{dice.randrange(3)}"
        kind = dice.choices(
            [
                "open",
                "message",
                "close",
                "take",
                "update",
                "agent",
                "presence",
                "removed",
                "failed",
                "time",
                "crash",
                "settle",
            ],
            [6, 8, 3, 2, 1, 2, 3, 1, 1, 1, 1, 4],
        )[0]
        if kind == "open":
            who: dict[str, Any] = {"id": contact}
            if dice.random() < 0.5:
                who["email"] = f"{contact}@example.com"
            if dice.random() < 0.3:
                who["name"] = "Ann Lee"
            extra = {"agent": "sam"} if dice.random() < 0.1 else {}
            by = dice.choice(["contact", "contact", "contact", "user"])
            await town.tell(
                "conversation.opened", conversation, contact, workspace=space, contact=who, opened_by=by, **extra
            )
        elif kind == "message":
            text = dice.choice(["hm", "stop", f"{contact}@example.org", "a@example.com b@example.com", None])
            sender = dice.choice(["contact", "contact", "contact", "agent", "bot"])
            town.now_ms += dice.choice([0, 60_000])
            more = {"agent": "tess"} if sender == "agent" else {}
            await town.tell(
                "message.received", conversation, contact, workspace=space, text=text, sender=sender, **more
            )
        elif kind == "close":
            await town.tell("conversation.closed", dice.choice([conversation, None]), contact, workspace=space)
        elif kind == "take":
            agent = dice.choice(["sam", "tess", "zoe", None])
            await town.tell("assignee.changed", conversation, contact, workspace=space, agent=agent)
        elif kind == "update":
            record = {"id": contact, "email": dice.choice([None, f"{contact}@example.net"])}
            await town.tell("contact.updated", None, contact, workspace=space, contact=record)
        elif kind == "agent":
            await town.agent("agent.updated", dice.choice(["sam", "tess", "maya"]), workspace=space,
                             teams=dice.choice([["support"], ["managers", "support"], []]),
                             max_open=dice.choice([None, 0, 1, 3]))  # fmt: skip
        elif kind == "presence":
            status = dice.choice(["online", "away", "offline"])
            await town.agent("agent.presence", dice.choice(["sam", "tess", "anna"]), workspace=space, status=status)
        elif kind == "removed":
            await town.agent("agent.removed", dice.choice(["sam", "tess"]), workspace=space)
        elif kind == "failed":
            await town.tell("reply.failed", conversation, contact, workspace=space,
                            reply=f"{contact}/{conversation}/{dice.randrange(1, 4)}/1", reason="blocked")  # fmt: skip
        elif kind == "time":
            await town.passes(dice.choice([20_000, 3_600_000, 13 * 3_600_000, 31 * 86_400_000]))
        elif kind == "crash":
            await town.crash()
        else:
            await town.settle()
    await town.settle()


class Tampered:
    """A SQLite log that somebody edits behind our back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def tp(self, topic: str, partition: int) -> int:
        ((first,),) = self.sql("SELECT first FROM topic WHERE name = ?", topic)
        return int(first) + partition

    def records(self, topic: str, partition: int) -> list[dict[str, Any]]:
        rows = self.sql('SELECT value FROM record WHERE tp = ? ORDER BY "offset"', self.tp(topic, partition))
        return [orjson.loads(value) for (value,) in rows]

    def find(self, topic: str, type: str, **data: Any) -> tuple[int, int]:
        """Partition and offset of the first record of this type and with this data."""
        for partition in range(8):
            try:
                tp = self.tp(topic, partition)
            except ValueError:
                break
            for offset, value in self.sql('SELECT "offset", value FROM record WHERE tp = ? ORDER BY 1', tp):
                event = orjson.loads(value)
                if event["type"] == type and all(event["data"].get(k.rstrip("_")) == v for k, v in data.items()):
                    return partition, offset
        raise AssertionError(f"no {type} on {topic}")

    def event(self, topic: str, partition: int, offset: int) -> dict[str, Any]:
        ((value,),) = self.sql(
            'SELECT value FROM record WHERE tp = ? AND "offset" = ?', self.tp(topic, partition), offset
        )
        event: dict[str, Any] = orjson.loads(value)
        return event

    def put(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        self.sql('UPDATE record SET value = ? WHERE tp = ? AND "offset" = ?', value, self.tp(topic, partition), offset)

    def remove(self, topic: str, partition: int, offset: int) -> None:
        self.sql('DELETE FROM record WHERE tp = ? AND "offset" = ?', self.tp(topic, partition), offset)

    def headers(self, topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
        ((packed,),) = self.sql(
            'SELECT headers FROM record WHERE tp = ? AND "offset" = ?', self.tp(topic, partition), offset
        )
        return msgpack.decode(packed, type=list[tuple[str, bytes]])

    def put_headers(self, topic: str, partition: int, offset: int, headers: Sequence[tuple[str, bytes]]) -> None:
        self.sql(
            'UPDATE record SET headers = ? WHERE tp = ? AND "offset" = ?',
            msgpack.encode(list(headers)), self.tp(topic, partition), offset,
        )  # fmt: skip

    def forge(self, topic: str, partition: int, offset: int, event: dict[str, Any]) -> None:
        """Exchange a log record and repair every hash behind it: the chain and its conversation's ``prev``."""
        self.put(topic, partition, offset, orjson.dumps(event))
        self.rehash(topic, partition)

    def rehash(self, topic: str, partition: int) -> None:
        """Make ``after``, ``prev`` and ``expected-offset`` right again, from the beginning on."""
        tp = self.tp(topic, partition)
        after = ""
        last: dict[tuple[str, str | None, str], str] = {}
        for (offset,) in self.sql('SELECT "offset" FROM record WHERE tp = ? ORDER BY 1', tp):
            event = self.event(topic, partition, offset)
            if "seq" in event["data"]:
                subject = (event["id"].split("/")[0], event.get("subject"), event["workspace"])
                event["data"]["prev"] = last.get(subject)
                value = orjson.dumps(event)
                self.put(topic, partition, offset, value)
                last[subject] = hash_of(value)
            ((value,),) = self.sql('SELECT value FROM record WHERE tp = ? AND "offset" = ?', tp, offset)
            own = {"after": after.encode(), "expected-offset": b"%d" % offset}
            headers = [(name, own.get(name, old)) for name, old in self.headers(topic, partition, offset)]
            self.put_headers(topic, partition, offset, headers)
            after = hash_of(value)

    def append(self, topic: str, partition: int, event: dict[str, Any]) -> int:
        """Append a record as an append of its own, linked as it must be; returns its offset."""
        tp = self.tp(topic, partition)
        ((end,),) = self.sql('SELECT "end" FROM partition WHERE tp = ?', tp)
        last = self.event(topic, partition, end - 1)
        event["time"] = event["data"]["at"] = last["time"]
        subject = (event["id"].split("/")[0], event["subject"])
        seqs = [
            (record["data"]["seq"], hash_of(orjson.dumps(record)))
            for record in self.records(topic, partition)
            if "seq" in record["data"] and (record["id"].split("/")[0], record.get("subject")) == subject
        ]
        seq, prev = seqs[-1] if seqs else (0, None)
        event["data"].update(seq=seq + 1, prev=prev)
        event["id"] = f"{subject[0]}/{subject[1]}/{seq + 1}/0"
        own = {"after": hash_of(orjson.dumps(last)).encode(), "expected-offset": b"%d" % end}
        headers = [(name, own.get(name, old)) for name, old in self.headers(topic, partition, end - 1)]
        self.sql(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)",
            tp, end, START_MS, event["partitionkey"].encode(), orjson.dumps(event), msgpack.encode(headers),
        )  # fmt: skip
        self.sql('UPDATE partition SET "end" = ? WHERE tp = ?', end + 1, tp)
        return int(end)

    def insert(self, topic: str, partition: int, offset: int, *, copy_of: int, value: bytes | None = None) -> None:
        """Put a copy of a record at an offset, with another value if there is one; what stands there moves on."""
        tp = self.tp(topic, partition)
        row = self.sql('SELECT time_ms, key, value, headers FROM record WHERE tp = ? AND "offset" = ?', tp, copy_of)[0]
        behind = self.sql('SELECT "offset" FROM record WHERE tp = ? AND "offset" >= ? ORDER BY 1 DESC', tp, offset)
        for (old,) in behind:
            self.sql('UPDATE record SET "offset" = ? WHERE tp = ? AND "offset" = ?', old + 1, tp, old)
        self.sql("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", tp, offset, row[0], row[1], value or row[2], row[3])
        self.sql('UPDATE partition SET "end" = "end" + 1 WHERE tp = ?', tp)

    def cut(self, topic: str, partition: int, end: int) -> None:
        """Remove everything from an offset on, as if it had never been there."""
        tp = self.tp(topic, partition)
        self.sql('DELETE FROM record WHERE tp = ? AND "offset" >= ?', tp, end)
        self.sql('UPDATE partition SET "end" = ? WHERE tp = ?', end, tp)


def make_day(path: Path) -> Path:
    """``ordinary_day`` as a SQLite file: two partitions by contact, one by workspace."""

    async def run() -> None:
        log = SqliteLog(path, create=topics.partition_counts(2, 1), clock_ms=lambda: START_MS)
        async with log, Town(log, {"default": policy()}) as town:
            await ordinary_day(town)

    asyncio.run(run())
    return path
