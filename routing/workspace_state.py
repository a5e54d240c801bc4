"""How records change what is remembered of the workspaces of one partition.

``evolve`` reads nothing but the record and the state, so that a record folded when it was decided and one read back
years later do the same. What may be decided is ``assignment.py``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from sys import intern
from typing import Any, Final

from msgspec import Struct, convert, json
from msgspec.structs import replace

from routing.decider import LogRecord, Parts
from routing.inputs import ConfiguredAgent
from routing.queues import DeadlineQueue
from routing.workspace_index import Desk
from routing.workspace_parts import (
    AgentPart,
    ConfigPart,
    ContactPart,
    ConversationId,
    ConversationPart,
    HoursNow,
    Offer,
    Routing,
    SourcePart,
    Status,
    TurnPart,
    WorkspacePart,
    agent_key,
    config_key,
    contact_key,
    conversation_key,
    parse_key,
    read_routing,
    source_key,
    turn_key,
)

AGENT_INPUTS_SEEN_MAX: Final = 16  #: of each agent, the last inputs whose copies are recognised by id
WRAPPING_MAX: Final = 1_000  #: ended conversations of one agent that take room at a time
_OVER: Final[Mapping[str, Status]] = {"ended": "ended", "not-routed": "not-routed"}
_SETTLED: Final = frozenset(_OVER.values())
_OF_PRESENCE: Final = frozenset({"presence", "heartbeat"})
_CONFIGURED: Final = (
    "max_open", "agents", "presence_ttl_ms", "wrap_up_ms", "missed_offers_max", "rules", "hours", "zones",
)  # fmt: skip
_decode = json.Decoder(WorkspacePart).decode
read_settled: Final = json.Decoder(dict[str, ConversationPart]).decode  #: settled parts by key, from a JSON object


class WorkspacesState:
    """The workspaces of a partition, with provisional changes."""

    def __init__(self) -> None:
        self.parts: Parts[WorkspacePart] = Parts()
        self.deadlines = DeadlineQueue()
        self.follow_ups = 0  #: records since the last one that holds an input
        self.desks: dict[str, Desk] = {}
        self._busy: set[str] = set()

    def desk(self, workspace: str) -> Desk:
        """The workspace's desk, an empty one if it is new."""
        desk = self.desks.get(workspace)
        if desk is None:
            desk = self.desks[workspace] = Desk(workspace, self.parts, self.deadlines)
        return desk

    @property
    def is_busy(self) -> bool:
        """Something is left to do that waits for no input."""
        return bool(self._busy)

    def busy_desks(self) -> list[Desk]:
        """The workspaces where something is left to do that waits for no input, in the order of their names."""
        return [self.desks[workspace] for workspace in sorted(self._busy)]

    def evolve(self, record: LogRecord) -> None:
        """Fold one record; types that are not ours change nothing."""
        apply = _APPLY.get(record.type)
        if apply is None:
            return
        desk = self.desk(record.workspace)
        given = record.data.get("input")
        self.follow_ups = 0 if given is not None else self.follow_ups + 1
        origin = None if given is None else given.get("origin")
        if origin is not None:
            key = source_key(record.workspace, origin["log_id"], origin["partition"])
            self.parts.put(key, SourcePart(offset=origin["offset"], n=origin["n"]))
        apply(self, desk, record)
        self._note(desk)

    def discard(self) -> None:
        """Take all provisional changes back."""
        self.follow_ups = 0
        self._refresh(self.parts.discard())

    def load(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Put dumped parts back, into a state that has none but settled ones."""
        loaded = {key: _decode(part) for key, part in parts}
        self.parts.values.update(loaded)
        self._refresh(loaded)

    def put_conversation(self, desk: Desk, conversation: ConversationId, part: ConversationPart) -> None:
        """Change a conversation, with all that follows from it."""
        self.parts.put(conversation_key(desk.workspace, conversation), part)
        desk.conversation_changed(conversation, part)

    def put_agent(self, desk: Desk, agent: str, **changes: Any) -> None:
        """Change some of what an agent's part says, with all that follows from it."""
        self.parts.put(agent_key(desk.workspace, agent), replace(desk.agent_part(agent), **changes))
        desk.agent_changed(agent)

    def put_served(self, desk: Desk, agent: str, part: AgentPart) -> None:
        """Change when an agent was served or began to wait; to be told before the conversation that it is about."""
        self.parts.put(agent_key(desk.workspace, agent), part)
        desk.agent_served(agent, part)

    def put_config(self, desk: Desk, **changes: Any) -> None:
        """Change some of what the policy says of agents."""
        self.parts.put(config_key(desk.workspace), replace(desk.config(), **changes))

    def _refresh(self, keys: Iterable[str]) -> None:
        touched = [parse_key(key) for key in keys]
        for workspace, kind, _ in touched:
            if kind == "config":
                self.desk(workspace).config_changed()
        for workspace, kind, ids in touched:
            if kind == "agent":
                self.desk(workspace).agent_changed(ids[0])
            elif kind == "conversation":
                desk, conversation = self.desk(workspace), ConversationId(*ids)
                desk.conversation_changed(conversation, desk.conversation(conversation))
        for workspace in {workspace for workspace, _, _ in touched}:
            self._note(self.desk(workspace))

    def _note(self, desk: Desk) -> None:
        if desk.busy:
            self._busy.add(desk.workspace)
        else:
            self._busy.discard(desk.workspace)


def is_settled(part: Struct) -> bool:
    """Whether nothing follows from a part, and probably never will again: a conversation that is over."""
    return isinstance(part, ConversationPart) and part.status in _SETTLED and part.routing is None


def _chain(record: LogRecord) -> dict[str, Any]:
    return {"seq": record.data["seq"], "prev": record.hash}


def _subject(record: LogRecord) -> ConversationId:
    return ConversationId(record.contact, str(record.subject))


def _agent_changed(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    data = record.data
    agent = str(record.subject)
    before = desk.agent_part(agent)
    what, presence = data["what"], data["presence"]
    changes: dict[str, Any] = {"set_by": data["set_by"], "presence": presence, "held": data.get("held")}
    changes["record"] = None if data["agent"] is None else convert(data["agent"], ConfiguredAgent)
    changes["releasing"] = changes["record"] is None and any(True for _ in desk.owned(agent))
    if data["time_ms"] is not None:
        changes["presence_time_ms" if what in _OF_PRESENCE else "record_time_ms"] = data["time_ms"]
    if "input" in data and data["input"]["type"] != "deadline.passed":
        changes["seen"] = (*before.seen, input_id(data["input"]["source"], data["cause"]["id"]))
        changes["seen"] = changes["seen"][-AGENT_INPUTS_SEEN_MAX:]
    if what in {"presence", "missed"}:
        changes["missed"] = 0
    if changes["record"] is None or "wrapping" in data:
        changes["wrapping"] = tuple(data.get("wrapping", ()))
    comes = before.record is None and changes["record"] is not None
    if comes or (presence == "online" and before.presence not in {None, "online"}):
        changes["idle_since"] = record.offset
    state.put_agent(desk, agent, **_chain(record), **changes)


def input_id(source: str, id: str) -> str:
    """What names an input for ever: ids are unique for a source."""
    return f"{source} {id}"


def _agents_recorded(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    config = convert(record.data["config"], ConfigPart)
    before = desk.config()
    changes: dict[str, Any] = {name: getattr(config, name) for name in _CONFIGURED}
    if before.presence_ttl_ms != config.presence_ttl_ms:
        changes["leases_from_ms"] = record.at_ms
    if config.hours or before.hours:
        kept = {name: now for name, now in before.hours_now.items() if _same_hours(name, before, config)}
        changes["hours_now"] = kept
        changes["hours_seq"] = record.data["seq"]
    state.put_config(desk, **_chain(record), **changes)
    desk.config_changed()


def _same_hours(name: str, before: ConfigPart, now: ConfigPart) -> bool:
    """Whether the policy says of these hours what it said before, so that they stand as they stood."""
    known, said = before.hours[name], now.hours.get(name)
    return known == said and before.zones[known.zone] == now.zones[known.zone]


def _hours_changed(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    data = record.data
    now = HoursNow(open=data["open"], until_ms=data["until_ms"])
    hours_now = {**desk.config().hours_now, data["hours"]: now}
    state.put_config(desk, **_chain(record), hours_now=hours_now, hours_seq=data["seq"])
    desk.hours_changed()


def _ignored(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    chain = _chain(record)
    if record.subject is None:
        state.put_config(desk, **chain)
    elif record.contact:
        conversation = _subject(record)
        state.put_conversation(desk, conversation, replace(desk.conversation(conversation), **chain))
    else:
        state.put_agent(desk, record.subject, **chain)


def _part(
    record: LogRecord,
    status: Status,
    offers: int,
    *,
    routing: Routing | None = None,
    agent: str | None = None,
    armed: int = 0,
    offer: Offer | None = None,
) -> ConversationPart:
    """What a record leaves of its conversation: how often it was offered is all that stays of before."""
    data = record.data
    return ConversationPart(
        seq=data["seq"], prev=record.hash, run=data["run"], status=status,
        routing=routing, agent=agent, armed=armed, offer=offer, offers=offers,
    )  # fmt: skip


def _waiting(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    conversation = _subject(record)
    offers = desk.conversation(conversation).offers
    part = _part(record, "waiting", offers, routing=read_routing(record.data), armed=record.data["seq"])
    state.put_conversation(desk, conversation, part)


def _offered(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    data = record.data
    conversation = _subject(record)
    before = desk.conversation(conversation)
    _serve(state, desk, record, before)
    part = _part(
        record, "offered", before.offers + 1,
        routing=read_routing(data),
        agent=intern(data["agent"]),
        armed=data["seq"],
        offer=Offer(token=data["token"], until_ms=data["until_ms"], strategy=data["strategy"], team=data["team"]),
    )  # fmt: skip
    state.put_conversation(desk, conversation, part)


def _serve(state: WorkspacesState, desk: Desk, record: LogRecord, before: ConversationPart) -> None:
    """An agent gets something: he is the last one served, and it is the next one's turn."""
    data = record.data
    agent = data["agent"]
    served = desk.agent_part(agent)
    if served.record is not None:
        missed = 0 if data["reason"] == "accepted" else served.missed
        if before.agent == agent:  # he had the offer: his load stays, so nobody else tells
            state.put_agent(desk, agent, assigned_last=record.offset, idle_since=record.offset, missed=missed)
        else:
            part = replace(served, assigned_last=record.offset, idle_since=record.offset, missed=missed)
            state.put_served(desk, agent, part)
    turn = data.get("turn")
    if turn is not None:
        part_of_turn = TurnPart(agent=turn["after"], times=turn.get("times", 1))
        state.parts.put(turn_key(desk.workspace, turn["pool"]), part_of_turn)


def _made(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    data = record.data
    conversation = _subject(record)
    agent = intern(data["agent"])
    before = desk.conversation(conversation)
    _serve(state, desk, record, before)
    routing = None if data["route"] is None else read_routing(data)
    offer = before.offer if before.agent == agent else None
    if "released" in data and data["from"] == "assigned":
        _waits_for_work(state, desk, record, data["released"]["agent"])
    part = _part(record, "assigned", before.offers, routing=routing, agent=agent, offer=offer)
    state.put_conversation(desk, conversation, part)
    if routing is not None:
        _remember(state, desk, record, routing, agent)
    if "released" in data:
        _end_release(state, desk, data["released"]["agent"])


def _waits_for_work(state: WorkspacesState, desk: Desk, record: LogRecord, agent: str) -> None:
    part = desk.agent_part(agent)
    if part.record is not None:
        state.put_served(desk, agent, replace(part, idle_since=record.offset))


def _remember(state: WorkspacesState, desk: Desk, record: LogRecord, routing: Routing, agent: str) -> None:
    """Note who has the contact, or had it until now, where its route wants to know."""
    if routing.target.sticky_ms is not None:
        key = contact_key(desk.workspace, record.contact)
        state.parts.put(key, ContactPart(agent=agent, at_ms=record.at_ms))


def _released(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    data = record.data
    if data["agent"] is not None:
        _gives(state, desk, record, data["agent"])
    if data["to"] == "waiting":
        _waiting(state, desk, record)
    else:
        _over(state, desk, record)
    if data["agent"] is not None:
        _end_release(state, desk, data["agent"])


def _rerouted(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    conversation = _subject(record)
    part = replace(desk.conversation(conversation), **_chain(record), routing=read_routing(record.data))
    state.put_conversation(desk, conversation, part)


def _gives(state: WorkspacesState, desk: Desk, record: LogRecord, agent: str) -> None:
    """An agent has one less, or let an offer pass: he waits for work from now on, or first wraps up."""
    data = record.data
    part = desk.agent_part(agent)
    if part.record is not None:
        until_ms = data.get("wrap_up_until_ms")
        if data["from"] == "offered":
            missed = {"offer-missed": part.missed + 1, "declined": 0}.get(data["reason"], part.missed)
            state.put_agent(desk, agent, missed=missed)
        elif until_ms is None:
            _waits_for_work(state, desk, record, agent)
        else:
            wrapping = tuple(sorted((*part.wrapping, until_ms)))[-WRAPPING_MAX:]
            state.put_agent(desk, agent, idle_since=record.offset, wrapping=wrapping)
    before = desk.conversation(_subject(record))
    if data["from"] == "assigned" and before.routing is not None:
        _remember(state, desk, record, before.routing, agent)


def _end_release(state: WorkspacesState, desk: Desk, agent: str) -> None:
    if desk.is_released(agent):
        state.put_agent(desk, agent, releasing=False)


def _over(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
    """The conversation needs no owner; those that joined it go their own way."""
    conversation = _subject(record)
    offers = desk.conversation(conversation).offers
    state.put_conversation(desk, conversation, _part(record, _OVER[record.data["to"]], offers))
    for joiner in desk.joiners(conversation):
        joined = desk.conversation(joiner)
        assert joined.routing is not None
        state.put_conversation(desk, joiner, replace(joined, routing=replace(joined.routing, join=None)))


_APPLY: Final[Mapping[str, Callable[[WorkspacesState, Desk, LogRecord], None]]] = {
    "agent.changed": _agent_changed,
    "agents.recorded": _agents_recorded,
    "hours.changed": _hours_changed,
    "input.ignored": _ignored,
    "assignment.queued": _waiting,
    "assignment.offered": _offered,
    "assignment.made": _made,
    "assignment.rerouted": _rerouted,
    "assignment.released": _released,
    "assignment.not-routed": _over,
}
