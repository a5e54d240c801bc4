"""Who was given how many conversations, how long they waited, who could have had them: a fold of the assigner's log.

One pass; what is kept is what is open or waits, the agents, and the present period's counts. How the log is read is
``fairness.py``'s business, arithmetic ``figures.py``'s, and what a period's counts mean ``reports.py``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from consumers.desk.attendance import Attendance
from consumers.desk.figures import Durations
from consumers.desk.lines import Line, PoolName, PoolOf, asked_pool, giving_pool
from consumers.desk.periods import By, Span, period_of
from events.times import TIME_MS_MIN
from routing.inputs import ConfiguredAgent
from routing.workspace_parts import MAX_OPEN_DEFAULT

WAITED: Final = "waited"  #: the route reason of what was escalated because it had waited too long


class Live(Struct, kw_only=True):
    """A conversation that has or awaits an owner."""

    asked: PoolOf | None = None  #: of its own target; None: it has no route
    route: str | None = None  #: its class
    route_reason: str | None = None
    began_ms: int  #: when the present wait began: when it came, or lost its last owner
    agent: str | None = None  #: who owns it or was offered it
    is_owned: bool = False
    offered: tuple[PoolOf, bool] | None = None  #: what the offer was chosen from, and whether that is the fallback


class Tally(Struct):
    """What became of one pool's conversations in a period."""

    pool: PoolOf
    given: Counter[str] = field(default_factory=Counter)  #: by agent
    waits: dict[str, Durations] = field(default_factory=dict)  #: from queueing to the owner, by class
    to_fallback: int = 0  #: waited here, and somebody of the fallback got them
    escalated: int = 0  #: waited here for longer than the route's ``wait_max``
    waiting: Counter[str] = field(default_factory=Counter)  #: by class, at the period's end
    waiting_longest_ms: int | None = None  #: of those


class Closed(Struct, frozen=True, kw_only=True):
    """A period at its end. The tallies are its own; the agents are lent until ``Ledger`` goes on."""

    span: Span
    tallies: list[Tally]
    agents: Mapping[str, Attendance]


OnClosed = Callable[[Closed], None]


