"""All pools of a workspace: who belongs to which, and where somebody waits while somebody is free.

Told of every change of an agent or of a waiting conversation by ``workspace_index.py``. Pools of teams and of the
workspace stay once they were asked for, those of one agent only while somebody waits there.
"""

from __future__ import annotations

from collections.abc import Callable

from routing.desk_agents import Agent
from routing.desk_hours import DeskHours
from routing.inputs import ConfiguredAgent
from routing.strategies import Pool, PoolKey
from routing.workspace_parts import ConversationId


class Pools:
    """The pools by what they are made of. ``meet`` gives the agent of an id, also one whom nobody told us of."""

    def __init__(self, agents: dict[str, Agent], meet: Callable[[str], Agent]) -> None:
        self.ready: set[PoolKey] = set()  #: where somebody waits and somebody is free
        self.by_key: dict[PoolKey, Pool] = {}
        self._agents = agents
        self._meet = meet
        self._of: dict[str, list[Pool]] = {}  #: by the agent who is a member
        self._by_email: dict[str, set[str]] = {}
        self._hours: DeskHours | None = None

    def resolve(self, text: str) -> Agent | None:
        """The agent of this id, or else of this e-mail address (the first id, if two have it); None: nobody."""
        agent = self._agents.get(text)
        if agent is not None and agent.record is not None:
            return agent
        ids = self._by_email.get(text.casefold())
        return self._agents[min(ids)] if ids else None

    def of(self, key: PoolKey) -> Pool:
        """The pool, made at its first use."""
        return self.by_key.get(key) or self._new(key)

    def ready_pools(self) -> list[Pool]:
        """The pools of ``ready``, in no order."""
        return [self.by_key[key] for key in self.ready]

    def keep_hours(self, hours: DeskHours | None) -> None:
        """Shut the pools that these hours shut, and no others."""
        self._hours = hours
        for pool in self.by_key.values():
            pool.is_shut = hours is not None and hours.is_shut(pool.key)
            self._note(pool)

    def update(self, agent: Agent) -> None:
        """Tell an agent's pools of his presence, room and load."""
        for pool in self._of.get(agent.id, ()):
            pool.update(agent)
            self._note(pool)

    def enrol(self, agent: Agent, before: ConfiguredAgent | None) -> None:
        """Put an agent whose record changed into the pools that are his now, and out of the others."""
        names = {agent.id.casefold()}
        for record in (before, agent.record):
            if record is not None and record.email is not None:
                email = record.email.casefold()
                names.add(email)
                ids = self._by_email.setdefault(email, set())
                (ids.add if record is agent.record else ids.discard)(agent.id)
        for pool in self.by_key.values():
            if pool.key.kind == "agent":
                if pool.key.id.casefold() in names:
                    self._man(pool)
            elif self._belongs(agent, pool.key) != (is_member := pool in self._of.get(agent.id, ())):
                (self._leave if is_member else self._enter)(agent, pool)

    def move(
        self, conversation: ConversationId, place: tuple[int, int, int], before: tuple[Pool, ...], now: tuple[Pool, ...]
    ) -> None:
        """Let a conversation wait for other pools than before, or at another place."""
        for pool in before:
            if pool not in now:
                pool.waiting.remove(conversation)
                self._note(pool)
                if pool.key.kind in {"agent", "owner"} and not len(pool.waiting):
                    self._drop(pool)
        for pool in now:
            pool.waiting.add(conversation, place)
            self._note(pool)

    def _new(self, key: PoolKey) -> Pool:
        pool = self.by_key[key] = Pool(key, self._agents)
        pool.is_shut = self._hours is not None and self._hours.is_shut(key)
        if key.kind == "agent":
            self._man(pool)
        elif key.kind == "owner":
            self._enter(self._meet(key.id), pool)
        else:
            for agent in self._agents.values():
                if self._belongs(agent, key):
                    self._enter(agent, pool)
        return pool

    def _belongs(self, agent: Agent, key: PoolKey) -> bool:
        if key.kind == "owner":
            return agent.id == key.id
        if agent.record is None or (key.kind == "team" and key.id not in agent.record.teams):
            return False
        if key.language is not None and not agent.speaks(key.language):
            return False
        return all(skill in agent.record.skills for skill in key.skills)

    def _man(self, pool: Pool) -> None:
        """Make a dedicated agent's pool hold whom its id or e-mail names now."""
        named = self.resolve(pool.key.id)
        for agent in [self._agents[agent] for agent in pool.members]:
            if agent is not named:
                self._leave(agent, pool)
        if named is not None and not pool.members:
            self._enter(named, pool)

    def _enter(self, agent: Agent, pool: Pool) -> None:
        self._of.setdefault(agent.id, []).append(pool)
        pool.enter(agent)
        self._note(pool)

    def _leave(self, agent: Agent, pool: Pool) -> None:
        self._of[agent.id].remove(pool)
        pool.leave(agent)
        self._note(pool)

    def _drop(self, pool: Pool) -> None:
        for agent in [self._agents[agent] for agent in pool.members]:
            self._leave(agent, pool)
        del self.by_key[pool.key]

    def _note(self, pool: Pool) -> None:
        if pool.ready:
            self.ready.add(pool.key)
        elif self.ready:
            self.ready.discard(pool.key)
