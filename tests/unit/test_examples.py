"""The example files of the demo: usable as they stand, complete, and in keeping with one another."""

import json
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from consumers.demo.crm_server import load_contacts
from consumers.demo.examples import FILES, Examples, ExamplesError, find_folder, load
from consumers.opening import Counts
from consumers.policies import load_policies
from events.schema import check_publishable
from routing.policy_checks import warnings

CASES = {
    "with-email", "address-in-first-message", "valid-answer", "invalid-1", "invalid-2", "invalid-3", "invalid-4",
    "two-addresses", "no-answer", "voice-note", "reaction", "stop-word", "crm-unknown", "crm-failing", "crm-hanging",
    "crm-recovers", "vip-agent-offline", "everybody-busy", "taken-by-hand", "passed-on-by-hand", "owned-already",
    "opened-again", "joined", "duplicate", "broken", "unreachable", "cannot-be-asked", "email-from-record",
    "not-opened-by-contact",
}  # fmt: skip
LANGUAGES = {"en", "fr", "pt", "id", "ar"}


@pytest.fixture(scope="module")
def examples() -> Examples:
    return load(find_folder(None))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the folder, to be spoiled."""
    for name in FILES:
        (tmp_path / name).write_bytes((find_folder(None) / name).read_bytes())
    return tmp_path


def conversations(examples: Examples) -> set[str]:
    return {str(step.subject) for step in examples.steps if not step.of_agent and step.subject is not None}


def test_every_line_is_an_event_that_the_router_can_use_but_for_the_one_that_is_planted(examples):
    broken = {
        step.subject: found.problem.reason
        for step in examples.steps
        if (found := check_publishable(step.raw)).problem is not None
    }
    planted = {name: one.reason for name, one in examples.expected.items() if one.outcome == "dead-letter"}
    assert broken == planted
    assert len(planted) == 1


def test_there_are_at_least_60_conversations_and_each_has_its_expectation(examples):
    assert conversations(examples) == set(examples.expected)
    assert len(examples.expected) >= 60


def test_every_case_is_played(examples):
    assert {one.case for one in examples.expected.values()} == CASES


def test_each_of_the_five_languages_has_at_least_eight_conversations(examples):
    policy = load_policies(examples.folder / "policy.toml")["default"]
    opened = {step.subject: step.data["contact"] for step in examples.steps if "channel" in step.data}
    spoken = Counter(policy.language(contact.get("language")) for contact in opened.values())
    assert set(spoken) == LANGUAGES == set(policy.workflow.languages)
    assert min(spoken.values()) >= 8


def test_contacts_write_over_at_least_five_kinds_of_channels(examples):
    assert len({step.data["channel"]["type"] for step in examples.steps if "channel" in step.data}) >= 5


def test_ids_are_unique_but_for_webhooks_that_are_sent_again_as_they_were(examples):
    lines = Counter(step.raw for step in examples.steps)
    ids = Counter((event["source"], event["id"]) for event in map(json.loads, lines))
    assert set(ids.values()) == {1}
    assert sum(count - 1 for count in lines.values()) == 2


def test_what_an_event_waits_for_is_a_conversation_or_an_agent_of_the_files(examples):
    known = {step.subject for step in examples.steps}
    assert {step.after.subject for step in examples.steps if step.after is not None} <= known


def test_the_support_team_has_exactly_the_room_for_the_morning_so_that_then_everybody_is_busy(examples):
    regular = [one for one in examples.expected.values() if one.team == "support" and one.case != "everybody-busy"]
    first = examples.scenes()[0]
    room = [step.data for step in examples.steps if step.scene == first and "support" in step.data.get("teams", ())]
    assert sum(data["max_open"] for data in room) == len(regular)


def test_only_where_nobody_answers_the_policy_does_not_wait_so_that_a_slow_machine_changes_nothing(examples):
    assert [scene for scene in examples.scenes() if examples.policy_of(scene) is not None] == ["nobody-answers"]
    usual, hasty = (
        load_policies(examples.folder / name)["default"] for name in ("policy.toml", "policy.nobody-answers.toml")
    )
    assert (list(warnings(usual)), list(warnings(hasty))) == ([], [])
    assert replace(hasty, version="", text="", email=usual.email, crm=usual.crm) == replace(usual, version="", text="")
    assert hasty.crm.url == usual.crm.url
    assert usual.email.answer_timeout_ms >= 600_000
    cases = {examples.expected[str(step.subject)].case for step in examples.steps if step.scene == "nobody-answers"}
    assert cases == {"no-answer", "crm-failing", "crm-hanging"}


def test_the_crm_knows_vips_and_others(examples):
    types = Counter(contact["customerType"] for contact in load_contacts(examples.folder / "crm.json").values())
    assert min(types["VIP"], types["standard"]) >= 10


def test_conversations_lie_on_every_partition(examples):
    counts = Counts(4, 1)
    places = {step.record(counts).partition for step in examples.steps if not step.of_agent}
    assert places == {0, 1, 2, 3}


def test_a_folder_that_lacks_a_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ExamplesError, match=r"--examples: .* has no policy\.toml, .*crm\.json"):
        find_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("conversations.jsonl", '{"type": "message.received"', "conversations.jsonl, line 1"),
        (
            "conversations.jsonl",
            '{"type": "message.received", "scene": "x", "data": {}}',
            "conversations.jsonl, line 1",
        ),
        ("expected.jsonl", '{"conversation": "x", "case": "y", "outcome": "lost", "replies": []}', "expected.jsonl"),
        ("expected.jsonl", '{"conversation": "x", "agnet": "anna"}', "expected.jsonl, line 1"),
    ],
)
def test_a_line_that_cannot_be_played_is_named(copied, name, line, told):
    (copied / name).write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ExamplesError, match=told):
        load(copied)


def test_what_an_event_waits_for_has_to_be_written_right(copied):
    event = json.loads((copied / "conversations.jsonl").read_bytes().splitlines()[0])
    (copied / "conversations.jsonl").write_text(json.dumps({**event, "after": "3 asks"}), encoding="utf-8")
    with pytest.raises(ExamplesError, match="queued of web-3801"):
        load(copied)
