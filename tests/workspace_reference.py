"""The workspace decider once more, slow and obvious: lists and scans, nothing kept that could be computed.

``Reference.tell`` decides an input with all its follow-ups and says what it decided; the model test holds it equal to
the real one. ``workspace_reference_reading.py`` makes a reference of a real state.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from typing import Any

from routing.inputs import (
    AgentPresence,
    AgentsConfigured,
    AgentUpdated,
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentRequested,
    AssignmentTaken,
    DeadlinePassed,
    Event,
    PoolTarget,
)
from tests.workspace_reference_hours import ReferenceHours
from tests.workspace_reference_parts import LIVE, Id, Outcome, Person, Place, Talk, replace_sorted, says


class Reference:
    """One workspace."""

    def __init__(self, follow_ups_max: int) -> None:
        self.people: dict[str, Person] = {}
        self.talks: dict[Id, Talk] = {}
        self.turns: dict[str, tuple[str, int]] = {}
        self.contacts: dict[str, tuple[str, int]] = {}
        self.tokens: dict[tuple[Id, int], str] = {}  #: what the real one calls its offers
        self.max_open = 20
        self.ttl: int | None = None
        self.leases_from = 0
        self.wrap_up: int | None = None
        self.missed_max = 3
        self.rules = 1
        self.configured: dict[str, tuple[Any, ...]] = {}
        self.hours = ReferenceHours()
        self.sources: dict[tuple[str, int], tuple[int, int]] = {}
        self.nobodys_seq = 0
        self.clock = 0  #: rises with each record
        self.follow_ups_max = follow_ups_max

    # Who may have what.

    def load(self, agent: str) -> int:
        return sum(talk.agent == agent for talk in self.talks.values())

    def room(self, agent: str) -> int:
        wrapping = len(self.people.get(agent, Person()).wrapping)
        return self.capacity(agent) - self.load(agent) - wrapping

    def capacity(self, agent: str) -> int:
        own = self.people.get(agent, Person()).max_open
        return self.max_open if own is None else own

    def fits(self, agent: str, target: PoolTarget, place: Place) -> bool:
        """Whether an agent of a pool knows and speaks what is asked for."""
        who = self.people[agent]
        if place.relaxed or target.agent is not None:
            return True
        if target.match_language and place.language is not None and who.languages:
            parts = place.language.lower().split("-")
            spoken = {tag.lower() for tag in who.languages}
            if self.rules > 2:
                spoken |= {tag.rsplit("-", n)[0] for tag in spoken for n in range(9)}
            if not {"-".join(parts[:n]) for n in range(1, 9)} & spoken:
                return False
        return set(target.skills) <= set(who.skills)

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

    def free(self, target: PoolTarget, place: Place) -> list[str]:
        ready = [agent for agent in self.members(target) if self.room(agent) > 0 and self.fits(agent, target, place)]
        return [a for a in ready if not target.only_online or self.people[a].presence in {None, "online"}]

    def leader(self, which: Id, place: Place) -> Talk | None:
        leader = self.talks.get((which[0], place.join)) if place.join is not None else None
        return leader if leader is not None and leader.status in LIVE else None

    def could_have(self, which: Id, place: Place) -> tuple[list[str], PoolTarget | None]:
        """The agents who could have it now, and as whose members; (["x"], None): as the other's owner."""
        leader = self.leader(which, place)
        if leader is not None:
            owner = leader.agent if leader.status == "assigned" else None
            return ([owner] if owner is not None and self.room(owner) > 0 else []), None
        for target, _ in self.hours.serving(place.targets()):
            if free := self.free(target, place):
                return free, target
        return [], None

    def choose(self, which: Id, place: Place, now: int) -> tuple[str, str, str] | None:
        if self.leader(which, place) is not None:
            free, _ = self.could_have(which, place)
            return (free[0], "joined", "joined") if free else None
        return self._sticky(which, place, now) or self._best(place, place.passed) or self._best(place, ())

    def _sticky(self, which: Id, place: Place, now: int) -> tuple[str, str, str] | None:
        within, (agent, at) = place.target.sticky_ms, self.contacts.get(which[0], ("", 0))
        if within is None or not agent or now - at > within or agent in place.passed:
            return None
        serving = [target for target, _ in self.hours.serving(place.targets())]
        could = [target for target in serving if target.agent is None and agent in self.free(target, place)]
        return (agent, "sticky", "had-it-last") if could else None

    def _best(self, place: Place, passed: tuple[str, ...]) -> tuple[str, str, str] | None:
        for target, stands_in in self.hours.serving(place.targets()):
            free = [agent for agent in self.free(target, place) if agent not in passed]
            if free:
                chosen, strategy, reason = self._pick(target, place, free)
                if target is not place.target:
                    reason = "outside-hours" if stands_in else "fallback"
                return chosen, strategy, reason
        return None

    def _pick(self, target: PoolTarget, place: Place, free: list[str]) -> tuple[str, str, str]:
        if target.agent is not None:
            return free[0], "dedicated", "dedicated"
        if target.strategy == "least-open":
            return min(free, key=self._load_key), "least-open", "fewest-open"
        if target.strategy == "longest-idle":
            return min(free, key=lambda a: (self.people[a].idle, a)), "longest-idle", "longest-idle"
        pool = self.pool_name(target, place)
        last, times = self.turns.get(pool, ("", 0))
        if last in self.free(target, place) and times < self.people[last].weight and last in free:
            self.turns[pool] = (last, times + 1)
            return last, "round-robin", "next-in-turn"
        chosen = min(free, key=lambda a: (a <= last, a))
        self.turns[pool] = (chosen, 1)
        return chosen, "round-robin", "next-in-turn"

    def _load_key(self, agent: str) -> tuple[Any, ...]:
        who = self.people[agent]
        if self.rules == 1:
            return (self.load(agent), who.served, agent)
        return (Fraction(self.load(agent), max(self.capacity(agent) * who.weight, 1)), who.idle, agent)

    def pool_name(self, target: PoolTarget, place: Place) -> str:
        names = ["workspace" if target.team is None else f"team/{target.team}"]
        if not place.relaxed:
            if target.match_language and place.language is not None:
                names.append(f"language={place.language}")
            names += sorted(set(target.skills))
        return "/".join(names)

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

    def missing(self) -> list[str]:
        """Agents who let too many offers pass and still count as online."""
        ours = [(agent, who) for agent, who in sorted(self.people.items()) if who.teams is not None]
        return [a for a, who in ours if who.missed >= self.missed_max and who.presence in {None, "online"}]

    def busy(self) -> bool:
        return bool(self.releasing() or self.unconfigured() or self.missing() or self.servable())

    def due(self, now: int) -> list[tuple[int, Id, str]]:
        found: list[tuple[int | None, Id, str]] = []
        for which in self.waiting():
            place = self._place(which)
            found += [
                (place.fallback_due, which, "fallback"),
                (place.wait_due, which, "wait"),
                (place.promote_due, which, "promote"),
                (place.relax_due, which, "relax"),
            ]
        found += [(talk.until, which, "offer") for which, talk in self.talks.items() if talk.status == "offered"]
        for agent, who in self.people.items():
            if who.teams is not None:
                found += [(self.lease_end(who), ("", agent), "lease")]
                found += [(min(who.wrapping), ("", agent), "wrap-up")] if who.wrapping else []
        found.append((self.hours.next_due(), ("", ""), "hours"))
        return sorted((due, which, kind) for due, which, kind in found if due is not None and due <= now)

    def lease_end(self, who: Person, told: int | None = None) -> int | None:
        """When an agent is not heard of any more; of a presence told now, if ``told`` is given."""
        at = who.presence_ms if told is None else told
        if self.ttl is None or at is None or (told is None and who.presence == "offline"):
            return None
        return max(at, self.leases_from) + self.ttl + self.ttl // 4

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
                if talk.status in {"assigned", "offered"}:
                    return self._ignored(which, f"already-{talk.status}"), False
                return self._route(which, body, event, now), True
            case AssignmentTaken(agent=None):
                return self._put_back(which, body, event, now)
            case AssignmentTaken():
                if talk.agent == body.agent and talk.status == "assigned":
                    return self._ignored(which, "present-owner"), False
                place = talk.place or self._fallback(body, event, now)
                return self._assign(which, place, str(body.agent), "by-hand", "taken-by-hand", now), True
            case AssignmentEnded():
                if talk.status not in LIVE:
                    return self._ignored(which, self._unowned(talk)), False
                return self._release(which, None, body.reason, now), True
            case AssignmentRefused():
                if talk.status in {*LIVE, "not-routed"}:
                    return self._ignored(which, f"already-{talk.status}"), False
                self._talk(which).status = "not-routed"
                return self._outcome("assignment.not-routed", which, body.reason), False
            case AssignmentAccepted() | AssignmentDeclined():
                about = self.talks.get((body.contact, body.conversation), Talk())
                if about.offers:
                    return self._answer((body.contact, body.conversation), about, event, now)
            case DeadlinePassed():
                step = self._deadline(event, body, now)
                return step, step is not None
            case AgentsConfigured():
                said = {name: says(a) for name, a in body.agents.items()}
                rules = (body.presence_ttl_ms, body.wrap_up_ms, body.missed_offers_max or 3, body.rules)
                known = (self.ttl, self.wrap_up, self.missed_max, self.rules)
                same_hours = (self.hours.rules, self.hours.zones) == (body.hours, body.zones)
                same = (self.max_open, self.configured, known) == (body.max_open, said, rules) and same_hours
                if same and self.nobodys_seq:
                    return None, False
                self.hours.told(body.hours, body.zones)
                self.max_open, self.configured = body.max_open, said
                self.leases_from = self.leases_from if body.presence_ttl_ms == self.ttl else now
                self.ttl, self.wrap_up, self.missed_max, self.rules = rules
                self.nobodys_seq += 1
                self.hours.seq = self.nobodys_seq
                self.clock += 1
                return ("agents.recorded", "", None), True
        outcome = self._agent(str(event.conversation), event, now)
        return outcome, outcome is not None and outcome[0] != "input.ignored"

    def _turn(self, now: int) -> Outcome:
        """Open or close the teams of some hours."""
        self.nobodys_seq += 1
        self.hours.seq = self.nobodys_seq
        self.clock += 1
        return ("hours.changed", "", None, *self.hours.turn(now))

    def _next(self, now: int) -> Outcome | None:
        if self.hours.due(now):
            return self._turn(now)
        for agent in self.releasing():
            owned = [(talk.order(), which) for which, talk in self.talks.items() if talk.agent == agent]
            which = min(owned)[1]
            return self._release(which, self.talks[which].place, "agent-removed", now)
        for agent in self.unconfigured():
            who = self.people.setdefault(agent, Person())
            said = self.configured.get(agent)
            was = who.teams
            who.hears(said)
            who.set_by = "policy"
            return self._changed(agent, "configured" if said else "removed", comes=was is None and said is not None)
        for agent in self.missing():
            who = self.people[agent]
            who.presence, who.held, who.missed = "away", "missed", 0
            who.set_by = who.set_by or "event"
            return self._changed(agent, "missed")
        for which in self.servable():
            place = self._place(which)
            chosen = self.choose(which, place, now)
            assert chosen is not None
            return self._give(which, place, chosen, now)
        return None

    def _give(self, which: Id, place: Place, chosen: tuple[str, str, str], now: int) -> Outcome:
        agent, strategy, reason = chosen
        if place.target.accept_ms is None or strategy == "joined":
            return self._assign(which, replace(place, passed=()), *chosen, now)
        talk = self._talk(which)
        self.clock += 1
        talk.status, talk.agent, talk.place, talk.how = "offered", agent, place, strategy
        talk.until, talk.offers, talk.armed = now + place.target.accept_ms, talk.offers + 1, talk.seq + 1
        talk.token = self.tokens.get((which, talk.armed))
        self.people[agent].served = self.people[agent].idle = self.clock
        said = (agent, strategy, reason, now - place.queued, talk.until)
        return self._outcome("assignment.offered", which, *said)

    def _answer(self, which: Id, talk: Talk, event: Event, now: int) -> tuple[Outcome, bool]:
        body, agent = event.body, str(event.conversation)
        assert isinstance(body, AssignmentAccepted | AssignmentDeclined)
        mine = talk.agent == agent and talk.token == body.token
        if talk.status == "assigned" and mine:
            return self._ignored(which, "already-accepted"), False
        if talk.status != "offered" or (mine and now >= talk.until):
            return self._ignored(which, "offer-over"), False
        if not mine:
            return self._ignored(which, "wrong-token"), False
        if isinstance(body, AssignmentDeclined):
            self.people[agent].missed = 0
            return self._pass_on(which, "declined", now), True
        self.people[agent].missed = 0
        place = replace(self._place(which), passed=())
        return self._assign(which, place, agent, talk.how, "accepted", now), True

    def _caught_up(self, which: Id, place: Place, now: int) -> Place:
        if place.fallback_due is not None and place.fallback_due <= now:
            place = replace(place, open=True, fallback_due=None)
        if place.promote_due is not None and place.promote_due <= now:
            place = replace(place, promoted=True, promote_due=None)
        if place.relax_due is not None and place.relax_due <= now:
            place = replace(place, relaxed=True, relax_due=None)
        return self._waited(which, place, now) if place.wait_due is not None and place.wait_due <= now else place

    def _pass_on(self, which: Id, reason: str, now: int) -> Outcome:
        place, agent = self._place(which), str(self.talks[which].agent)
        place = self._caught_up(which, place, now)
        passed = (*(name for name in place.passed if name != agent), agent)[-16:]
        outcome = self._wait(which, replace(place, passed=passed), "assignment.released")
        if not self.load(agent):
            self.people[agent].releasing = False
        return (*outcome, agent, reason)

    def _route(self, which: Id, body: AssignmentRequested, event: Event, now: int) -> Outcome:
        place = self._new_place(body, event, now)
        talk = self._talk(which)
        if talk.status == "waiting" and talk.place is not None:
            place = replace(place, since=talk.place.since, order=talk.place.order, queued=talk.place.queued)
        other = self.talks.get((which[0], body.join)) if body.join else None
        if other is None or other.status not in LIVE or self._circle(which, str(body.join)):
            place.join = None
        elif other.status != "assigned" and other.place is not None:
            place.since, place.order = other.place.since, other.place.order
        chosen = None if self.busy() or self.hours.due(now) else self.choose(which, place, now)
        if chosen is not None:
            return self._give(which, place, chosen, now)
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
        place.language = body.language
        return place.armed(now)

    def _fallback(self, body: AssignmentTaken, event: Event, now: int) -> Place | None:
        return None if body.fallback is None else replace(self._new_place(body.fallback, event, now), join=None)

    def _put_back(self, which: Id, body: AssignmentTaken, event: Event, now: int) -> tuple[Outcome, bool]:
        talk = self.talks.get(which, Talk())
        if talk.status in {"waiting", "offered"}:
            return self._ignored(which, f"already-{talk.status}"), False
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
        agent, status = self.talks[which].agent, self.talks[which].status
        self.clock += 1
        if agent is not None and status == "assigned":
            self._had(which, agent, now)
        if place is not None:
            had_owner = status == "assigned"
            place = replace(place, queued=now).armed(now) if had_owner else self._caught_up(which, place, now)
            outcome = (*self._wait(which, place, "assignment.released"), agent, reason)
        else:
            until = self._wraps(agent, now) if status == "assigned" else None
            self.talks[which] = Talk(status="ended", seq=self.talks[which].seq, offers=self.talks[which].offers)
            for other, talk in self.talks.items():
                if other[0] == which[0] and talk.place is not None and talk.place.join == which[1]:
                    talk.place = replace(talk.place, join=None)
            outcome = self._outcome("assignment.released", which, agent, reason, until)
        if agent in self.people and not self.load(str(agent)):
            self.people[str(agent)].releasing = False
        return outcome

    def _had(self, which: Id, agent: str, now: int) -> None:
        """An agent's conversation is taken from him: he waits for work, and is known to have had the contact."""
        place = self.talks[which].place
        if agent in self.people and self.people[agent].teams is not None:
            self.people[agent].idle = self.clock
        if place is not None and place.target.sticky_ms is not None:
            self.contacts[which[0]] = (agent, now)

    def _wraps(self, agent: str | None, now: int) -> int | None:
        who = self.people.get(str(agent), Person())
        length = (self.wrap_up or 0) if who.wrap_up is None else who.wrap_up
        if who.teams is None or length == 0:
            return None
        who.wrapping = tuple(sorted((*who.wrapping, now + length)))
        return now + length

    def _agents_time(self, agent: str, body: DeadlinePassed, now: int) -> Outcome | None:
        who = self.people[agent]
        if who.seq != body.seq or (now, ("", agent), body.kind) < min(
            (each for each in self.due(now) if each[1:] == (("", agent), body.kind)), default=(now + 1, ("", ""), "")
        ):
            return None
        who.set_by = who.set_by or "event"
        if body.kind == "lease":
            who.presence, who.held = "offline", "lapsed"
            return self._changed(agent, "lapsed")
        who.wrapping = tuple(until for until in who.wrapping if until > now)
        return self._changed(agent, "wrapped-up")

    def _deadline(self, event: Event, body: DeadlinePassed, now: int) -> Outcome | None:
        if body.kind == "drain":
            return self._next(now) if self._names_next(event, body.seq, now) else None
        if body.kind == "hours":
            return self._turn(now) if self.hours.seq == body.seq and self.hours.due(now) else None
        which = (event.contact, str(event.conversation))
        if not event.contact:
            return self._agents_time(which[1], body, now)
        talk = self.talks[which]
        place = talk.place
        if place is None or talk.armed != body.seq or (talk.status == "offered") != (body.kind == "offer"):
            return None
        if body.kind == "offer":
            self.people[str(talk.agent)].missed += 1
            return self._pass_on(which, "offer-missed", now)
        if talk.status != "waiting":
            return None
        if body.kind == "fallback":
            return self._wait(which, replace(place, open=True, fallback_due=None), "assignment.queued")
        if body.kind == "promote":
            return self._wait(which, replace(place, promoted=True, promote_due=None), "assignment.queued")
        if body.kind == "relax":
            return self._wait(which, replace(place, relaxed=True, relax_due=None), "assignment.queued")
        return self._wait(which, self._waited(which, place, now), "assignment.queued")

    def _waited(self, which: Id, place: Place, now: int) -> Place:
        leader = self.leader(which, place)
        join = place.join if leader is not None and leader.status != "assigned" else None
        if place.escalation is None:
            return replace(place, join=join, overdue=True, wait_due=None)
        place = replace(place, route="escalated", reason="waited", target=place.escalation, escalation=None, join=join)
        return replace(place, overdue=False, promoted=False).armed(now)

    def _names_next(self, event: Event, seq: int, now: int) -> bool:
        """Whether the next thing to do is what the event names, and is still to be done to the same record."""
        ahead = deepcopy(self)
        outcome = ahead._next(now)
        if outcome is None or outcome[1:3] != (event.contact, event.conversation):
            return False
        if outcome[2] is None:
            return ahead.nobodys_seq == seq + 1
        subject = ahead.talks[outcome[1], outcome[2]] if event.contact else ahead.people[outcome[2]]
        return subject.seq == seq + 1

    def _assign(self, which: Id, place: Place | None, agent: str, strategy: str, reason: str, now: int) -> Outcome:
        talk = self._talk(which)
        before, waited = talk.agent, 0 if place is None or talk.status == "assigned" else now - place.queued
        self.clock += 1
        if before != agent and talk.status == "assigned" and self.people.get(str(before), Person()).teams is not None:
            self.people[str(before)].idle = self.clock
        talk.token = talk.token if before == agent else None
        talk.status, talk.agent, talk.place = "assigned", agent, place
        if place is not None and place.target.sticky_ms is not None:
            self.contacts[which[0]] = (agent, now)
        if agent in self.people and self.people[agent].teams is not None:
            self.people[agent].served = self.people[agent].idle = self.clock
        if before in self.people and not self.load(str(before)):
            self.people[str(before)].releasing = False
        released = None if before == agent else before
        return self._outcome("assignment.made", which, agent, strategy, reason, waited, released)

    def _wait(self, which: Id, place: Place, type: str) -> Outcome:
        talk = self._talk(which)
        talk.status, talk.agent, talk.place = "waiting", None, place
        talk.armed = talk.seq + 1
        shown = (place.route, place.reason, place.since, place.order, place.join, place.overdue, place.open)
        more = (place.promoted, place.relaxed, place.passed, place.promote_due, place.relax_due)
        return self._outcome(type, which, *shown, place.fallback_due, place.wait_due, *more)

    def _talk(self, which: Id) -> Talk:
        return self.talks.setdefault(which, Talk())

    def _ignored(self, which: Id, reason: str) -> Outcome:
        return self._outcome("input.ignored", which, reason)

    def _outcome(self, type: str, which: Id, *said: Any) -> Outcome:
        self._talk(which).seq += 1
        self.clock += type == "input.ignored"
        return (type, *which, *said)

    def _agent(self, agent: str, event: Event, now: int) -> Outcome | None:
        who = self.people.setdefault(agent, Person())
        name = f"{event.source} {event.cause.id}"
        refusal = self._refusal(who, event, name, now)
        if refusal is not None:
            who.seq += 1
            self.clock += 1
            return ("input.ignored", "", agent, refusal)
        at = min(now, event.time_ms)
        was, came = who.teams, who.presence
        match event.body:
            case AgentUpdated() as body:
                said = says(replace_sorted(body))
                if who.set_by == "event" and who.says() == said:
                    return None
                who.hears(said)
                who.set_by, who.record_ms, what = "event", at, "updated"
            case AgentPresence(status=status):
                if self._is_heartbeat(who, status):
                    if not self._renews(who, at, now):
                        return None
                    who.presence_ms, what = at, "heartbeat"
                else:
                    who.presence, who.presence_ms, who.held, who.missed, what = status, at, None, 0, "presence"
            case _:
                who.hears(None)
                who.set_by, who.record_ms, what = "event", at, "removed"
        who.seen = [*who.seen, name][-16:]
        online = who.presence == "online" and came not in {None, "online"}
        return self._changed(agent, what, comes=online or (was is None and who.teams is not None))

    def _is_heartbeat(self, who: Person, status: str) -> bool:
        return status == "online" and self.ttl is not None if who.held == "missed" else who.presence == status

    def _renews(self, who: Person, at: int, now: int) -> bool:
        if self.ttl is None or who.presence == "offline" or self._is_over(who, at, now):
            return False
        return who.presence_ms is None or at - who.presence_ms >= max(self.ttl // 4, 1)

    def _is_over(self, who: Person, at: int, now: int) -> bool:
        end = self.lease_end(who, at)
        return end is not None and end <= now

    def _refusal(self, who: Person, event: Event, name: str, now: int) -> str | None:
        body = event.body
        if name in who.seen:
            return "duplicate"
        if isinstance(body, AgentUpdated) and (body.max_open or 0) < 0:
            return "negative-max-open"
        if isinstance(body, AssignmentAccepted | AssignmentDeclined):
            return "no-offer"
        if not isinstance(body, AgentUpdated) and who.teams is None:
            return "unknown-agent" if who.set_by is None else "removed-agent"
        applied = who.presence_ms if isinstance(body, AgentPresence) else who.record_ms
        if applied is not None and event.time_ms < applied:
            return "stale"
        if not isinstance(body, AgentPresence) or body.status == "offline" or self._is_heartbeat(who, body.status):
            return None
        return "lease-over" if self._is_over(who, min(now, event.time_ms), now) else None

    def _changed(self, agent: str, what: str, *, comes: bool = False) -> Outcome:
        who = self.people[agent]
        who.seq += 1
        self.clock += 1
        who.idle = self.clock if comes else who.idle
        who.wrapping = () if who.teams is None else who.wrapping
        who.releasing = who.teams is None and self.load(agent) > 0
        return ("agent.changed", "", agent, what, who.presence, who.held)