class Ledger:
    """The fold. ``since_ms``: counts begin there; ``on_closed`` is called with every period in which anything was."""

    def __init__(self, by: By, on_closed: OnClosed, *, since_ms: int = TIME_MS_MIN) -> None:
        self.agents: dict[str, Attendance] = {}
        self.live: dict[tuple[str, str], Live] = {}
        self._by = by
        self._on_closed = on_closed
        self._since_ms = since_ms
        self._max_open = MAX_OPEN_DEFAULT
        self._span: Span | None = None
        self._tallies: dict[PoolName, Tally] = {}

    def take(self, line: Line) -> None:
        """Fold the next record; one that changes nothing only tells the time."""
        at_ms = line.at_ms
        if self._span is None:
            self._open(at_ms)
        elif at_ms >= self._span.until_ms:
            self._turn_over(at_ms)
        apply = _APPLY.get(line.type)
        if apply is not None:
            apply(self, line, at_ms)

    def close(self, at_ms: int) -> None:
        """End the last period, at this moment."""
        if self._span is not None:
            self._turn_over(at_ms)
            self._end(max(at_ms, self._span.from_ms))

    # --- periods ---

    def _open(self, at_ms: int) -> None:
        """Begin the period of this moment, there or where the counting begins: nothing was before."""
        whole = period_of(at_ms, self._by)
        if at_ms < self._since_ms < whole.until_ms:
            self._span = Span(at_ms, self._since_ms)  # not counted
        else:
            self._span = Span(at_ms, whole.until_ms)
        self._tallies = {}
        for agent in self.agents.values():
            agent.restart(at_ms)

    def _turn_over(self, at_ms: int) -> None:
        """End all periods before this moment. One without anybody who waits or is given something is passed over."""
        assert self._span is not None
        while at_ms >= self._span.until_ms:
            begins_ms = self._span.until_ms
            self._end(begins_ms)
            if not any(self._waiting()):
                begins_ms = max(begins_ms, period_of(at_ms, self._by).from_ms)
            self._open(begins_ms)

    def _end(self, at_ms: int) -> None:
        assert self._span is not None
        for agent in self.agents.values():
            agent.lapse(at_ms)
        if self._span.from_ms < self._since_ms:
            return
        for live in self._waiting():
            assert live.asked is not None
            tally = self._tally(live.asked)
            tally.waiting[str(live.route)] += 1
            tally.waiting_longest_ms = max(tally.waiting_longest_ms or 0, at_ms - live.began_ms)
        if self._tallies:
            tallies = [self._tallies[pool] for pool in sorted(self._tallies)]
            self._on_closed(Closed(span=Span(self._span.from_ms, at_ms), tallies=tallies, agents=self.agents))

    def _waiting(self) -> Iterator[Live]:
        return (live for live in self.live.values() if not live.is_owned and live.asked is not None)

    def _tally(self, pool: PoolOf) -> Tally:
        tally = self._tallies.get(pool.pool)
        if tally is None:
            tally = self._tallies[pool.pool] = Tally(pool)
        elif tally.pool.only_online and not pool.only_online:
            tally.pool = pool
        return tally

    # --- agents ---

    def _agent(self, agent: str, at_ms: int) -> Attendance:
        known = self.agents.get(agent)
        if known is None:
            known = self.agents[agent] = Attendance(at_ms)
        return known

    def _agent_changed(self, line: Line, at_ms: int) -> None:
        data = line.data
        agent = self._agent(str(line.subject), at_ms)
        record = data.agent if isinstance(data.agent, ConfiguredAgent) else None
        agent.told(record, data.presence, data.wrapping)
        agent.settle(at_ms, self._max_open)

    def _agents_recorded(self, line: Line, at_ms: int) -> None:
        if line.data.config is not None:
            self._max_open = line.data.config.max_open
        for agent in self.agents.values():
            agent.settle(at_ms, self._max_open)

    def _moves(self, before: str | None, now: str | None, at_ms: int) -> None:
        """A conversation goes from one agent to another."""
        if before != now:
            for agent, by in ((before, -1), (now, 1)):
                if agent is not None:
                    attendance = self._agent(agent, at_ms)
                    attendance.open += by
                    attendance.settle(at_ms, self._max_open)

    # --- conversations ---

    def _waits(self, line: Line, at_ms: int) -> None:
        live = self._routed(line, at_ms)
        if live.is_owned:
            live.began_ms = at_ms
        before, live.agent, live.is_owned, live.offered = live.agent, None, False, None
        self._moves(before, None, at_ms)

    def _offered(self, line: Line, at_ms: int) -> None:
        live = self._routed(line, at_ms)
        is_fallback = line.data.reason == "fallback"
        live.offered = (giving_pool(line.data, is_fallback=is_fallback), is_fallback)
        before, live.agent, live.is_owned = live.agent, str(line.data.agent), False
        self._moves(before, live.agent, at_ms)

    def _made(self, line: Line, at_ms: int) -> None:
        data = line.data
        live = self._routed(line, at_ms)
        is_fallback = data.reason == "fallback"
        pool = giving_pool(data, is_fallback=is_fallback)
        if data.reason == "accepted" and live.offered is not None:
            pool, is_fallback = live.offered
        agent = str(data.agent)
        tally = self._tally(pool)
        tally.given[agent] += 1
        if not live.is_owned and live.route is not None:
            tally.waits.setdefault(live.route, Durations()).add(at_ms - live.began_ms)
        if is_fallback and live.asked is not None:
            self._tally(live.asked).to_fallback += 1
        before, live.agent, live.is_owned, live.offered = live.agent, agent, True, None
        self._moves(before, agent, at_ms)

    def _released(self, line: Line, at_ms: int) -> None:
        if line.data.wrap_up_until_ms is not None:
            self._agent(str(line.data.agent), at_ms).wraps_up()
        if line.data.to == "waiting":
            self._waits(line, at_ms)
        else:
            self._over(line, at_ms)

    def _over(self, line: Line, at_ms: int) -> None:
        live = self.live.pop(line.conversation, None)
        if live is not None:
            self._moves(live.agent, None, at_ms)

    def _rerouted(self, line: Line, at_ms: int) -> None:
        self._routed(line, at_ms)

    def _routed(self, line: Line, at_ms: int) -> Live:
        """The conversation, with what the record says of its route."""
        data = line.data
        live = self.live.get(line.conversation)
        if live is None:
            live = self.live[line.conversation] = Live(began_ms=at_ms)
        if data.route is None:
            return live
        if data.route_reason == WAITED and live.route_reason != WAITED and live.asked is not None:
            self._tally(live.asked).escalated += 1
        live.asked, live.route, live.route_reason = asked_pool(data), data.route, data.route_reason
        return live


_APPLY: Final[Mapping[str, Callable[[Ledger, Line, int], None]]] = {
    "agent.changed": Ledger._agent_changed,  # noqa: SLF001  # its own
    "agents.recorded": Ledger._agents_recorded,  # noqa: SLF001
    "assignment.queued": Ledger._waits,  # noqa: SLF001
    "assignment.offered": Ledger._offered,  # noqa: SLF001
    "assignment.made": Ledger._made,  # noqa: SLF001
    "assignment.rerouted": Ledger._rerouted,  # noqa: SLF001
    "assignment.released": Ledger._released,  # noqa: SLF001
    "assignment.not-routed": Ledger._over,  # noqa: SLF001
}
