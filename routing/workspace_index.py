"""What a workspace looks like now: who is free, who waits for whom, what is left to do.

A ``Desk`` is derived from the workspace's parts and holds nothing of its own: told which part changed, it brings
itself up to date from the part as it is now. So the same calls serve a new record, a discarded one and a restart.
Nothing here decides; who changes parts is ``workspace_state.py``, who reads them ``assignment.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from routing.decider import Parts
from routing.desk_agents import Agent
from routing.desk_hours import DeskHours, hours_of
from routing.inputs import ConfiguredAgent, DeadlineKind, Origin, PoolTarget
from routing.pools import Pools
from routing.queues import DeadlineQueue, Due
from routing.strategies import Pool, PoolKey, owner_key, pool_key
from routing.workspace_parts import (
    RULES_BY_ROOM,
    RULES_WIDER_LANGUAGES,
    AgentPart,
    ConfigPart,
    ContactPart,
    ConversationId,
    ConversationPart,
    Routing,
    SourcePart,
    TurnPart,
    WorkspacePart,
    agent_key,
    config_key,
    contact_key,
    conversation_key,
    source_key,
    turn_key,
)

JOINS_MAX: Final = 64  #: conversations that may wait for one another's owner in a row
MISSED_OFFERS_MAX: Final = 3  #: in a row, until an agent counts as away; where the policy says nothing
LIVE: Final = frozenset({"assigned", "offered", "waiting"})  #: conversations that have or await an owner
_NEW_CONVERSATION: Final = ConversationPart()
_NEW_AGENT: Final = AgentPart()
_NEW_CONFIG: Final = ConfigPart()


class _Standing(NamedTuple):
    """What a conversation adds to the index, so that it can be taken out again."""

    owner: str | None = None
    pools: tuple[Pool, ...] = ()
    join: ConversationId | None = None
    deadlines: tuple[Due, ...] = ()


_NOWHERE: Final = _Standing()


@lru_cache(maxsize=4_096)
def _owned_by(owner: str) -> _Standing:
    return _Standing(owner=owner)


class Desk:
    """One workspace: its parts by name, and their index."""

    def __init__(self, workspace: str, parts: Parts[WorkspacePart], deadlines: DeadlineQueue) -> None:
        self.workspace = workspace
        self.agents: dict[str, Agent] = {}  #: everybody with a part or a conversation
        self.releasing: set[str] = set()  #: removed agents who still have conversations
        self.unconfigured: set[str] = set()  #: agents whose part does not say yet what the policy says
        self.missing: set[str] = set()  #: agents who let too many offers pass and still count as online
        self.pools = Pools(self.agents, self._agent)
        self.hours: DeskHours | None = None  #: of its teams; None: they are always open
        self._parts = parts
        self._deadlines = deadlines
        self._by_room = False  #: loads count relative to what an agent may have
        self._standing: dict[ConversationId, _Standing] = {}
        self._owned: dict[str, set[ConversationId]] = {}
        self._joiners: dict[ConversationId, set[ConversationId]] = {}

    @property
    def ready(self) -> set[PoolKey]:
        """Pools where somebody waits and somebody is free."""
        return self.pools.ready

    @property
    def busy(self) -> bool:
        """Something is left to do that waits for no input."""
        return bool(self.pools.ready or self.releasing or self.unconfigured or self.missing)

    # What the parts say.

    def conversation(self, conversation: ConversationId) -> ConversationPart:
        """The conversation; a new one if it is not known."""
        part = self._parts.values.get(conversation_key(self.workspace, conversation))
        return part if isinstance(part, ConversationPart) else _NEW_CONVERSATION

    def agent_part(self, agent: str) -> AgentPart:
        """The agent's part; an empty one if there is none."""
        part = self._parts.values.get(agent_key(self.workspace, agent))
        return part if isinstance(part, AgentPart) else _NEW_AGENT

    def config(self) -> ConfigPart:
        """What the policy says of agents; the defaults until it said so."""
        part = self._parts.values.get(config_key(self.workspace))
        return part if isinstance(part, ConfigPart) else _NEW_CONFIG

    def turn(self, pool: str) -> TurnPart | None:
        """Whom round robin served last in a pool."""
        part = self._parts.values.get(turn_key(self.workspace, pool))
        return part if isinstance(part, TurnPart) else None

    def had_last(self, contact: str) -> ContactPart | None:
        """Who had a contact last, as far as a route wanted it remembered."""
        part = self._parts.values.get(contact_key(self.workspace, contact))
        return part if isinstance(part, ContactPart) else None

    def is_new(self, origin: Origin) -> bool:
        """Whether a request comes after all that were taken from its source."""
        part = self._parts.values.get(source_key(self.workspace, origin.log_id, origin.partition))
        return not isinstance(part, SourcePart) or (origin.offset, origin.n) > (part.offset, part.n)

    # What follows from them.

    def owned(self, agent: str) -> Iterable[ConversationId]:
        """The conversations that the agent owns, in no order."""
        return self._owned.get(agent, ())

    def waiting(self) -> list[ConversationId]:
        """The conversations that wait for an owner, in no order."""
        return [conversation for conversation, standing in self._standing.items() if standing.owner is None]

    def joiners(self, conversation: ConversationId) -> list[ConversationId]:
        """The conversations that get this one's owner, in the order of their ids."""
        return sorted(self._joiners.get(conversation, ()))

    def wrap_up_ms(self, agent: str | None) -> int:
        """How long an ended conversation takes the agent's room; nobody's and a stranger's: not at all."""
        record = None if agent is None else self.agent_part(agent).record
        if record is None:
            return 0
        return (self.config().wrap_up_ms or 0) if record.wrap_up_ms is None else record.wrap_up_ms

    @property
    def names_few(self) -> bool:
        """Whether records name only a few of a crowd of candidates."""
        return self._by_room

    def lease_end_ms(self, told_ms: int) -> int | None:
        """Until when a presence holds that was told at ``told_ms``, if nothing follows; None: for ever.

        A heartbeat is recorded once a quarter of the time has passed since the one before, so a quarter is added.
        """
        config = self.config()
        ttl_ms = config.presence_ttl_ms
        return None if ttl_ms is None else max(told_ms, config.leases_from_ms) + ttl_ms + ttl_ms // 4

    def is_released(self, agent: str) -> bool:
        """Whether an agent who was removed has nothing more to give back, and his part does not say so yet."""
        known = self.agents.get(agent)
        return known is not None and known.releasing and not self._owned.get(agent)

    def room_with(self, owner: str) -> bool:
        """Whether an owner, ours or not, has room for one more."""
        agent = self.agents.get(owner)
        return agent is None or agent.has_room()

    def pool(self, target: PoolTarget, routing: Routing) -> Pool:
        """The pool that a target of a conversation means."""
        return self.pools.of(pool_key(target, routing.speaks_for(target)))

    def leader(self, conversation: ConversationId, routing: Routing) -> ConversationPart | None:
        """The conversation whose owner this one gets, if it has or awaits one; None: it goes its own way."""
        if routing.join is None:
            return None
        leader = self.conversation(ConversationId(conversation.contact, routing.join))
        return leader if leader.status in LIVE else None

    def may_join(self, conversation: ConversationId, other: str) -> bool:
        """False if the other, or one that it waits for, waits for this one, or the row is too long."""
        for _ in range(JOINS_MAX):
            if other == conversation.conversation:
                return False
            routing = self.conversation(ConversationId(conversation.contact, other)).routing
            if routing is None or routing.join is None:
                return True
            other = routing.join
        return False

    # What changed; to be told once all parts are as they should be.

    def conversation_changed(self, conversation: ConversationId, part: ConversationPart) -> None:
        """Bring everything that follows from a conversation up to date, the conversations that join it included."""
        self._stand(conversation, part)
        if conversation in self._joiners:
            for joiner in self.joiners(conversation):
                self._stand(joiner, self.conversation(joiner))

    def agent_served(self, agent: str, part: AgentPart) -> None:
        """Take note of when the agent was last served, or began to wait for work.

        To be told right before the conversation that he got or gave: his pools hear of both together.
        """
        now = self._agent(agent)
        now.assigned_last, now.idle_since = part.assigned_last, part.idle_since

    def agent_changed(self, agent: str) -> None:
        """Bring everything that follows from an agent's part up to date."""
        part = self.agent_part(agent)
        now = self._agent(agent)
        before, now.record = now.record, part.record
        spoke = now.tongues
        now.learn(with_wider_languages=self.config().rules >= RULES_WIDER_LANGUAGES)
        stated = part.presence or "online"
        now.presence = "away" if stated == "other" else stated
        now.assigned_last, now.idle_since = part.assigned_last, part.idle_since
        now.wrapping = len(part.wrapping)
        now.releasing = part.releasing
        now.max_open = self._max_open(part.record)
        self._check_configured(agent, part)
        self._check_missing(now, part)
        self._check_releasing(now)
        self._deadlines.arm(self.workspace, ConversationId("", agent), self._armed_of(agent, part))
        if before != part.record or spoke != now.tongues:
            self.pools.enrol(now, before)
        self._update(now)

    def config_changed(self) -> None:
        """Bring everything that follows from the policy's word on agents and hours up to date."""
        self._by_room = self.config().rules >= RULES_BY_ROOM
        self.hours_changed()
        for agent in {*self.agents, *self.config().agents, *self.unconfigured}:
            self.agent_changed(agent)

    def hours_changed(self) -> None:
        """Bring everything that follows from hours up to date: whose pools are shut, and until when."""
        config = self.config()
        before = None if self.hours is None else self.hours.rules
        self.hours = hours_of(config)
        self.pools.keep_hours(self.hours)
        if before != (config.hours or None):  # others stand in for those who wait
            for conversation in list(self._standing):
                self._stand(conversation, self.conversation(conversation))
        subject = ConversationId("", "")
        due: tuple[Due, ...] = ()
        if self.hours is not None:
            due = (Due(self.hours.due_ms, self.workspace, subject, "hours", config.hours_seq),)
        self._deadlines.arm(self.workspace, subject, due)

    # How.

    def _max_open(self, record: ConfiguredAgent | None) -> int:
        return self.config().max_open if record is None or record.max_open is None else record.max_open

    def _check_configured(self, agent: str, part: AgentPart) -> None:
        said = self.config().agents.get(agent)
        if part.set_by != "event" and part.record != said:
            self.unconfigured.add(agent)
        else:
            self.unconfigured.discard(agent)

    def _check_missing(self, agent: Agent, part: AgentPart) -> None:
        said = self.config().missed_offers_max
        allowed = MISSED_OFFERS_MAX if said is None else said
        if agent.record is not None and part.missed >= allowed and agent.presence == "online":
            self.missing.add(agent.id)
        else:
            self.missing.discard(agent.id)

    def _check_releasing(self, agent: Agent) -> None:
        if agent.releasing and self._owned.get(agent.id):
            self.releasing.add(agent.id)
        else:
            self.releasing.discard(agent.id)

    def _agent(self, agent: str) -> Agent:
        known = self.agents.get(agent)
        if known is None:
            known = self.agents[agent] = Agent(agent)
            known.max_open = self.config().max_open
        return known

    def _update(self, agent: Agent) -> None:
        agent.changed(by_room=self._by_room)
        self.pools.update(agent)

    def _stand(self, conversation: ConversationId, part: ConversationPart) -> None:
        before = self._standing.get(conversation, _NOWHERE)
        now = self._standing_of(conversation, part)
        if now is before:
            return
        if now == _NOWHERE:
            self._standing.pop(conversation, None)
        else:
            self._standing[conversation] = now
        if before.pools or now.pools:
            place = (0, 0, 0) if part.routing is None else part.routing.place
            self.pools.move(conversation, place, before.pools, now.pools)
        if before.deadlines != now.deadlines:
            self._deadlines.arm(self.workspace, conversation, now.deadlines)
        if before.owner != now.owner:
            self._count(conversation, before.owner, now.owner)
        if before.join != now.join:
            self._join(conversation, before.join, now.join)

    def _standing_of(self, conversation: ConversationId, part: ConversationPart) -> _Standing:
        routing = part.routing
        if routing is None:
            return _NOWHERE if part.agent is None else _owned_by(part.agent)
        join = None if routing.join is None else ConversationId(conversation.contact, routing.join)
        if part.agent is not None:
            if part.status == "offered":
                return _Standing(owner=part.agent, join=join, deadlines=self._armed(conversation, part))
            return _owned_by(part.agent) if join is None else _Standing(owner=part.agent, join=join)
        leader = self.leader(conversation, routing)
        keys: Iterable[PoolKey]
        if leader is None:
            targets = routing.targets if self.hours is None else self.hours.all_of(routing)
            keys = dict.fromkeys(pool_key(target, routing.speaks_for(target)) for target in targets)
        else:
            keys = (owner_key(leader.agent),) if leader.status == "assigned" and leader.agent is not None else ()
        pools = tuple(map(self.pools.of, keys))
        return _Standing(pools=pools, join=join, deadlines=self._armed(conversation, part))

    def _armed(self, conversation: ConversationId, part: ConversationPart) -> tuple[Due, ...]:
        routing = part.routing
        assert routing is not None
        kinds: tuple[tuple[DeadlineKind, int | None], ...]
        if part.status == "offered":
            kinds = (("offer", None if part.offer is None else part.offer.until_ms),)
        else:
            deadlines = routing.deadlines
            kinds = (
                ("fallback", deadlines.fallback),
                ("wait", deadlines.wait),
                ("promote", deadlines.promote),
                ("relax", deadlines.relax),
            )
        return tuple(
            Due(due_ms, self.workspace, conversation, kind, part.armed) for kind, due_ms in kinds if due_ms is not None
        )

    def _armed_of(self, agent: str, part: AgentPart) -> tuple[Due, ...]:
        """When an agent is not heard of any more, and when he is done with what ended first."""
        if part.record is None:
            return ()
        subject = ConversationId("", agent)
        ends: list[tuple[DeadlineKind, int | None]] = []
        if part.presence_time_ms is not None and part.presence != "offline":
            ends.append(("lease", self.lease_end_ms(part.presence_time_ms)))
        if part.wrapping:
            ends.append(("wrap-up", part.wrapping[0]))
        return tuple(
            Due(due_ms, self.workspace, subject, kind, part.seq) for kind, due_ms in ends if due_ms is not None
        )

    def _count(self, conversation: ConversationId, before: str | None, now: str | None) -> None:
        if before is not None:
            self._owned[before].discard(conversation)
            self._counted(before)
        if now is not None:
            self._owned.setdefault(now, set()).add(conversation)
            self._counted(now)

    def _counted(self, owner: str) -> None:
        agent = self._agent(owner)
        agent.open = len(self._owned[owner])
        if agent.releasing or self.releasing:
            self._check_releasing(agent)
        self._update(agent)

    def _join(self, conversation: ConversationId, before: ConversationId | None, now: ConversationId | None) -> None:
        if before is not None:
            joiners = self._joiners[before]
            joiners.discard(conversation)
            if not joiners:
                del self._joiners[before]
        if now is not None:
            self._joiners.setdefault(now, set()).add(conversation)
