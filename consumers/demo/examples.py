"""The demo's material: events to publish, what has to come out, agents, the CRM's data and the policies.

``conversations.jsonl`` and ``agents.jsonl`` hold CloudEvents, one a line, which are published as they stand. Two
extension attributes, which the router ignores, say when: ``scene`` (played one after the other) and ``after``
(what must have happened before: ``ask``, ``retry 2``, ``queued of web-3801``). ``expected.jsonl`` has one line a
conversation. A scene may have a policy of its own, ``policy.<scene>.toml``.
When something has happened is ``observed.py``'s to know, publishing is ``player.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from consumers.opening import Counts
from events.cloudevents import STRUCTURED_HEADERS, BadInputError
from events.log import NewRecord
from events.schema import check_publishable
from events.topics import AGENT_EVENTS, partition_of

POLICY: Final = "policy.toml"
CRM_DATA: Final = "crm.json"
CONVERSATIONS: Final = "conversations.jsonl"
AGENTS: Final = "agents.jsonl"
EXPECTED: Final = "expected.jsonl"
FILES: Final = (POLICY, CRM_DATA, CONVERSATIONS, AGENTS, EXPECTED)

_AFTER: Final = re.compile(r"([a-z-]+)(?: ([1-9][0-9]?))?(?: of (\S+))?")


class ExamplesError(ValueError):
    """The examples are missing or cannot be used. ``str()`` says where and what to do."""


class After(NamedTuple):
    """What must have happened: ``times`` times, to a conversation or an agent."""

    what: str
    times: int
    subject: str


class Step(Struct, frozen=True, kw_only=True):
    """An event and when to publish it."""

    number: int  #: of its line
    raw: bytes  #: the line as it stands
    scene: str
    subject: str | None  #: the conversation or the agent; None: it concerns a contact
    whose: str  #: events of the same contact or agent are published in the order of the file
    of_agent: bool
    after: After | None
    data: dict[str, Any]

    def record(self, counts: Counts) -> NewRecord:
        """The event as a record of its topic; raises ``ExamplesError`` if it is none."""
        try:
            found = check_publishable(self.raw)
        except BadInputError as error:
            raise ExamplesError(f"line {self.number} is no event: {error}") from None
        partitions = counts.workspaces if found.topic == AGENT_EVENTS else counts.contacts
        partition = partition_of(found.partition_key, partitions)
        return NewRecord(found.topic, partition, found.key, self.raw, STRUCTURED_HEADERS)


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to come of a conversation. One of ``agent`` and ``team`` is set if it is assigned."""

    conversation: str
    case: str
    outcome: Literal["assigned", "not-routed", "dead-letter"]
    route: str | None = None
    reason: str | None = None  #: why this route, why it was not routed, or why it is a dead letter
    agent: str | None = None
    team: str | None = None
    replies: tuple[str, ...]
    waited: bool = False
    assignments: int = 1
    runs: int = 1
    closed: bool = False


class Examples(Struct, frozen=True, kw_only=True):
    """All of it, read."""

    folder: Path
    steps: tuple[Step, ...]  #: agents' before conversations'
    expected: dict[str, Expected]

    def scenes(self) -> list[str]:
        """The scenes as the conversations come to them; before, those of agents alone."""
        of_conversations = dict.fromkeys(step.scene for step in self.steps if not step.of_agent)
        of_agents = dict.fromkeys(step.scene for step in self.steps if step.scene not in of_conversations)
        return [*of_agents, *of_conversations]

    def policy_of(self, scene: str) -> Path | None:
        """The policy that conversations of this scene begin with; None: that of the others."""
        path = self.folder / f"policy.{scene}.toml"
        return path if path.is_file() else None

    def teams(self) -> dict[str, set[str]]:
        """Who is in which team, over the whole demo."""
        found: dict[str, set[str]] = {}
        for step in self.steps:
            if step.of_agent and step.subject is not None:
                for team in step.data.get("teams", ()):
                    found.setdefault(team, set()).add(step.subject)
        return found

    def names(self) -> dict[str, str]:
        """What to call the contact of each conversation: his name, or else his id."""
        opened = [step for step in self.steps if step.subject is not None and "contact" in step.data]
        return {str(step.subject): step.data["contact"].get("name") or step.whose for step in opened}


def find_folder(given: Path | None) -> Path:
    """The examples' folder: the given one, or the checkout's; ``ExamplesError`` if it lacks a file."""
    folder = given or Path(__file__).resolve().parents[2] / "deploy" / "examples"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        where = (
            "--examples" if given is not None else "the examples come with the source, not with the installed package"
        )
        raise ExamplesError(
            f"{where}: {folder} has no {', '.join(missing)}; give the folder deploy/examples of a checkout "
            "with --examples DIR"
        )
    return folder


def load(folder: Path) -> Examples:
    """Read a folder that ``find_folder`` has found; raises ``ExamplesError`` naming file and line."""
    steps = (*_steps(folder / AGENTS), *_steps(folder / CONVERSATIONS))
    expected: dict[str, Expected] = {}
    for number, raw in _lines(folder / EXPECTED):
        try:
            one = msgspec.json.decode(raw, type=Expected)
        except msgspec.MsgspecError as error:
            raise ExamplesError(f"{folder / EXPECTED}, line {number}: {error}") from None
        expected[one.conversation] = one
    return Examples(folder=folder, steps=steps, expected=expected)


def _steps(path: Path) -> Iterator[Step]:
    for number, raw in _lines(path):
        try:
            yield _step(number, raw)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ExamplesError) as error:
            raise ExamplesError(f"{path}, line {number}: {error!r} keeps it from being played") from None


def _step(number: int, raw: bytes) -> Step:
    event = orjson.loads(raw)
    subject = event.get("subject")
    of_agent = event["type"].startswith("agent.")
    return Step(
        number=number,
        raw=raw,
        scene=event["scene"],
        subject=subject,
        whose=subject if of_agent else event["partitionkey"],
        of_agent=of_agent,
        after=_after(event["after"], subject) if "after" in event else None,
        data=event["data"],
    )


def _after(text: str, subject: str | None) -> After:
    """``ask`` without a conversation is that of the event's own; a contact's events name one."""
    found = _AFTER.fullmatch(text)
    if found is None or (found[3] or subject) is None:
        raise ExamplesError(f'after: {text!r} is not like "ask", "retry 2" or "queued of web-3801"')
    return After(found[1], int(found[2] or 1), str(found[3] or subject))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExamplesError(f"{path}: cannot be read ({error.strerror}): make it readable") from None
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()
