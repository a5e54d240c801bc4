"""Checks of each conversation's and each agent's own row of records: numbers, hashes, states, owners, loads."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from consumers.audit.checking import Partition, Rule, expect, require
from consumers.audit.reading import Seen
from consumers.audit.report import BrokenError
from events.chain import Link
from events.topics import ROUTING_LOG
from routing.decider import LogRecord
from routing.table import table_for
from routing.workspace_parts import MAX_OPEN_DEFAULT

Subject = tuple[str, str, str | None]  #: workspace, contact, conversation (or agent)

_EVENTS: Final[dict[str, frozenset[str]]] = {
    "conversation.joined": frozenset({"join"}),
    "conversation.taken": frozenset({"take"}),
    "conversation.ended": frozenset({"close", "forget"}),
    "email.rejected": frozenset({"answer"}),
    "email.accepted": frozenset({"answer", "email_known"}),
    "email.timed-out": frozenset({"time_out"}),
    "email.unreachable": frozenset({"unreachable"}),
    "crm.resolved": frozenset({"crm_answered", "crm_late"}),
    "crm.unresolved": frozenset({"crm_failed"}),
}
_BEFORE: Final[
    dict[str, frozenset[str]]
] = {  #: the status that a conversation may have had, by the record that moves it
    "assignment.queued": frozenset({"new", "waiting", "ended", "not-routed"}),
    "assignment.offered": frozenset({"new", "waiting", "ended", "not-routed"}),
    "assignment.made": frozenset({"new", "waiting", "offered", "assigned", "ended", "not-routed"}),
    "assignment.rerouted": frozenset({"offered", "assigned"}),
    "assignment.released": frozenset({"waiting", "offered", "assigned"}),
    "assignment.not-routed": frozenset({"new", "ended"}),
}
_AFTER: Final[dict[str, frozenset[str]]] = {
    "assignment.queued": frozenset({"waiting"}),
    "assignment.offered": frozenset({"offered"}),
    "assignment.made": frozenset({"assigned"}),
    "assignment.rerouted": frozenset({"offered", "assigned"}),
    "assignment.released": frozenset({"waiting", "ended"}),
    "assignment.not-routed": frozenset({"not-routed"}),
}
_OVER: Final = frozenset({"new", "ended", "not-routed"})


def subject_of(record: LogRecord) -> Subject:
    """Whose row a record belongs to."""
    return record.workspace, record.contact, record.subject


class _Last(NamedTuple):
    seq: int
    run: int
    hash: str


class Numbers(Rule):
    """``seq`` counts 1, 2, 3 ... and ``prev`` is the hash of the record before, per subject; so ids are unique.

    Remembers two numbers and a hash of every subject, also of those that have ended: they may go on.
    """

    name = "seq and prev"

    def __init__(self, partition: Partition) -> None:
        self._is_router = partition.topic == ROUTING_LOG
        self._last: dict[Subject, _Last] = {}

    def see(self, found: Seen, link: Link) -> None:
        """Compare with the subject's last record."""
        del link
        if not found.moves:
            return
        record, data = found.record, found.data
        subject = subject_of(record)
        last = self._last.get(subject, _Last(0, 0, ""))
        expect("data.seq", last.seq + 1, data["seq"], "a number of its conversation is skipped or used twice")
        expect("data.prev", last.hash or None, data.get("prev"), "the record before it in its conversation is another")
        run: int = data["run"]
        expect("data.run", self._run_of(record, last), run, "its conversation was opened less or more often")
        kept = last.run if record.type == "input.ignored" else run
        self._last[subject] = _Last(data["seq"], kept, record.hash)

    def _run_of(self, record: LogRecord, last: _Last) -> int:
        """The run that a record belongs to: an opening begins one, and the assigner takes over what the router says."""
        told = record.data.get("input") or {}
        if self._is_router:
            return last.run + (record.type == "conversation.started" and bool(told))
        origin = told.get("origin")
        run: int = last.run if origin is None else origin["run"]
        return run

    @property
    def subjects(self) -> int:
        """How many there are."""
        return len(self._last)


class _Stand(NamedTuple):
    state: str
    policy: str


