"""What came of the conversations against what had to come: the demo's oracle, and its account in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from consumers.demo.examples import Examples, Expected
from consumers.demo.observed import Observed, Story

_LOOKED_UP: Final = frozenset({"vip", "not-vip", "crm-failed"})
_WITHOUT_OWNER: Final[dict[str, str]] = {"dead-letter": "unusable event", "not-routed": "not for this workflow"}
_WORDS: Final[dict[str | None, str]] = {
    "no-answer": "no answer",
    "asked": "stop word",
    "unreachable": "cannot be reached",
    "crm-failed": "no answer from the CRM",
    "joined": "joined the open conversation",
}


def differences(examples: Examples, observed: Observed) -> list[str]:
    """Everything that is not as ``expected.jsonl`` has it, one sentence each, beginning with the conversation."""
    teams = examples.teams()
    found: list[str] = []
    for name, expected in examples.expected.items():
        story = observed.stories.get(name)
        if story is None:
            found.append(f"{name}: nothing came of it, expected: {expected.outcome}")
        else:
            found += [f"{name}: {sentence}" for sentence in _differences(expected, story, teams)]
    found += [
        f"{name}: nothing was expected of it, it is {story.outcome}"
        for name, story in observed.stories.items()
        if name not in examples.expected
    ]
    return found


def is_settled(expected: Expected, story: Story, *, at_its_end: bool) -> bool:
    """Whether enough has happened to go on; ``at_its_end``: none of its events is still to be published."""
    if story.outcome != expected.outcome:
        return False
    return not at_its_end or (story.assignments >= _assignments(expected) and story.closed == expected.closed)


def what_happened(story: Story) -> str:
    """A conversation's way to its owner, in a few words."""
    return ", ".join(_way(story)) or "nothing"


def _way(story: Story) -> Iterator[str]:
    invalid = story.replies.count("retry") + (story.reason == "invalid-answers")
    asked = "ask" in story.replies
    if story.outcome in _WITHOUT_OWNER:
        yield _WITHOUT_OWNER[story.outcome]
    if asked:
        yield "asked"
    if invalid:
        yield f"{invalid} invalid answer{'' if invalid == 1 else 's'}"
    if story.captured:
        yield "gave the address" if asked else "address in the first message"
    elif story.reason in _LOOKED_UP:
        yield "address added to the record" if asked else "address in the record"
    if story.reason in _WORDS:
        yield _WORDS[story.reason]
    if story.waited:
        yield "waited in the queue"
    if story.by_hand:
        yield "taken by hand"
    if story.runs > 1:
        yield "opened again"
    if story.closed:
        yield "closed"


def _differences(expected: Expected, story: Story, teams: Mapping[str, set[str]]) -> Iterator[str]:
    compared: list[tuple[str, Any, Any]] = [
        ("outcome", expected.outcome, story.outcome),
        ("route", expected.route, story.route),
        ("reason", expected.reason, story.reason),
        ("replies", " ".join(expected.replies) or "none", " ".join(story.replies) or "none"),
        ("assignments", _assignments(expected), story.assignments),
        ("waited in the queue", expected.waited, story.waited),
        ("closed", expected.closed, story.closed),
    ]
    if expected.outcome == "assigned":
        compared.append(("runs", expected.runs, story.runs))
    if expected.agent is not None:
        compared.append(("agent", expected.agent, story.agent))
    for name, wanted, came in compared:
        if wanted != came:
            yield f"{name}: expected {wanted}, came {came}"
    if expected.team is not None and (story.team != expected.team or story.agent not in teams.get(expected.team, ())):
        yield f"team: expected {expected.team}, came {story.agent} of {story.team or 'no team'}"


def _assignments(expected: Expected) -> int:
    return expected.assignments if expected.outcome == "assigned" else 0
