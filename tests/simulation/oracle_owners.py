"""Who owns what, told again from ``assignments.log`` by a model that shares no code with the decider.

One owner at any position; nobody is given more than his room by the router; nobody who could have had an agent is
overtaken by a later or less urgent one; only who was offered it accepts, in time; and at the end nobody waits while
somebody is free for him, nobody counts as there who was not heard of, and no room is taken for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG
from routing.steps import ROUTES
from tests.simulation.kept import Kept, KeptLog, Line
from tests.simulation.observer import ViolationError
from tests.simulation.oracle_hours import Hours

Key = tuple[str, str]  # contact and conversation
MAX_OPEN_DEFAULT: Final = 20
SLACK_MS: Final = 1_200_000  #: clocks differ, and a lane looks at its clock now and then
RANKS: Final = {"vip": 0, "escalated": 1, "regular": 2}


@dataclass
class Waiting:
    """Where a conversation waits."""

    route: str
    since_ms: int
    order: int
    target: dict[str, Any]
    join: str | None
    fallback_open: bool
    promoted: bool
    relaxed: bool
    language: str | None

    @classmethod
    def told(cls, data: dict[str, Any]) -> Waiting:
        """As a record tells it."""
        return cls(
            data["route"], data["since_ms"], data["order"], data["target"], data.get("join"),
            bool(data.get("fallback_open")), bool(data.get("promoted")), bool(data.get("relaxed")),
            data.get("language"),
        )  # fmt: skip

    @property
    def place(self) -> tuple[int, int, int]:
        """Who comes first."""
        return (max(RANKS[self.route] - self.promoted, 0), self.since_ms, self.order)

    @property
    def targets(self) -> list[dict[str, Any]]:
        """Whose agents may have it."""
        fallback = self.target.get("fallback")
        return [self.target, fallback] if fallback and self.fallback_open else [self.target]


class Offer(NamedTuple):
    """What an agent may accept."""

    agent: str
    token: str
    until_ms: int


@dataclass
class Desk:
    """One workspace."""

    max_open: int = MAX_OPEN_DEFAULT
    ttl_ms: int | None = None
    leases_from_ms: int = 0
    heard_ms: dict[str, int] = field(default_factory=dict)  #: what agents' presences say of their time
    wrapping: dict[str, list[int]] = field(default_factory=dict)
    offers: dict[Key, Offer] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    presence: dict[str, str | None] = field(default_factory=dict)
    owners: dict[Key, str] = field(default_factory=dict)  #: who was only offered something included
    waiting: dict[Key, Waiting] = field(default_factory=dict)
    hours: Hours = field(default_factory=Hours)

    def open(self, agent: str) -> int:
        """How many conversations he has."""
        return sum(owner == agent for owner in self.owners.values())

    def room(self, agent: str) -> bool:
        """Whether he may be given one more."""
        own = self.records.get(agent, {}).get("max_open")
        taken = self.open(agent) + len(self.wrapping.get(agent, []))
        return taken < (self.max_open if own is None else own)

    def eligible(self, key: Key) -> set[str]:
        """Who could have a waiting conversation now."""
        waiting = self.waiting[key]
        if waiting.join is not None:
            leader = (key[0], waiting.join)
            if leader in self.waiting or leader in self.offers:
                return set()
            if leader in self.owners:
                return {self.owners[leader]} if self.room(self.owners[leader]) else set()
        found: set[str] = set()
        for target in self.hours.serving(waiting.targets):
            for agent in self._named(target, waiting):
                present = self.presence.get(agent) in {None, "online"}
                if (present or not target.get("only_online", True)) and self.room(agent):
                    found.add(agent)
        return found

    def _named(self, target: dict[str, Any], waiting: Waiting) -> list[str]:
        named = target.get("agent")
        if named is not None:
            if named in self.records:
                return [named]
            mail = [
                a for a, record in self.records.items() if (record.get("email") or "").casefold() == named.casefold()
            ]
            return sorted(mail)[:1]
        team = target.get("team")
        found = [agent for agent, record in self.records.items() if team is None or team in record.get("teams", ())]
        return found if waiting.relaxed else [agent for agent in found if self._fits(agent, target, waiting.language)]

    def _fits(self, agent: str, target: dict[str, Any], language: str | None) -> bool:
        """Whether he speaks and knows what is asked for; "pt" is spoken by who speaks it, for "pt-BR" too."""
        record = self.records[agent]
        spoken = [tag.lower() for tag in record.get("languages", [])]
        if target.get("match_language") and language is not None and spoken:
            asked = language.lower()
            if not any(asked == tag or asked.startswith(f"{tag}-") for tag in spoken):
                return False
        return set(target.get("skills", [])) <= set(record.get("skills", []))


class Owners:
    """The model of all workspaces, fed with the log."""

    def __init__(self) -> None:
        self.desks: dict[str, Desk] = {}

    def feed(self, line: Line) -> None:
        """Take the next record, and judge it."""
        record, data = line.record, line.record.data
        desk = self.desks.setdefault(record.workspace, Desk())
        key = (record.contact, str(record.subject))
        where = f"{ASSIGNMENTS_LOG} at {line.stored.offset}: {key}"
        desk.hours.feed(record.type, data, record.at_ms, where)
        if record.type == "agent.changed":
            agent = str(record.subject)
            desk.presence[agent] = data["presence"]
            desk.records.pop(agent, None)
            if data["agent"] is not None:
                desk.records[agent] = data["agent"]
            if data["what"] in {"presence", "heartbeat"}:
                desk.heard_ms[agent] = data["time_ms"]
            if data["agent"] is None or "wrapping" in data:
                desk.wrapping[agent] = list(data.get("wrapping", []))  # a copy: records are not ours to change
        elif record.type == "agents.recorded":
            desk.max_open = data["config"]["max_open"]
            ttl_ms = data["config"].get("presence_ttl_ms")
            if ttl_ms != desk.ttl_ms:
                desk.ttl_ms, desk.leases_from_ms = ttl_ms, record.at_ms
        elif record.type == "assignment.queued":
            if key in desk.owners:
                raise ViolationError("owner", f"{where} waits, but {desk.owners[key]} has it")
            desk.waiting[key] = Waiting.told(data)
        elif record.type in {"assignment.made", "assignment.offered"}:
            desk.hours.check_given(data, record.at_ms, where)
            if key in desk.offers and desk.owners[key] == data["agent"]:
                self._accepted(desk, key, data, record.at_ms, where)
            else:
                self._made(desk, key, data, where)
            if record.type == "assignment.offered":
                desk.offers[key] = Offer(data["agent"], data["token"], data["until_ms"])
        elif record.type in {"assignment.released", "assignment.not-routed"}:
            owner = desk.owners.pop(key, None)
            if data.get("agent") != owner:
                raise ViolationError("owner", f"{where} is released by {data.get('agent')}, {owner} has it")
            offer = desk.offers.pop(key, None)
            if offer is not None and data["reason"] == "offer-missed" and record.at_ms < offer.until_ms:
                raise ViolationError("offer", f"{where}: {offer} is taken back too early")
            if "wrap_up_until_ms" in data:
                desk.wrapping.setdefault(str(owner), []).append(data["wrap_up_until_ms"])
            desk.waiting.pop(key, None)
            if data["to"] == "waiting":
                desk.waiting[key] = Waiting.told(data)

    def _accepted(self, desk: Desk, key: Key, data: dict[str, Any], at_ms: int, where: str) -> None:
        offer = desk.offers.pop(key)
        said = data.get("input", {})
        by_hand = data["strategy"] == "by-hand"
        if not by_hand and (said.get("token") != offer.token or said.get("agent") != offer.agent):
            raise ViolationError("offer", f"{where}: {offer} is accepted by {said}")
        if not by_hand and at_ms >= offer.until_ms:
            raise ViolationError("offer", f"{where}: {offer} is accepted too late")

    def _made(self, desk: Desk, key: Key, data: dict[str, Any], where: str) -> None:
        agent, before = data["agent"], desk.owners.get(key)
        if before != (data.get("released") or {}).get("agent"):
            raise ViolationError("owner", f"{where} goes to {agent}, but {before} has it and was not released: {data}")
        if data["strategy"] != "by-hand":
            if not desk.room(agent):
                raise ViolationError("cap", f"{where} is given to {agent}, who has {desk.open(agent)} and no room")
            place = Waiting.told(data).place
            for other, waiting in desk.waiting.items():
                if other != key and waiting.place < place and agent in desk.eligible(other):
                    raise ViolationError("order", f"{where} {place} is given to {agent} before {other} {waiting.place}")
            if data["route_reason"] == "late-vip" and key in desk.waiting:  # it waited in another route until now
                desk.waiting[key] = Waiting.told(data)
            given = agent in desk.eligible(key) if key in desk.waiting else True
            if not given:
                raise ViolationError("owner", f"{where} is given to {agent}, who could not have it")
        desk.waiting.pop(key, None)
        desk.offers.pop(key, None)
        desk.owners[key] = agent


def check_owners(kept: Kept) -> None:
    """One owner, room and order at every position; progress at the end; both logs agree on who needs an owner."""
    states = _routing_states(kept)
    for log in kept.logs:
        if log.place.topic == ASSIGNMENTS_LOG:
            owners = Owners()
            for line in log.decided:
                owners.feed(line)
            _check_progress(owners)
            _check_times(owners, kept.world.now_ms() - SLACK_MS)
            _check_agreement(owners, states)


def _check_progress(owners: Owners) -> None:
    for name, desk in owners.desks.items():
        for key in desk.waiting:
            if desk.eligible(key):
                raise ViolationError("progress", f"{name}: {key} still waits, and {desk.eligible(key)} are free for it")
        for agent in set(desk.owners.values()):
            if agent not in desk.records and agent in desk.presence:
                kept_by_hand = [key for key, owner in desk.owners.items() if owner == agent]
                desk.records.setdefault(agent, {})
                if not kept_by_hand:
                    raise ViolationError("progress", f"{name}: {agent} was removed and still has conversations")


def _check_times(owners: Owners, over_ms: int) -> None:
    """Nothing goes on that had to end before ``over_ms``."""
    for name, desk in owners.desks.items():
        desk.hours.check_turned(over_ms, name)
        for agent, presence in desk.presence.items():
            if desk.ttl_ms is None or agent not in desk.records or agent not in desk.heard_ms or presence == "offline":
                continue
            until_ms = max(desk.heard_ms[agent], desk.leases_from_ms) + desk.ttl_ms + desk.ttl_ms // 4
            if until_ms < over_ms:
                raise ViolationError("progress", f"{name}: {agent} was not heard of since {until_ms}: {presence}")
        for agent, wrapping in desk.wrapping.items():
            if agent in desk.records and any(until_ms < over_ms for until_ms in wrapping):
                raise ViolationError("progress", f"{name}: {agent} wraps up for ever: {wrapping}")
        for key, offer in desk.offers.items():
            if offer.until_ms < over_ms:
                raise ViolationError("progress", f"{name}: {key} is offered for ever: {offer}")


def _routing_states(kept: Kept) -> dict[tuple[str, Key], str]:
    """Where every conversation stands at the end."""
    states = {}
    for log in kept.logs:
        if log.place.topic == ROUTING_LOG:
            for line in log.decided:
                if line.record.data.get("to") is not None:
                    key = (line.record.contact, str(line.record.subject))
                    states[(line.record.workspace, key)] = line.record.data["to"]
    return states


def _check_agreement(owners: Owners, states: dict[tuple[str, Key], str]) -> None:
    for (workspace, key), state in states.items():
        desk = owners.desks.get(workspace, Desk())
        has_owner = key in desk.owners or key in desk.waiting
        if state not in {*ROUTES, "closed"}:
            raise ViolationError("progress", f"{workspace} {key} is still {state}")
        if has_owner != (state in ROUTES):
            raise ViolationError("progress", f"{workspace} {key} is {state}, but has or awaits an owner: {has_owner}")


def conversations(log: KeptLog) -> int:
    """How many conversations a log knows."""
    return len({(line.record.contact, line.record.subject) for line in log.decided if line.record.contact})