class Transitions(Rule):
    """A conversation moves only as the state machine of its policy allows, and stays with the policy it began with."""

    name = "transitions"

    def __init__(self, partition: Partition) -> None:
        self._policies = partition.policies
        self._open: dict[Subject, _Stand] = {}

    def see(self, found: Seen, link: Link) -> None:
        """Take the step again."""
        del link
        record, data = found.record, found.data
        to = data.get("to")
        if not found.moves or record.subject is None:
            return
        subject = subject_of(record)
        stand = self._open.get(subject)
        if record.type == "conversation.started":
            self._start(stand, data)
        elif record.type == "input.ignored":
            moves = to is not None and (stand is not None or to != "closed")
            require(not moves, "an ignored input moves it", field="data.to", found=to)
        else:
            self._move(record.type, stand, data)
        if to == "closed":
            self._open.pop(subject, None)
        elif to is not None:
            self._open[subject] = _Stand(to, data["policy"])

    def _start(self, stand: _Stand | None, data: dict[str, Any]) -> None:
        expect("data.from", "opened", data.get("from"), "a conversation begins in the state opened")
        if "input" in data:
            require(
                stand is None, "a conversation that is open was opened again", field="data.to", found=data.get("to")
            )
        else:
            waited = stand is not None and stand.state == "opened"
            require(waited, "a conversation begins without an opening", field="data.input")
        self._step("opened", frozenset({"join"} if "join" in data else {"open"}), data)

    def _move(self, kind: str, stand: _Stand | None, data: dict[str, Any]) -> None:
        require(stand is not None, "the conversation is not open", field="data.from", found=data.get("from"))
        assert stand is not None
        expect("data.from", stand.state, data.get("from"), "the conversation was in another state")
        expect("data.policy", stand.policy, data.get("policy"), "a conversation keeps the policy that it began with")
        self._step(stand.state, _EVENTS.get(kind, frozenset()), data)

    def _step(self, state: str, events: frozenset[str], data: dict[str, Any]) -> None:
        allowed = table_for(self._policies[data["policy"]]).transitions()
        if not any((state, event, data.get("to")) in allowed for event in events):
            targets = sorted(to for start, event, to in allowed if start == state and event in events)
            by = "/".join(sorted(events)) or "such a record"
            raise BrokenError(
                f"the state machine does not lead from {state} to {data.get('to')} by {by}",
                field="data.to",
                expected=" or ".join(dict.fromkeys(targets)) or "nothing",
                found=data.get("to"),
            )


class Owners(Rule):
    """A conversation has at most one owner at any position, and is given and released in an order that can be."""

    name = "one owner"

    def __init__(self, partition: Partition) -> None:
        del partition
        self._live: dict[Subject, tuple[str, str | None]] = {}  # status and agent of those that have or await an owner

    def see(self, found: Seen, link: Link) -> None:
        """Follow the owner."""
        del link
        record, data = found.record, found.data
        if record.type not in _BEFORE:
            return
        subject = subject_of(record)
        status, owner = self._status(subject)
        if record.type == "assignment.made":
            released = data.get("released", {}).get("agent")
            keeps = status == "offered" and owner == data.get("agent")
            owner = None if keeps else owner
            require(
                owner is None or released == owner,
                f"it is given to {data.get('agent')} while {owner} has it: two owners at once",
                field="data.released.agent", expected=owner, found=released,
            )  # fmt: skip
            expect("data.released.agent", owner, released, "somebody is released who does not have it")
        elif record.type in {"assignment.released", "assignment.rerouted"}:
            expect("data.agent", owner, data.get("agent"), "somebody is released who does not have it")
        self._check_status(record.type, status, data)
        if data["to"] in {"waiting", "offered", "assigned"}:
            self._live[subject] = data["to"], None if data["to"] == "waiting" else data["agent"]
        else:
            self._live.pop(subject, None)

    def _status(self, subject: Subject) -> tuple[str, str | None]:
        return self._live.get(subject, ("over", None))

    def _check_status(self, kind: str, status: str, data: dict[str, Any]) -> None:
        before, after = data.get("from"), data.get("to")
        same = before in _OVER if status == "over" else before == status
        require(same, "the conversation was not so before", field="data.from", expected=status, found=before)
        strategy = data.get("strategy")
        require(before in _BEFORE[kind], f"{kind} cannot follow on {before}", field="data.from", found=before)
        require(after in _AFTER[kind], f"{kind} cannot lead to {after}", field="data.to", found=after)
        by_hand = kind != "assignment.made" or before != "assigned" or strategy == "by-hand"
        require(by_hand, "only a person takes a conversation from its owner", field="data.strategy", found=strategy)
        asked = kind != "assignment.made" or before != "offered" or "released" not in data
        require(
            asked or strategy == "by-hand", "only who was offered it may accept it",
            field="data.strategy", found=strategy,
        )  # fmt: skip


