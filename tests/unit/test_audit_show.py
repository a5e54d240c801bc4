"""``audit show``: finding a conversation, and telling it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.audit.finding import NotFoundError, SeveralContactsError, Spot, _merged, find, records
from consumers.audit.show import HIDDEN, Step, Story
from consumers.audit.summary import Summary
from consumers.audit.words import REASONS, candidate_words, reason_words
from events.log import Log, NewRecord, TopicPartition
from events.memory import MemoryLog
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG, CONVERSATION_EVENTS, ROUTING_LOG
from routing.policy_template import template_text
from tests.audit_support import START_MS, Town, policy
from tests.processes import ROOT

VARIABLES = 'tier = "$.t"\naccount = { path = "$.a", personal = true }\ngone = "$.g"'


def told(day: Path, conversation: str, *, personal: bool = False, **where: Any) -> tuple[list[Step], Summary]:
    async def run() -> tuple[list[Step], Summary]:
        async with SqliteLog(day, read_only=True) as log:
            found = await find(log, conversation, workspace="default", contact=None, **where)
            return await steps(log, found, personal=personal)

    return asyncio.run(run())


async def steps(log: Log, found: Any, *, personal: bool = False) -> tuple[list[Step], Summary]:
    story = Story(log, found, personal=personal, duration=lambda ms: f"{ms} ms")
    return [step async for step in story.steps()], story.summary


def text(steps: list[Step]) -> str:
    return "\n".join("\n".join([step.what, step.why or "", *step.details]) for step in steps)


# --- telling ---


def test_a_vips_way_is_told_step_by_step(day: Path) -> None:
    history, summary = told(day, "v1")
    assert [(step.what, step.from_, step.to) for step in history] == [
        ("Opened by the contact on whatsapp", "opened", "awaiting-email"),
        ("The answer was not accepted", "awaiting-email", "email-retry-1"),
        ("The contact gave an e-mail address", "email-retry-1", "fetching-crm"),
        ("The CRM answered: a VIP", "fetching-crm", "routed-vip"),
        ("Given to anna", "new", "assigned"),
    ]
    assert history[1].why == "the answer holds no e-mail address that could be one [no-address]"
    assert history[4].why == "the route names this agent [dedicated]"
    assert (summary.state, summary.owner, summary.policy_name, summary.run) == ("routed-vip", "anna", "vip-contacts", 1)


def test_the_condition_that_decided_and_its_variables_are_told(day: Path) -> None:
    history, _ = told(day, "v1")
    details = history[3].details
    assert "VIP if all of these hold:" in details
    assert "  customer_type is equal to VIP: holds" in details
    assert any(line.startswith("variables: customer_type = VIP, crm_status = 200") for line in details)


def test_a_list_in_a_condition_and_what_did_not_hold_are_told_as_people_write_them() -> None:
    """A personal value is told only when asked for, one that does not exist as such."""
    conditions = (
        "[\n"
        '  { variable = "tier", operator = "is one of", value = ["VIP", "x"] },\n'
        '  { variable = "account", operator = "is exactly", value = true },\n'
        '  { variable = "gone", operator = "exists" },\n'
        "]"
    )
    text_of = template_text()
    old = re.search(r"^conditions = (\[.*?\])$", text_of, re.MULTILINE | re.DOTALL)
    assert old is not None
    asked = policy((old[0], f"conditions = {conditions}"), ('customer_type = "$.customerType"', VARIABLES))

    async def run(*, personal: bool) -> list[str]:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        async with Town(log, {"default": asked}, contacts=1) as town:
            town.crm["c1"], town.personal = {"tier": "gold", "account": "7"}, frozenset({"account"})
            await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1", "email": "ann@example.com"})
            await town.settle()
            history, _ = await steps(log, await find(log, "v1", workspace="default"), personal=personal)
            return next(step for step in history if step.what.startswith("The CRM answered")).details

    details = asyncio.run(run(personal=False))
    assert "  tier is one of VIP, x: does not hold, it is gold" in details
    assert f"  account is exactly true: does not hold, it is {HIDDEN}" in details
    assert "  gone exists: does not hold, it does not exist" in details
    assert "  account is exactly true: does not hold, it is 7" in asyncio.run(run(personal=True))


def test_who_could_have_had_it_is_told_with_loads(day: Path) -> None:
    history, _ = told(day, "v4")
    given = next(step for step in history if step.what == "Given to sam of team support")
    assert given.details[-4:] == [
        "candidates: 2",
        "  sam: 1 of 2 open, online <- chosen",
        "  tess: 1 of 3 open, online; passed over: the turn comes later",
        "turn of team/support: was tess, is sam",
    ]
    assert "waited 0 ms" in given.details


def test_a_record_that_followed_from_anothers_input_says_from_which(day: Path) -> None:
    history, _ = told(day, "v10")
    assert history[1].what == "The e-mail address became known another way"
    assert "contact.updated" in history[1].details[0]


def test_personal_data_are_told_only_when_asked_for(day: Path) -> None:
    hidden, shown = text(told(day, "v1")[0]), text(told(day, "v1", personal=True)[0])
    for value in ("ann.lee@example.com", "Ann Lee"):
        assert value not in hidden
        assert value in shown
    assert HIDDEN in hidden
    assert HIDDEN not in shown


def test_a_second_run_and_an_end_are_told(day: Path) -> None:
    history, summary = told(day, "v3")
    words = [step.what for step in history]
    assert "The conversation ended" in words
    assert "Left the queue: it needs no owner any more" in words
    assert "Taken from sam: it needs no owner any more" in [step.what for step in told(day, "v4")[0]]
    assert "Opened again (run 2) by the contact" in words
    assert summary.run == 2


def test_every_conversation_of_a_day_can_be_told(day: Path) -> None:
    """No record and no reason is left without words."""
    for number in [*range(1, 12), 77]:
        history, _ = told(day, f"v{number}")
        assert history
        for step in history:
            assert not re.match(r"[a-z]+\.[a-z-]+$", step.what), step
            assert step.why in (None, "solved") or " " in str(step.why), step


def test_every_reason_code_of_the_deciders_has_words() -> None:
    """The codes as they stand in the source."""
    source = "\n".join(path.read_text() for path in sorted((ROOT / "routing").glob("*.py")))
    patterns = [
        r'ignored\([^"\n]*"([a-z-]+)"', r'reason="([a-z-]+)"', r'reason = "([a-z-]+)"', r'return "([a-z]+-[a-z-]+)"$',
        r'Facts\([^)]*\), "([a-z-]+)"', r'"reason": "([a-z-]+)"', r'_request\(to, "([a-z-]+)"',
    ]  # fmt: skip
    codes = {code for pattern in patterns for code in re.findall(pattern, source, re.MULTILINE)}
    assert len(codes) >= 30
    assert codes - set(REASONS) == set()


def test_a_reply_that_is_not_marked_as_sent_is_told_so() -> None:
    async def run() -> list[Step]:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        async with Town(log, {"default": policy()}, contacts=1) as town:
            await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1"})
            await town.settle()
            found = await find(log, "v1", workspace="default")
            return (await steps(log, found))[0]

    assert "message is to go out (the log does not say yet that it has)" in text(asyncio.run(run()))


HOURS = """\
[hours.office]
teams = ["support"]
zone = "Europe/Berlin"
sunday = ["09:00-17:00"]
outside = { team = "night" }
message = true
"""


def test_what_hours_had_to_do_with_it_is_told() -> None:
    """The stories begin on a Saturday evening; the night's agent comes later, and the team at eight in UTC."""

    async def run(*, night: bool) -> list[Step]:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        hours = HOURS if night else HOURS.replace("outside", "# outside")
        async with Town(log, {"default": policy(("[agents]\n", f"{hours}[agents]\n"))}, contacts=1) as town:
            for agent, team in (("sam", "support"), ("nina", "night")):
                await town.agent("agent.updated", agent, teams=[team])
            await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1", "email": "ann@example.com"})
            await town.settle()
            await town.passes(11 * 3_600_000)
            return (await steps(log, await find(log, "v1", workspace="default"), personal=True))[0]

    waits = asyncio.run(run(night=False))
    assert [step.what for step in waits][2:] == ["Waits in the queue of route regular", "Given to sam of team support"]
    assert "nobody who could have it is there: hours office open at 2026-11-22T08:00:00.000Z" in waits[1].details
    assert any(line.startswith("  “Thank you for your message. Our team") for line in waits[1].details)
    assert "out of hours: office, until 2026-11-22T08:00:00.000Z" in waits[2].details
    assert "nobody who could have it is there before 2026-11-22T08:00:00.000Z" in waits[2].details
    assert "a team opened or closed" in waits[3].details[0]
    served = asyncio.run(run(night=True))
    assert served[2].what == "Given to nina of team night"
    assert served[2].why == "its team is out of hours, and this is who stands in then [outside-hours]"
    assert "out of hours: office, until 2026-11-22T08:00:00.000Z" in served[2].details


