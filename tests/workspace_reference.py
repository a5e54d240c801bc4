"""The workspace decider once more, slow and obvious: lists and scans, nothing kept that could be computed.

``Reference.tell`` decides an input with all its follow-ups and says what it decided; the model test holds it equal to
the real one. ``read_parts`` makes a reference of a real state, so that invariants are judged without its indexes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from routing.inputs import (
    AgentPresence,
    AgentsConfigured,
    AgentUpdated,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentRequested,
    AssignmentTaken,
    DeadlinePassed,
    Event,
    PoolTarget,
    RouteTarget,
)
from routing.workspace_parts import AgentPart, ConfigPart, ConversationPart, TurnPart, parse_key
from routing.workspaces import Workspaces

Id = tuple[str, str]
Outcome = tuple[Any, ...]
RANK = {"vip": 0, "escalated": 1, "regular": 2}


@dataclass
class Person:
    """An agent."""

    teams: tuple[str, ...] | None = None  #: None: not one of ours
    email: str | None = None
    max_open: int | None = None
    set_by: str | None = None
    presence: str | None = None
    presence_ms: int | None = None
    record_ms: int | None = None
    seen: list[str] = field(default_factory=list)
    served: int = -1
    releasing: bool = False
    seq: int = 0

    def says(self) -> tuple[Any, ...] | None:
        return None if self.teams is None else (self.teams, self.email, self.max_open)


@dataclass
class Place:
    """Where a conversation waits."""

    route: str
    reason: str
    target: RouteTarget
    escalation: RouteTarget | None
    since: int
    order: int
    queued: int
    join: str | None = None
    overdue: bool = False
    open: bool = False
    fallback_due: int | None = None
    wait_due: int | None = None

    def key(self) -> tuple[int, int, int]:
        return (RANK[self.route], self.since, self.order)

    def armed(self, now: int) -> Place:
        after = self.target.fallback_after_ms if self.target.fallback is not None else None
        wait = self.target.wait_max_ms
        return replace(
            self,
            open=after is not None and after <= 0,
            fallback_due=None if after is None or after <= 0 else now + after,
            wait_due=None if wait is None else now + wait,
        )


@dataclass
class Talk:
    """A conversation."""

    status: str = "new"
    agent: str | None = None
    place: Place | None = None
    seq: int = 0
    armed: int = 0

    def order(self) -> tuple[int, ...]:
        return () if self.place is None else self.place.key()


class Reference:
    """One workspace."""

    def __init__(self, follow_ups_max: int) -> None:
        self.people: dict[str, Person] = {}
        self.talks: dict[Id, Talk] = {}
        self.turns: dict[str, str] = {}
        self.max_open = 20
        self.configured: dict[str, tuple[Any, ...]] = {}
        self.sources: dict[tuple[str, int], tuple[int, int]] = {}
        self.nobodys_seq = 0
        self.clock = 0  #: rises with each assignment
        self.follow_ups_max = follow_ups_max

    # Who may have what.

    def load(self, agent: str) -> int:
        return sum(talk.agent == agent for talk in self.talks.values())

    def room(self, agent: str) -> int:
        own = self.people.get(agent, Person()).max_open
        return (self.max_open if own is None else own) - self.load(agent)

    def named(self, text: str) -> str | None:
        if text in self.people and self.people[text].teams is not None:
            return text
        ours = [(agent, who) for agent, who in self.people.items() if who.teams is not None]
        same = [agent for agent, who in ours if who.email is not None and who.email.casefold() == text.casefold()]
        return min(same, default=None)

    def members(self, target: PoolTarget) -> list[str]:
        if target.agent is not None:
            found = self.named(target.agent)
            return [] if found is None else [found]
        ours = sorted(agent for agent, who in self.people.items() if who.teams is not None)
        return [agent for agent in ours if target.team is None or target.team in (self.people[agent].teams or ())]

    def free(self, target: PoolTarget) -> list[str]:
        ready = [agent for agent in self.members(target) if self.room(agent) > 0]
        return [a for a in ready if not target.only_online or self.people[a].presence in {None, "online"}]

    def leader(self, which: Id, place: Place) -> Talk | None:
        leader = self.talks.get((which[0], place.join)) if place.join is not None else None
        return leader if leader is not None and leader.status in {"assigned", "waiting"} else None

    def could_have(self, which: Id, place: Place) -> tuple[list[str], PoolTarget | None]:
        """The agents who could have it now, and as whose members; (["x"], None): as the other's owner."""
        leader = self.leader(which, place)
        if leader is not None:
            return ([leader.agent] if leader.agent is not None and self.room(leader.agent) > 0 else []), None
        targets: list[PoolTarget | None] = [place.target, place.target.fallback if place.open else None]
        for target in targets:
            if target is not None and (free := self.free(target)):
                return free, target
        return [], None

    def choose(self, which: Id, place: Place) -> tuple[str, str, str] | None:
        free, target = self.could_have(which, place)
        if not free:
            return None
        if target is None:
            return free[0], "joined", "joined"
        pool = "workspace" if target.team is None else f"team/{target.team}"
        if target.agent is not None:
            chosen, strategy, reason = free[0], "dedicated", "dedicated"
        elif target.strategy == "least-open":
            chosen = min(free, key=lambda a: (self.load(a), self.people[a].served, a))
            strategy, reason = "least-open", "fewest-open"
        else:
            turn = self.turns.get(pool)
            chosen = min(free, key=lambda a: (turn is not None and a <= turn, a))
            strategy, reason = "round-robin", "next-in-turn"
            self.turns[pool] = chosen
        return chosen, strategy, reason if target is place.target else "fallback"

    def waiting(self) -> list[Id]:
        """Who waits, the foremost first."""
        found = [
            (talk.place.key(), which) for which, talk in self.talks.items() if talk.status == "waiting" and talk.place
        ]
        return [which for _, which in sorted(found)]

    def unconfigured(self) -> list[str]:
        names = sorted({*self.people, *self.configured})
        blank = Person()
        people = [(name, self.people.get(name, blank)) for name in names]
        return [name for name, who in people if who.set_by != "event" and who.says() != self.configured.get(name)]

    def releasing(self) -> list[str]:
        return sorted(agent for agent, who in self.people.items() if who.releasing and self.load(agent))

    def servable(self) -> list[Id]:
        """Those who wait though somebody could have them, the foremost first."""
        return [which for which in self.waiting() if self.could_have(which, self._place(which))[0]]

    def busy(self) -> bool:
        return bool(self.releasing() or self.unconfigured() or self.servable())

    def due(self, now: int) -> list[tuple[int, Id, str]]:
        found = []
        for which in self.waiting():
            place = self._place(which)
            for kind, due in (("fallback", place.fallback_due), ("wait", place.wait_due)):
                if due is not None and due <= now:
                    found.append((due, which, kind))
        return sorted(found)

    def _place(self, which: Id) -> Place:
        place = self.talks[which].place
        assert place is not None
        return place

    # What happens.

    def tell(self, event: Event, now: int) -> list[Outcome]:
        """Decide an input with all that follows."""
        if event.origin is not None:
            source = (event.origin.log_id, event.origin.partition)
            place = (event.origin.offset, event.origin.n)
            if place <= self.sources.get(source, (-1, -1)):
                return []
            self.sources[source] = place
        first, more = self._first(event, now)
        outcomes = [] if first is None else [first]
        for _ in range(self.follow_ups_max):
            outcome = self._next(now) if more else None
            if outcome is None:
                break
            outcomes.append(outcome)
        return outcomes

    def _first(self, event: Event, now: int) -> tuple[Outcome | None, bool]:
        body = event.body
        which = (event.contact, str(event.conversation))
        talk = self.talks.get(which, Talk())
        match body:
            case AssignmentRequested():
                if talk.status == "assigned":
                    return self._ignored(which, "already-assigned"), False
                return self._route(which, body, event, now), True
            case AssignmentTaken(agent=None):
                return self._put_back(which, body, event, now)
            case AssignmentTaken():
                if talk.agent == body.agent:
                    return self._ignored(which, "present-owner"), False
                place = talk.place or self._fallback(body, event, now)
                return self._assign(which, place, str(body.agent), "by-hand", "taken-by-hand", now), True
            case AssignmentEnded():
                if talk.status not in {"assigned", "waiting"}:
                    return self._ignored(which, self._unowned(talk)), False
                return self._release(which, None, body.reason, now), True
            case AssignmentRefused():
                if talk.status in {"assigned", "waiting", "not-routed"}:
                    return self._ignored(which, f"already-{talk.status}"), False
                self._talk(which).status = "not-routed"
                return self._outcome("assignment.not-routed", which, body.reason), False
            case DeadlinePassed():
                step = self._deadline(event, body, now)
                return step, step is not None
            case AgentsConfigured():
                said = {name: (a.teams, a.email, a.max_open) for name, a in body.agents.items()}
                if (self.max_open, self.configured) == (body.max_open, said) and self.nobodys_seq:
                    return None, False
                self.max_open, self.configured = body.max_open, said
                self.nobodys_seq += 1
                return ("agents.recorded", "", None), True
        outcome = self._agent(str(event.conversation), event, now)
        return outcome, outcome is not None and outcome[0] != "input.ignored"

    def _next(self, now: int) -> Outcome | None:
        for agent in self.releasing():
            owned = [(talk.order(), which) for which, talk in self.talks.items() if talk.agent == agent]
            which = min(owned)[1]
            return self._release(which, self.talks[which].place, "agent-removed", now)
        for agent in self.unconfigured():
            who = self.people.setdefault(agent, Person())
            said = self.configured.get(agent)
            who.teams, who.email, who.max_open = said or (None, None, None)
            who.set_by = "policy"
            return self._changed(agent, "configured" if said else "removed")
        for which in self.servable():
            place = self._place(which)
            chosen = self.choose(which, place)
            assert chosen is not None
            return self._assign(which, place, *chosen, now)
        return None

    def _route(self, which: Id, body: AssignmentRequested, event: Event, now: int) -> Outcome:
        place = self._new_place(body, event, now)
        talk = self._talk(which)
        if talk.status == "waiting" and talk.place is not None:
            place = replace(place, since=talk.place.since, order=talk.place.order, queued=talk.place.queued)
        other = self.talks.get((which[0], body.join)) if body.join else None
        if other is None or other.status not in {"assigned", "waiting"} or self._circle(which, str(body.join)):
            place.join = None
        elif other.status == "waiting" and other.place is not None:
            place.since, place.order = other.place.since, other.place.order
        chosen = None if self.busy() else self.choose(which, place)
        if chosen is not None:
            return self._assign(which, place, *chosen, now)
        return self._wait(which, place, "assignment.queued")

    def _circle(self, which: Id, other: str | None) -> bool:
        while other is not None:
            if other == which[1]:
                return True
            place = self.talks.get((which[0], other), Talk()).place
            other = place.join if place else None
        return False

    def _new_place(self, body: AssignmentRequested, event: Event, now: int) -> Place:
        place = Place(
            body.route, body.route_reason, body.target, body.escalation, now, event.cause.offset or 0, now, body.join
        )
        return place.armed(now)

    def _fallback(self, body: AssignmentTaken, event: Event, now: int) -> Place | None:
        return None if body.fallback is None else replace(self._new_place(body.fallback, event, now), join=None)

    def _put_back(self, which: Id, body: AssignmentTaken, event: Event, now: int) -> tuple[Outcome, bool]:
        talk = self.talks.get(which, Talk())
        if talk.status == "waiting":
            return self._ignored(which, "already-waiting"), False
        if talk.status == "assigned":
            place = talk.place or self._fallback(body, event, now)
            if place is None:
                return self._ignored(which, "no-route"), False
            return self._release(which, place, "by-hand", now), True
        if body.fallback is None:
            return self._ignored(which, self._unowned(talk)), False
        return self._route(which, body.fallback, event, now), True

    def _unowned(self, talk: Talk) -> str:
        return "unknown-conversation" if talk.status == "new" else f"already-{talk.status}"

    def _release(self, which: Id, place: Place | None, reason: str, now: int) -> Outcome:
        agent = self.talks[which].agent
        if place is not None:
            outcome = self._wait(which, replace(place, queued=now).armed(now), "assignment.released")
            outcome = (*outcome, agent, reason)
        else:
            self.talks[which] = Talk(status="ended", seq=self.talks[which].seq)
            for other, talk in self.talks.items():
                if other[0] == which[0] and talk.place is not None and talk.place.join == which[1]:
                    talk.place = replace(talk.place, join=None)
            outcome = self._outcome("assignment.released", which, agent, reason)
        if agent in self.people and not self.load(str(agent)):
            self.people[str(agent)].releasing = False
        return outcome

    def _deadline(self, event: Event, body: DeadlinePassed, now: int) -> Outcome | None:
        if body.kind == "drain":
            return self._next(now) if self._names_next(event, body.seq, now) else None
        which = (event.contact, str(event.conversation))
        talk = self.talks[which]
        place = talk.place
        if talk.status != "waiting" or place is None or talk.armed != body.seq:
            return None
        if body.kind == "fallback":
            return self._wait(which, replace(place, open=True, fallback_due=None), "assignment.queued")
        leader = self.leader(which, place)
        join = place.join if leader is not None and leader.status == "waiting" else None
        if place.escalation is None:
            return self._wait(which, replace(place, join=join, overdue=True, wait_due=None), "assignment.queued")
        place = replace(place, route="escalated", reason="waited", target=place.escalation, escalation=None, join=join)
        return self._wait(which, replace(place, overdue=False).armed(now), "assignment.queued")

    def _names_next(self, event: Event, seq: int, now: int) -> bool:
        """Whether the next thing to do is what the event names, and is still to be done to the same record."""
        ahead = deepcopy(self)
        outcome = ahead._next(now)
        if outcome is None or outcome[1:3] != (event.contact, event.conversation):
            return False
        subject = ahead.talks[outcome[1], outcome[2]] if event.contact else ahead.people[outcome[2]]
        return subject.seq == seq + 1

    def _assign(self, which: Id, place: Place | None, agent: str, strategy: str, reason: str, now: int) -> Outcome:
        talk = self._talk(which)
        before, waited = talk.agent, 0 if place is None or talk.status == "assigned" else now - place.queued
        talk.status, talk.agent, talk.place = "assigned", agent, place
        self.clock += 1
        if agent in self.people and self.people[agent].teams is not None:
            self.people[agent].served = self.clock
        if before in self.people and not self.load(str(before)):
            self.people[str(before)].releasing = False
        return self._outcome("assignment.made", which, agent, strategy, reason, waited, before)

    def _wait(self, which: Id, place: Place, type: str) -> Outcome:
        talk = self._talk(which)
        talk.status, talk.agent, talk.place = "waiting", None, place
        talk.armed = talk.seq + 1
        shown = (place.route, place.reason, place.since, place.order, place.join, place.overdue, place.open)
        return self._outcome(type, which, *shown, place.fallback_due, place.wait_due)

    def _talk(self, which: Id) -> Talk:
        return self.talks.setdefault(which, Talk())

    def _ignored(self, which: Id, reason: str) -> Outcome:
        return self._outcome("input.ignored", which, reason)

    def _outcome(self, type: str, which: Id, *said: Any) -> Outcome:
        self._talk(which).seq += 1
        return (type, *which, *said)

    def _agent(self, agent: str, event: Event, now: int) -> Outcome | None:
        who = self.people.setdefault(agent, Person())
        name = f"{event.source} {event.cause.id}"
        refusal = self._refusal(who, event, name)
        if refusal is not None:
            who.seq += 1
            return ("input.ignored", "", agent, refusal)
        at = min(now, event.time_ms)
        match event.body:
            case AgentUpdated(teams=teams, email=email, max_open=max_open):
                if who.set_by == "event" and who.says() == (teams, email, max_open):
                    return None
                who.teams, who.email, who.max_open, who.set_by, who.record_ms = teams, email, max_open, "event", at
                what = "updated"
            case AgentPresence(status=status):
                if who.presence == status:
                    return None
                who.presence, who.presence_ms, what = status, at, "presence"
            case _:
                who.teams = who.email = who.max_open = None
                who.set_by, who.record_ms, what = "event", at, "removed"
        who.seen = [*who.seen, name][-16:]
        return self._changed(agent, what)

    def _refusal(self, who: Person, event: Event, name: str) -> str | None:
        body = event.body
        if name in who.seen:
            return "duplicate"
        if isinstance(body, AgentUpdated) and (body.max_open or 0) < 0:
            return "negative-max-open"
        if not isinstance(body, AgentUpdated) and who.teams is None:
            return "unknown-agent" if who.set_by is None else "removed-agent"
        applied = who.presence_ms if isinstance(body, AgentPresence) else who.record_ms
        return "stale" if applied is not None and event.time_ms < applied else None

    def _changed(self, agent: str, what: str) -> Outcome:
        who = self.people[agent]
        who.seq += 1
        who.releasing = who.teams is None and self.load(agent) > 0
        return ("agent.changed", "", agent, what)