class _Agent:
    __slots__ = ("max_open", "presence", "wrapping")

    def __init__(self) -> None:
        self.max_open: int | None = None
        self.presence = "online"
        self.wrapping: list[int] = []


class Loads(Rule):
    """The router never gives an agent more than ``max_open`` conversations, and the candidates' loads are true.

    What he was offered counts, and what he still wraps up. What people take by hand is counted, but not capped.
    """

    name = "max_open"

    def __init__(self, partition: Partition) -> None:
        del partition
        self._default: dict[str, int] = {}  # per workspace
        self._agents: dict[tuple[str, str], _Agent] = {}
        self._open: Counter[tuple[str, str]] = Counter()

    def see(self, found: Seen, link: Link) -> None:
        """Count."""
        del link
        record, data = found.record, found.data
        if record.type == "agents.recorded":
            self._default[record.workspace] = data["config"]["max_open"]
        elif record.type == "agent.changed":
            self._learn(record.workspace, str(record.subject), data)
        elif record.type in {"assignment.made", "assignment.offered"}:
            self._made(record.workspace, data)
        elif record.type == "assignment.released" and data.get("agent") is not None:
            self._open[record.workspace, data["agent"]] -= 1
            if "wrap_up_until_ms" in data:
                agent = self._agents.setdefault((record.workspace, data["agent"]), _Agent())
                agent.wrapping.append(data["wrap_up_until_ms"])

    def _learn(self, workspace: str, name: str, data: dict[str, Any]) -> None:
        agent = self._agents.setdefault((workspace, name), _Agent())
        agent.max_open = (data["agent"] or {}).get("max_open")
        stated = data["presence"] or "online"
        agent.presence = "away" if stated == "other" else stated
        if data["agent"] is None or "wrapping" in data:
            left = data.get("wrapping", [])
            due = [until_ms for until_ms in left if until_ms not in agent.wrapping]
            require(not due, "it names ended conversations that there are not", field="data.wrapping", found=due)
            agent.wrapping = list(left)

    def _made(self, workspace: str, data: dict[str, Any]) -> None:
        owner = data["agent"]
        if data["from"] == "offered" and "released" not in data:
            return  # it counts since it was offered
        if data["strategy"] != "by-hand":
            room = self._room(workspace, owner) - self._wrapping(workspace, owner)
            now = self._open[workspace, owner] + 1
            require(
                now <= room, f"the router gave {owner} conversation number {now} of {room} that are allowed",
                field="data.agent", expected=f"at most {room} open", found=f"{now} open",
            )  # fmt: skip
            self._check_candidates(workspace, owner, data)
        if "released" in data:
            self._open[workspace, data["released"]["agent"]] -= 1
        self._open[workspace, owner] += 1

    def _room(self, workspace: str, name: str) -> int:
        agent = self._agents.get((workspace, name))
        if agent is None or agent.max_open is None:
            return self._default.get(workspace, MAX_OPEN_DEFAULT)
        return agent.max_open

    def _wrapping(self, workspace: str, name: str) -> int:
        agent = self._agents.get((workspace, name))
        return 0 if agent is None else len(agent.wrapping)

    def _check_candidates(self, workspace: str, owner: str, data: dict[str, Any]) -> None:
        chosen = [line["agent"] for line in data["candidates"] if "passed_over" not in line]
        expect("data.candidates", [owner], chosen, "who got it is not who was chosen")
        for index, line in enumerate(data["candidates"]):
            name = line["agent"]
            agent = self._agents.get((workspace, name))
            presence = "online" if agent is None else agent.presence
            true = (
                self._open[workspace, name],
                self._room(workspace, name),
                presence,
                self._wrapping(workspace, name),
            )
            told = (line["open"], line["max_open"], line["presence"], line.get("wrapping", 0))
            if true == told:
                continue
            for field, value, said in zip(("open", "max_open", "presence", "wrapping"), true, told, strict=True):
                expect(f"data.candidates[{index}].{field}", value, said, f"what it says of {name} is not true")