def test_words_of_codes_and_candidates() -> None:
    assert reason_words("http-503") == "the CRM answered with status 503 [http-503]"
    assert reason_words("customer left") == "customer left"
    line = {"agent": "sam", "open": 3, "max_open": 3, "presence": "online", "passed_over": "full"}
    assert candidate_words(line) == "sam: 3 of 3 open, online; passed over: has as many as allowed"


# --- where it stands ---


def moved(*changes: dict[str, Any], state: str = "routed-regular") -> str:
    summary = Summary(state=state)
    for number, data in enumerate(changes):
        summary.assign(data, START_MS + number * 60_000)
    return summary.stands


WAITING = {"to": "waiting", "route": "regular", "target": {"team": "support"}}
ESCALATED = {
    "to": "waiting", "route": "escalated", "target": {"agent": "maya", "fallback": {"team": "managers"}}
}  # fmt: skip
OFFERED = {"to": "offered", "route": "regular", "agent": "sam", "until_ms": START_MS + 90_000}


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ([], "routed-regular, with nobody"),
        ([WAITING], "routed-regular; waits for route regular (team support) since 2026-11-21T22:26:40.000Z"),
        ([WAITING, WAITING], "routed-regular; waits for route regular (team support) since 2026-11-21T22:26:40.000Z"),
        (
            [WAITING, ESCALATED],
            "routed-regular; waits for route escalated (agent maya, else team managers) since 2026-11-21T22:27:40.000Z",
        ),
        ([WAITING, {**ESCALATED, "to": "assigned", "agent": "maya"}], "routed-regular, with maya (route escalated)"),
        ([{**WAITING, "to": "assigned", "agent": "sam"}], "routed-regular, with sam"),
        ([WAITING, OFFERED], "routed-regular; offered to sam until 2026-11-21T22:28:10.000Z"),
        ([WAITING, {"to": "ended", "route": "regular"}], "routed-regular, with nobody"),
        ([{"to": "waiting", "route": "vip"}], "routed-regular; waits for route vip since 2026-11-21T22:26:40.000Z"),
    ],
)
def test_where_a_conversation_stands(changes: list[dict[str, Any]], stands: str) -> None:
    assert moved(*changes) == stands


