"""A contact who comes when nobody is there is told so, in his language, once in a run, if the policy wants it."""

from __future__ import annotations

from typing import Any

import pytest

from routing.policy import Policy
from routing.texts import DEFAULTS, fill
from tests.stories import MINUTE_MS, Story, policy, then

DAY = '["09:00-17:00"]'
OFFICE = f"""\
[hours.office]
teams = ["support", "managers"]
zone = "Europe/Berlin"
monday = {DAY}
tuesday = {DAY}
message = true
"""
MONDAY_MS = 1_795_420_800_000  #: 2026-11-23T08:00Z, which is nine o'clock in Berlin


def closed(*changes: tuple[str, str], text: str = OFFICE) -> Policy:
    """It is Saturday evening when stories begin."""
    elsewhere = []
    for old, new in changes:
        if old not in text:
            elsewhere.append((old, new))
        text = text.replace(old, new)
    return policy(("[agents]\n", f"{text}[agents]\n"), *elsewhere)


def replies(story: Story, records: list[Any]) -> list[dict[str, Any]]:
    outputs = [output for record in records for output in story.outputs(record)]
    return [output["data"] for output in outputs if output["type"] == "reply.requested"]


def looked_up(story: Story, **variables: Any) -> list[Any]:
    story.opened(email="ann@example.com", language="fr-CA", name="Zoé", channel="whatsapp")
    return story.crm(**(variables or {"customer_type": "standard"}))


def test_who_is_routed_to_a_closed_team_is_told_in_his_language() -> None:
    story = Story(policy=closed())
    records = looked_up(story)
    [reply] = replies(story, records)
    assert (reply["kind"], reply["language"], reply["attempt"]) == ("closed", "fr", 0)
    assert reply["text"] == fill(DEFAULTS["fr"].closed, "Zoé")
    assert reply["channel"] == {"type": "whatsapp"}
    record = then(records, "crm.resolved", to="routed-regular")
    assert record.data["closed"] == {"hours": "office", "opens_ms": MONDAY_MS, "attempt": 0}
    assert "Zoé" not in str({name: value for name, value in record.data.items() if name != "pii"})


def test_who_comes_while_they_are_there_is_told_nothing() -> None:
    story = Story(policy=closed(), now_ms=MONDAY_MS)
    records = looked_up(story)
    assert replies(story, records) == []
    assert "closed" not in then(records, "crm.resolved").data


def test_without_a_message_in_the_policy_nothing_is_said() -> None:
    story = Story(policy=closed(("message = true\n", "")))
    assert replies(story, looked_up(story)) == []


def test_an_empty_text_sends_nothing() -> None:
    story = Story(policy=closed(("message = true\n", 'message = { fr = "" }\n')))
    assert replies(story, looked_up(story)) == []


def test_the_policys_own_text_is_said() -> None:
    story = Story(policy=closed(("message = true\n", 'message = { fr = "À lundi, {name} !" }\n')))
    assert [reply["text"] for reply in replies(story, looked_up(story))] == ["À lundi, Zoé !"]


def test_a_named_agent_is_there_at_any_hour_so_nothing_is_said() -> None:
    story = Story(policy=closed())
    assert replies(story, looked_up(story, customer_type="VIP")) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('strategy = "round-robin"  ', 'fallback = { team = "managers" }  ', 1),
        ('strategy = "round-robin"  ', 'fallback = { team = "night" }  ', 0),
        ('strategy = "round-robin"  ', 'fallback = { agent = "maya" }  ', 0),
        ("message = true\n", 'message = true\noutside = { team = "night" }\n', 0),
    ],
)
def test_it_is_said_only_if_nobody_at_all_is_there(old: str, new: str, told: int) -> None:
    story = Story(policy=closed((old, new)))
    assert len(replies(story, looked_up(story))) == told


def test_who_stands_in_and_is_closed_too_is_not_there() -> None:
    """The first who opens is the one that the record names."""
    night = f'outside = {{ team = "night" }}\n[hours.night]\nteams = ["night"]\nzone = "UTC"\nsunday = {DAY}\n'
    story = Story(policy=closed(text=f"{OFFICE}{night}"))
    record = then(looked_up(story), "crm.resolved")
    assert record.data["closed"]["hours"] == "night"
    assert record.data["closed"]["opens_ms"] < MONDAY_MS


ESCALATED = (('agent = "maya"\nfallback = { team = "managers", strategy = "least-open" }', 'team = "managers"'),)


def test_who_is_handed_over_is_told_both_that_a_person_comes_and_that_nobody_is_there() -> None:
    story = Story(policy=closed(*ESCALATED))
    story.opened()
    records = story.answers("no", "no", "no", "no")
    assert [reply["kind"] for reply in replies(story, records)][-2:] == ["escalated", "closed"]
    assert [output["data"]["n"] for output in story.outputs(records[-1])] == [1, 2, 3]


def test_who_cannot_be_asked_is_told_at_the_start() -> None:
    story = Story(policy=closed(*ESCALATED, ("skip_channels = []", 'skip_channels = ["letter"]')))
    records = story.opened(channel="letter")
    assert [reply["kind"] for reply in replies(story, records)] == ["closed"]


def test_it_is_said_once_in_a_run_and_again_in_the_next() -> None:
    story = Story(policy=closed(("# late = ", "late = ")))
    story.opened(email="ann@example.com")
    said = replies(story, story.crm_failed("time-out"))
    assert [reply["kind"] for reply in said] == ["closed"]
    more = story.message("hello?") + story.crm(customer_type="VIP") + story.opened("v2")
    assert [reply["kind"] for reply in replies(story, more)] == []
    story.closed()
    story.now_ms += MINUTE_MS
    story.closed("v2")
    story.opened()
    assert [reply["kind"] for reply in replies(story, story.crm(customer_type="standard"))] == ["closed"]


def test_a_failure_of_the_message_changes_nothing() -> None:
    story = Story(policy=closed())
    record = then(looked_up(story), "crm.resolved")
    then(story.reply_failed(record.data["seq"]), "input.ignored", reason="reply-not-current")
