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
from routing.inputs import ConfiguredAgent, DeadlineKind, Origin, PoolTarget
from routing.queues import DeadlineQueue, Due
from routing.strategies import Agent, Pool, PoolKey, owner_key, pool_key
from routing.workspace_parts import (
    AgentPart,
    ConfigPart,
    ConversationId,
    ConversationPart,
    Routing,
    SourcePart,
    TurnPart,
    WorkspacePart,
    agent_key,
    config_key,
    conversation_key,
    source_key,
    turn_key,
)

JOINS_MAX: Final = 64  #: conversations that may wait for one another's owner in a row
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
        self.ready: set[PoolKey] = set()  #: pools where somebody waits and somebody is free
        self._parts = parts
        self._deadlines = deadlines
        self._pools: dict[PoolKey, Pool] = {}
        self._standing: dict[ConversationId, _Standing] = {}
        self._owned: dict[str, set[ConversationId]] = {}
        self._joiners: dict[ConversationId, set[ConversationId]] = {}
        self._by_email: dict[str, set[str]] = {}

    @property
    def busy(self) -> bool:
        """Something is left to do that waits for no input."""
        return bool(self.ready or self.releasing or self.unconfigured)

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

    def turn(self, pool: str) -> str | None:
        """Whom round robin served last in a pool."""
        part = self._parts.values.get(turn_key(self.workspace, pool))
        return part.agent if isinstance(part, TurnPart) else None

    def is_new(self, origin: Origin) -> bool:
        """Whether a request comes after all that were taken from its source."""
        part = self._parts.values.get(source_key(self.workspace, origin.log_id, origin.partition))
        return not isinstance(part, SourcePart) or (origin.offset, origin.n) > (part.offset, part.n)

    # What follows from them.

    def owned(self, agent: str) -> Iterable[ConversationId]:
        """The conversations that the agent owns, in no order."""
        return self._owned.get(agent, ())

    def joiners(self, conversation: ConversationId) -> list[ConversationId]:
        """The conversations that get this one's owner, in the order of their ids."""
        return sorted(self._joiners.get(conversation, ()))

    def resolve(self, text: str) -> Agent | None:
        """The agent of this id, or else of this e-mail address (the first id, if two have it); None: nobody."""
        agent = self.agents.get(text)
        if agent is not None and agent.record is not None:
            return agent
        ids = self._by_email.get(text.casefold())
        return self.agents[min(ids)] if ids else None

    def is_released(self, agent: str) -> bool:
        """Whether an agent who was removed has nothing more to give back, and his part does not say so yet."""
        known = self.agents.get(agent)
        return known is not None and known.releasing and not self._owned.get(agent)

    def room_with(self, owner: str) -> bool:
        """Whether an owner, ours or not, has room for one more."""
        agent = self.agents.get(owner)
        return agent is None or agent.open < agent.max_open

    def pool(self, target: PoolTarget) -> Pool:
        """The pool that a target means."""
        return self._pool(pool_key(target))

    def ready_pools(self) -> list[Pool]:
        """The pools of ``ready``, in no order."""
        return [self._pools[key] for key in self.ready]

    def leader(self, conversation: ConversationId, routing: Routing) -> ConversationPart | None:
        """The conversation whose owner this one gets, if it has or awaits one; None: it goes its own way."""
        if routing.join is None:
            return None
        leader = self.conversation(ConversationId(conversation.contact, routing.join))
        return leader if leader.status in {"assigned", "waiting"} else None

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

    def conversation_changed(self, conversation: ConversationId) -> None:
        """Bring everything that follows from a conversation up to date, the conversations that join it included."""
        self._stand(conversation)
        if conversation in self._joiners:
            for joiner in self.joiners(conversation):
                self._stand(joiner)

    def agent_served(self, agent: str, offset: int) -> None:
        """Take note of when the agent was last served.

        To be told right before the conversation that he got: his pools hear of both together.
        """
        self._agent(agent).assigned_last = offset

    def agent_changed(self, agent: str) -> None:
        """Bring everything that follows from an agent's part up to date."""
        part = self.agent_part(agent)
        now = self._agent(agent)
        before, now.record = now.record, part.record
        stated = part.presence or "online"
        now.presence = "away" if stated == "other" else stated
        now.assigned_last = part.assigned_last
        now.releasing = part.releasing
        now.max_open = self._max_open(part.record)
        self._check_configured(agent, part)
        self._check_releasing(now)
        if before == part.record:
            self._update(now)
        else:
            self._enrol(now, before)

    def config_changed(self) -> None:
        """Bring everything that follows from the policy's word on agents up to date."""
        for agent in {*self.agents, *self.config().agents, *self.unconfigured}:
            self.agent_changed(agent)

    # How.

    def _max_open(self, record: ConfiguredAgent | None) -> int:
        return self.config().max_open if record is None or record.max_open is None else record.max_open

    def _check_configured(self, agent: str, part: AgentPart) -> None:
        said = self.config().agents.get(agent)
        if part.set_by != "event" and part.record != said:
            self.unconfigured.add(agent)
        else:
            self.unconfigured.discard(agent)

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

    def _enrol(self, agent: Agent, before: ConfiguredAgent | None) -> None:
        """Put an agent whose record changed into the pools that are his now, and out of the others."""
        names = {agent.id.casefold()}
        for record in (before, agent.record):
            if record is not None and record.email is not None:
                email = record.email.casefold()
                names.add(email)
                ids = self._by_email.setdefault(email, set())
                (ids.add if record is agent.record else ids.discard)(agent.id)
        for pool in self._pools.values():
            if pool.key.kind == "agent":
                if pool.key.id.casefold() in names:
                    self._man(pool)
            elif self._belongs(agent, pool.key) != (pool in agent.pools):
                (self._leave if pool in agent.pools else self._enter)(agent, pool)
        self._update(agent)

    def _belongs(self, agent: Agent, key: PoolKey) -> bool:
        if key.kind == "owner":
            return agent.id == key.id
        return agent.record is not None and (key.kind == "workspace" or key.id in agent.record.teams)

    def _man(self, pool: Pool) -> None:
        """Make a dedicated agent's pool hold whom its id or e-mail names now."""
        named = self.resolve(pool.key.id)
        for agent in [self.agents[agent] for agent in pool.members]:
            if agent is not named:
                self._leave(agent, pool)
        if named is not None and not pool.members:
            self._enter(named, pool)

    def _enter(self, agent: Agent, pool: Pool) -> None:
        agent.pools.append(pool)
        pool.enter(agent)
        self._note(pool)

    def _leave(self, agent: Agent, pool: Pool) -> None:
        agent.pools.remove(pool)
        pool.leave(agent)
        self._note(pool)

    def _update(self, agent: Agent) -> None:
        agent.changed()
        for pool in agent.pools:
            pool.update(agent)
            self._note(pool)

    def _note(self, pool: Pool) -> None:
        if pool.ready:
            self.ready.add(pool.key)
        elif self.ready:
            self.ready.discard(pool.key)

    def _pool(self, key: PoolKey) -> Pool:
        """The pool, made at its first use. Those of one agent are dropped when nobody waits there any more."""
        return self._pools.get(key) or self._new_pool(key)

    def _new_pool(self, key: PoolKey) -> Pool:
        pool = self._pools[key] = Pool(key, self.agents)
        if key.kind == "agent":
            self._man(pool)
        elif key.kind == "owner":
            self._enter(self._agent(key.id), pool)
        else:
            for agent in self.agents.values():
                if self._belongs(agent, key):
                    self._enter(agent, pool)
        return pool

    def _drop(self, pool: Pool) -> None:
        for agent in [self.agents[agent] for agent in pool.members]:
            self._leave(agent, pool)
        del self._pools[pool.key]

    def _stand(self, conversation: ConversationId) -> None:
        part = self.conversation(conversation)
        before = self._standing.get(conversation, _NOWHERE)
        now = self._standing_of(conversation, part)
        if now == _NOWHERE:
            self._standing.pop(conversation, None)
        else:
            self._standing[conversation] = now
        if before.pools or now.pools:
            self._queue(conversation, part, before.pools, now.pools)
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
            return _owned_by(part.agent) if join is None else _Standing(owner=part.agent, join=join)
        leader = self.leader(conversation, routing)
        if leader is None:
            keys = tuple(dict.fromkeys(map(pool_key, routing.targets)))
        else:
            keys = () if leader.agent is None else (owner_key(leader.agent),)
        return _Standing(pools=tuple(map(self._pool, keys)), join=join, deadlines=self._armed(conversation, part))

    def _queue(
        self, conversation: ConversationId, part: ConversationPart, before: tuple[Pool, ...], now: tuple[Pool, ...]
    ) -> None:
        for pool in before:
            if pool not in now:
                pool.waiting.remove(conversation)
                self._note(pool)
                if pool.key.kind in {"agent", "owner"} and not len(pool.waiting):
                    self._drop(pool)
        for pool in now:
            assert part.routing is not None
            pool.waiting.add(conversation, part.routing.place)
            self._note(pool)

    def _armed(self, conversation: ConversationId, part: ConversationPart) -> tuple[Due, ...]:
        assert part.routing is not None
        deadlines = part.routing.deadlines
        kinds: tuple[tuple[DeadlineKind, int | None], ...] = (
            ("fallback", deadlines.fallback),
            ("wait", deadlines.wait),
        )
        return tuple(
            Due(due_ms, self.workspace, conversation, kind, part.armed) for kind, due_ms in kinds if due_ms is not None
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
