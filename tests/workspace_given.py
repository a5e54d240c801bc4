"""Given, when, then for the workspace decider: a lane without a log, and short names for its inputs.

``Lane.tell`` does what the real lane does with one input: decide, evolve, ask for follow-ups until there are none.
Its records hold what the real ones hold, so they can be written as JSON and folded again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson
from msgspec import to_builtins

from routing.decider import DECIDER_VERSION, Decision, LogRecord, Policies
from routing.inputs import (
    AgentPresence,
    AgentRemoved,
    AgentsConfigured,
    AgentUpdated,
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentRequested,
    AssignmentTaken,
    Cause,
    Channel,
    ConfiguredAgent,
    Event,
    Origin,
    PoolTarget,
    PresenceStatus,
    RouteName,
    RouteTarget,
    WorkspaceBody,
)
from routing.policy import Policy
from routing.workspace_parts import RULES, ConversationId, ConversationPart
from routing.workspaces import Workspaces

SUPPORT = RouteTarget(team="support")
MANAGERS = RouteTarget(team="managers", strategy="least-open")


class NoPolicies:
    """The workspace decider needs no policy: asking for one is an error."""

    def current(self, workspace: str) -> Policy:
        raise AssertionError(workspace)

    def pinned(self, version: str) -> Policy:
        raise AssertionError(version)


NONE: Policies = NoPolicies()


@dataclass
class Lane:
    """Drives ``Workspaces`` as the assigner's lane does; keeps every record."""

    workspace: str = "default"
    workspaces: Workspaces = field(default_factory=Workspaces)
    records: list[LogRecord] = field(default_factory=list)
    now_ms: int = 1_000_000
    requests: int = 0  #: the next offset in ``assignment.requests``
    inputs: int = 0
    offset_next: int = 0
    confirms: bool = True

    def tell(self, event: Event) -> list[LogRecord]:
        """Decide one input with everything that follows; returns the new records."""
        start = len(self.records)
        decision = self.workspaces.decide(event, NONE, self.now_ms)
        given: dict[str, Any] = {"input": event.recorded()[0]}
        if decision is not None and decision.contact and not event.contact:
            given["input"]["agent"] = event.conversation
        while decision is not None:
            self._append(event, decision, given)
            given = {}
            decision = self.workspaces.follow_up(event, NONE, self.now_ms) if decision.more else None
        if self.confirms:
            self.workspaces.confirm()
        return self.records[start:]

    def _append(self, event: Event, decision: Decision, given: dict[str, Any]) -> None:
        data: dict[str, Any] = {
            "run": decision.run,
            "seq": decision.seq,
            "prev": decision.prev,
            "cause": to_builtins(event.cause),
            **given,
            "policy": decision.policy,
            "at": self.now_ms,
            "decider": DECIDER_VERSION,
            **decision.data,
        }
        stored = orjson.dumps(data)
        record = LogRecord(
            type=decision.type,
            workspace=event.workspace,
            contact=decision.contact,
            subject=decision.subject,
            data=data,
            hash=f"sha256:{sha256(stored).hexdigest()}",
            offset=self.offset_next,
            at_ms=self.now_ms,
        )
        self.workspaces.evolve(record)
        self.records.append(record)
        self.offset_next += 1

    def request(
        self,
        body: WorkspaceBody,
        conversation: str,
        contact: str | None = None,
        *,
        origin: Origin | None = None,
        run: int = 1,
    ) -> Event:
        """An input from ``assignment.requests``, with an origin of its own unless one is given."""
        offset = self.requests
        self.requests += 1
        return Event(
            workspace=self.workspace,
            contact=contact or f"contact-of-{conversation}",
            conversation=conversation,
            source=f"/vip-router/{self.workspace}/routing",
            time_ms=self.now_ms,
            cause=Cause(topic="assignment.requests", partition=0, offset=offset, id=f"{conversation}/{offset}/0"),
            body=body,
            origin=origin or Origin(log_id="log", partition=0, offset=offset, n=0, run=run),
        )

    def agent_event(
        self, body: WorkspaceBody, agent: str | None, *, id: str | None = None, time_ms: int | None = None
    ) -> Event:
        """An input from ``agents.events``."""
        self.inputs += 1
        return Event(
            workspace=self.workspace,
            contact="",
            conversation=agent,
            source="/desk",
            time_ms=self.now_ms if time_ms is None else time_ms,
            cause=Cause(topic="agents.events", partition=0, offset=self.inputs, id=id or f"agent-input-{self.inputs}"),
            body=body,
        )

    def asks(
        self,
        conversation: str,
        target: RouteTarget = SUPPORT,
        *,
        route: RouteName = "regular",
        escalation: RouteTarget | None = None,
        join: str | None = None,
        language: str = "en",
        contact: str | None = None,
        origin: Origin | None = None,
        run: int = 1,
    ) -> list[LogRecord]:
        """The router asks for an owner."""
        body = requested(target, route=route, escalation=escalation, join=join, language=language)
        return self.tell(self.request(body, conversation, contact, origin=origin, run=run))

    def takes(
        self,
        conversation: str,
        agent: str | None,
        *,
        fallback: AssignmentRequested | None = None,
        contact: str | None = None,
    ) -> list[LogRecord]:
        """A person takes the conversation, or (None) releases it."""
        return self.tell(self.request(AssignmentTaken(agent=agent, fallback=fallback), conversation, contact))

    def ends(self, conversation: str, *, contact: str | None = None) -> list[LogRecord]:
        """The conversation is over."""
        return self.tell(self.request(AssignmentEnded(reason="closed"), conversation, contact))

    def refuses(self, conversation: str) -> list[LogRecord]:
        """The router does not route it."""
        return self.tell(self.request(AssignmentRefused(reason="once-per-contact"), conversation))

    def has(
        self,
        agent: str,
        *teams: str,
        max_open: int | None = None,
        email: str | None = None,
        time_ms: int | None = None,
        **more: Any,
    ) -> list[LogRecord]:
        """An agent's record arrives."""
        body = AgentUpdated(teams=teams, max_open=max_open, email=email, **more)
        return self.tell(self.agent_event(body, agent, time_ms=time_ms))

    def sees(
        self, agent: str, status: PresenceStatus, *, id: str | None = None, time_ms: int | None = None
    ) -> list[LogRecord]:
        """An agent's presence arrives."""
        return self.tell(self.agent_event(AgentPresence(status=status), agent, id=id, time_ms=time_ms))

    def loses(self, agent: str) -> list[LogRecord]:
        """An agent is removed."""
        return self.tell(self.agent_event(AgentRemoved(), agent))

    def configures(self, max_open: int = 20, **agents: ConfiguredAgent) -> list[LogRecord]:
        """The policy's ``[agents]``, from a program of the first rules."""
        return self.tell(self.agent_event(AgentsConfigured(max_open=max_open, agents=agents), None))

    def rules(self, **rules: Any) -> list[LogRecord]:
        """The policy's ``[agents]`` without any agent, from today's program."""
        body = AgentsConfigured(**{"max_open": 20, "rules": RULES, **rules})
        return self.tell(self.agent_event(body, None))

    def accepts(self, agent: str, conversation: str, token: str | None = None) -> list[LogRecord]:
        """An agent accepts what he is offered; ``token`` is the present offer's unless one is given."""
        return self.tell(self.agent_event(AssignmentAccepted(**self._answer(conversation, token)), agent))

    def declines(self, agent: str, conversation: str, token: str | None = None) -> list[LogRecord]:
        """An agent declines what he is offered."""
        return self.tell(self.agent_event(AssignmentDeclined(**self._answer(conversation, token)), agent))

    def _answer(self, conversation: str, token: str | None) -> dict[str, str]:
        offer = self.part(conversation).offer
        known = "none" if offer is None else offer.token
        return {"conversation": conversation, "contact": f"contact-of-{conversation}", "token": token or known}

    def passes(self, duration_ms: int) -> list[LogRecord]:
        """Time passes, and every deadline in it fires when it is due."""
        start = len(self.records)
        end_ms = self.now_ms + duration_ms
        while (due_ms := self.workspaces.next_due_ms()) is not None and due_ms <= end_ms:
            self.now_ms = max(self.now_ms, due_ms)
            for event in self.workspaces.due(self.now_ms, 10):
                self.tell(event)
        self.now_ms = end_ms
        return self.records[start:]

    def part(self, conversation: str, contact: str | None = None) -> ConversationPart:
        """A conversation as it is now."""
        desk = self.workspaces.state.desk(self.workspace)
        return desk.conversation(ConversationId(contact or f"contact-of-{conversation}", conversation))

    def owner(self, conversation: str, contact: str | None = None) -> str | None:
        """Who owns a conversation; None: nobody."""
        return self.part(conversation, contact).agent

    def open(self, agent: str) -> int:
        """How many conversations an agent owns."""
        return self.workspaces.state.desk(self.workspace).agents[agent].open