def read_parts(workspaces: Workspaces) -> Reference:
    """The real state as a reference has it: enough to ask who could have what."""
    reference = Reference(0)
    for key, part in workspaces.parts():
        _, _, ids = parse_key(key)
        match part:
            case AgentPart(record=None):
                reference.people[ids[0]] = Person(set_by=part.set_by, releasing=part.releasing)
            case AgentPart(record=record) if record is not None:
                reference.people[ids[0]] = Person(
                    teams=record.teams,
                    email=record.email,
                    max_open=record.max_open,
                    set_by=part.set_by,
                    presence=part.presence,
                    served=part.assigned_last,
                )
            case ConversationPart():
                reference.talks[ids[0], ids[1]] = Talk(part.status, part.agent, _read_place(part), part.seq, part.armed)
            case TurnPart(agent=agent):
                reference.turns[ids[0]] = agent
            case ConfigPart():
                reference.max_open = part.max_open
                reference.configured = {name: (a.teams, a.email, a.max_open) for name, a in part.agents.items()}
    return reference


def _read_place(part: ConversationPart) -> Place | None:
    routing = part.routing
    if routing is None:
        return None
    return Place(
        routing.route,
        routing.route_reason,
        routing.target,
        routing.escalation,
        routing.since_ms,
        routing.order,
        routing.queued_ms,
        routing.join,
        routing.overdue,
        routing.fallback_open,
        routing.deadlines.fallback,
        routing.deadlines.wait,
    )
