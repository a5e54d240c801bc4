"""Desks to report on: random histories of a workspace, their records as lines of the log, and a log made by lanes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from consumers.desk.ledger import Ledger
from consumers.desk.lines import Line, read_line
from consumers.desk.periods import By
from consumers.desk.reports import PeriodReport, period_report
from events import topics
from events.log import StoredRecord
from events.sqlite.log import SqliteLog
from events.times import format_time
from events.topics import ASSIGNMENTS_LOG
from routing.decider import LogRecord
from routing.inputs import (
    AgentPresence,
    AgentRemoved,
    AgentsConfigured,
    AgentUpdated,
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentTaken,
    PoolTarget,
    RouteTarget,
)
from routing.workspace_parts import RULES, ConversationId
from tests.audit_support import START_MS, Town, policy
from tests.workspace_given import MANAGERS, Lane, requested

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
AGENTS: Final = ("anna", "bob", "cleo", "dora", "eve")
TARGETS: Final = (
    RouteTarget(team="s"),
    RouteTarget(team="s", strategy="least-open", wait_max_ms=5 * HOUR_MS),
    RouteTarget(team="t", only_online=False, sticky_ms=2 * DAY_MS),
    RouteTarget(workspace=True, strategy="longest-idle", promote_after_ms=HOUR_MS),
    RouteTarget(
        agent="anna",
        fallback=PoolTarget(team="t", only_online=False),
        fallback_after_ms=HOUR_MS,
        wait_max_ms=9 * HOUR_MS,
    ),
    RouteTarget(
        team="s",
        accept_ms=HOUR_MS // 2,
        fallback=PoolTarget(team="t", only_online=False),
        fallback_after_ms=2 * HOUR_MS,
    ),
    RouteTarget(team="t", strategy="least-open", skills=("tax",), match_language=True, relax_after_ms=3 * HOUR_MS),
    RouteTarget(workspace=True, sticky_ms=DAY_MS, match_language=True),
    RouteTarget(team="s", sticky_ms=3 * DAY_MS, strategy="least-open"),
)


def stored_of(record: LogRecord) -> StoredRecord:
    """A record as the log has it, without headers."""
    event = {
        "id": f"{record.contact}/{record.subject}/{record.data['seq']}/0",
        "type": record.type,
        "subject": record.subject,
        "time": format_time(record.at_ms),
        "partitionkey": record.contact or record.workspace,
        "workspace": record.workspace,
        "data": record.data,
    }
    return StoredRecord(ASSIGNMENTS_LOG, 0, record.offset, b"", orjson.dumps(event), (), record.at_ms)


def lines_of(records: Sequence[LogRecord]) -> list[Line]:
    """Records as the ledger reads them."""
    return [read_line(stored_of(record)) for record in records]


def reports_of(lines: Sequence[Line], by: By, *, since_ms: int = 0, until_ms: int) -> list[PeriodReport]:
    """What the ledger says of these lines."""
    reports: list[PeriodReport] = []
    ledger = Ledger(by, lambda closed: reports.append(period_report(closed)), since_ms=since_ms)
    for line in lines:
        if line.at_ms < until_ms:
            ledger.take(line)
    ledger.close(until_ms)
    return reports


def random_desk(seed: int, steps: int = 150) -> Lane:
    """Some days of a desk where anything may happen."""
    dice = random.Random(seed)
    lane = Lane(now_ms=START_MS)
    for _ in range(steps):
        talk, agent = f"{dice.choice('pq')}{dice.randrange(12)}", dice.choice(AGENTS)
        contact = talk[0] + str(int(talk[1:]) // 2)
        kind = dice.choices(
            ["ask", "end", "take", "agent", "presence", "removed", "answer", "rules", "time"],
            [8, 6, 1, 2, 3, 0.2, 5, 0.5, 6],
        )[0]
        if kind == "ask":
            route: Any = dice.choice(["vip", "regular", "escalated"])
            body = requested(
                dice.choice(TARGETS), route=route, escalation=dice.choice([None, MANAGERS]),
                language=dice.choice(["en", "pt-BR"]), join=dice.choice([None, None, talk[0] + str(int(talk[1:]) ^ 1)]),
            )  # fmt: skip
            lane.tell(lane.request(body, talk, contact))
        elif kind == "end":
            lane.tell(lane.request(AssignmentEnded(reason="closed"), talk, contact))
        elif kind == "take":
            lane.tell(lane.request(AssignmentTaken(agent=dice.choice([None, agent, "stranger"])), talk, contact))
        elif kind == "agent":
            record = AgentUpdated(
                teams=dice.choice([("s",), ("t",), ("managers", "s", "t"), ()]), max_open=dice.choice([None, 0, 2, 4]),
                weight=dice.choice([1, 1, 2]), languages=dice.choice([(), ("en",), ("pt",)]),
                skills=dice.choice([(), ("tax",)]), wrap_up_ms=dice.choice([None, HOUR_MS]),
            )  # fmt: skip
            lane.tell(lane.agent_event(record, agent))
        elif kind == "presence":
            status: Any = dice.choice(["online", "online", "online", "away", "offline"])
            lane.tell(lane.agent_event(AgentPresence(status=status), agent))
        elif kind == "removed":
            lane.tell(lane.agent_event(AgentRemoved(), agent))
        elif kind == "answer":
            _answer(lane, dice)
        elif kind == "rules":
            rules: dict[str, Any] = {"wrap_up_ms": dice.choice([None, HOUR_MS]), "rules": RULES}
            lane.tell(lane.agent_event(AgentsConfigured(max_open=dice.choice([1, 3]), **rules), None))
        else:
            lane.passes(dice.randrange(4 * HOUR_MS))
    lane.passes(HOUR_MS)
    return lane


def _answer(lane: Lane, dice: random.Random) -> None:
    """Somebody accepts or declines what he is offered, if anybody is offered anything."""
    offered = [
        (record.contact, str(record.subject))
        for record in lane.records[-30:]
        if record.type == "assignment.offered" and lane.part(str(record.subject), record.contact).status == "offered"
    ]
    if offered:
        contact, talk = dice.choice(offered)
        part = lane.part(talk, contact)
        assert part.offer is not None
        answer = AssignmentAccepted if dice.random() < 0.7 else AssignmentDeclined
        body = answer(conversation=talk, contact=contact, token=part.offer.token)
        lane.tell(lane.agent_event(body, part.agent))


def make_desk(path: Path) -> Path:
    """A morning of a desk as a SQLite log, made by real lanes: somebody waits, somebody is asked, a lease ends."""

    async def run() -> None:
        log = SqliteLog(path, create=topics.partition_counts(1, 1), clock_ms=lambda: START_MS)
        rules = policy(
            ('team = "support"               # or', 'team = "support"\naccept = "10m"\npromote_after = "2h"  # or'),
            ('# presence_ttl = "2m" ', 'presence_ttl = "2h"  #'),
            ('# wrap_up = "60s" ', 'wrap_up = "5m"  #'),
        )
        async with log, Town(log, {"default": rules}, contacts=1) as town:
            await _morning(town)

    asyncio.run(run())
    return path


async def _morning(town: Town) -> None:
    await town.agent("agent.updated", "sam", teams=["support"], max_open=2, skills=["tax"], languages=["en", "fr"])
    await town.agent("agent.updated", "tess", teams=["support"], max_open=2, weight=2, name="Tess Lind")
    for agent in ("sam", "tess"):
        await town.agent("agent.presence", agent, status="online")
    await town.settle()
    town.crm["c9"] = {"customer_type": "VIP"}
    for number in range(1, 5):
        await _opens(town, number)
        await _accepts(town, f"v{number}", f"c{number}")
    await _opens(town, 5)
    await _opens(town, 6)
    await _opens(town, 9)  # anna's, at once
    await town.tell("conversation.closed", "v1", "c1")
    await town.settle()
    await town.passes(6 * 60_000)  # whoever had v1 has wrapped up: v5 is offered to him
    await town.tell("conversation.closed", "v9", "c9")
    await town.settle()


async def _opens(town: Town, number: int) -> None:
    contact = {"id": f"c{number}", "email": f"c{number}@example.com"}
    await town.tell("conversation.opened", f"v{number}", f"c{number}", contact=contact)
    await town.settle()


async def _accepts(town: Town, conversation: str, contact: str) -> None:
    state: Any = town.lanes[-1]._state
    part = state.state.desk("default").conversation(ConversationId(contact, conversation))
    assert part.offer is not None, f"{conversation} is not offered: {part}"
    told = {"conversation": conversation, "contact": {"id": contact}, "token": part.offer.token}
    await town.agent("assignment.accepted", part.agent, **told)
    await town.settle()