def requested(
    target: RouteTarget = SUPPORT,
    *,
    route: RouteName = "regular",
    escalation: RouteTarget | None = None,
    join: str | None = None,
    language: str = "en",
) -> AssignmentRequested:
    """The body of a request."""
    return AssignmentRequested(
        route=route,
        route_reason={"vip": "vip", "regular": "not-vip", "escalated": "asked"}[route],
        target=target,
        escalation=escalation,
        policy="sha256:0123456789abcdef",
        language=language,
        channel=Channel(id="c1", type="whatsapp"),
        join=join,
    )


def dedicated(
    agent: str,
    *,
    team: str | None = None,
    after_ms: int | None = None,
    wait_max_ms: int | None = None,
    only_online: bool = True,
) -> RouteTarget:
    """A route to one agent, with a team to fall back on."""
    return RouteTarget(
        agent=agent,
        only_online=only_online,
        fallback=None if team is None else PoolTarget(team=team),
        fallback_after_ms=after_ms,
        wait_max_ms=wait_max_ms,
    )


def types(records: list[LogRecord]) -> list[str]:
    """The records' types."""
    return [record.type for record in records]


def given_to(records: list[LogRecord]) -> list[tuple[str | None, str]]:
    """Who got what in these records, in order."""
    return [(record.subject, record.data["agent"]) for record in records if record.type == "assignment.made"]


def as_read_back(record: LogRecord) -> LogRecord:
    """The record as it comes out of the log: its data parsed from JSON."""
    return LogRecord(
        type=record.type,
        workspace=record.workspace,
        contact=record.contact,
        subject=record.subject,
        data=orjson.loads(orjson.dumps(record.data)),
        hash=record.hash,
        offset=record.offset,
        at_ms=record.at_ms,
    )