def test_after_an_escalation_for_waiting_it_stands_in_that_queue() -> None:
    async def run() -> str:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        async with Town(log, {"default": policy()}, contacts=1) as town:
            await town.agent("agent.updated", "maya", teams=["managers"])
            await town.agent("agent.presence", "maya", status="offline")
            await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1", "email": "ann@example.com"})
            await town.settle()
            await town.passes(7 * 86_400_000)
            return (await steps(log, await find(log, "v1", workspace="default")))[1].stands

    stands = asyncio.run(run())
    assert stands.startswith(
        "routed-regular; waits for route escalated (agent maya, else team managers) since 2026-11-28"
    )


# --- finding ---


def test_the_records_come_as_they_are_stored_in_the_order_of_cause_and_effect(day: Path) -> None:
    async def run() -> list[bytes]:
        async with SqliteLog(day, read_only=True) as log:
            found = await find(log, "v1", workspace="default")
            seen = [record async for record in records(log, found)]
            for record in seen:
                stored = (await log.read(record.stored.place, record.stored.offset, records_max=1)).records[0]
                assert stored.value == record.stored.value
            return [record.stored.value or b"" for record in seen]

    types = [orjson.loads(value)["type"] for value in asyncio.run(run())]
    assert types == ["conversation.started", "email.rejected", "email.accepted", "crm.resolved", "assignment.made"]


def test_an_effect_comes_after_its_cause_whatever_the_clocks_say() -> None:
    router, assigner = TopicPartition(ROUTING_LOG, 0), TopicPartition(ASSIGNMENTS_LOG, 0)
    cause, later = Spot(router, 5, 2_000, -1), Spot(router, 6, 3_000, -1)
    effect = Spot(assigner, 1, 1_000, 5)
    assert _merged([cause, later, effect]) == [cause, effect, later]


def several(town_does: Callable[[Town], Any]) -> Log:
    async def run() -> Log:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        async with Town(log, {"default": policy(), "shop": policy()}) as town:
            await town_does(town)
            await town.settle()
        return log

    return asyncio.run(run())


async def _two_contacts(town: Town) -> None:
    for contact in ("c1", "c2"):
        await town.tell("conversation.opened", "same", contact, contact={"id": contact})
    await town.tell("conversation.opened", "elsewhere", "c3", contact={"id": "c3"}, workspace="shop")
    await town.tell("message.received", "broken", "c3", contact="no object")
    await town.log.publish([NewRecord(CONVERSATION_EVENTS, 0, b"c9", b'{"subject":"junk-9"')])


@pytest.fixture(scope="module")
def log() -> Log:
    return several(_two_contacts)


def test_an_id_of_several_contacts_asks_for_the_contact(log: Log) -> None:
    with pytest.raises(SeveralContactsError, match=r"2 contacts have a conversation same: .*--contact; c1, c2"):
        asyncio.run(find(log, "same", workspace="default"))
    assert asyncio.run(find(log, "same", workspace="default", contact="c2")).contact == "c2"


@pytest.mark.parametrize(
    ("conversation", "contact", "says"),
    [
        ("sane", None, "did you mean same?"),
        ("elsewhere", None, "it is in workspace shop: add --workspace shop"),
        ("same", "c7", "correct --contact"),
        ("junk-9", None, "could not be used, because of not-json"),
        ("zzzzzzzzz", None, "was it published to this log?"),
    ],
)
def test_an_unknown_conversation_says_where_it_may_be(
    log: Log, conversation: str, contact: str | None, says: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        asyncio.run(find(log, conversation, workspace="default", contact=contact))
    assert says in str(caught.value)


def test_an_event_that_nobody_decided_yet_is_pointed_at() -> None:
    async def run() -> None:
        log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
        town = Town(log, {"default": policy()})
        async with town:
            pass
        await town.tell("conversation.opened", "late", "c1", contact={"id": "c1"})
        await find(log, "late", workspace="default")

    with pytest.raises(NotFoundError, match=r"conversations\.events/\d offset 0 names it"):
        asyncio.run(run())
