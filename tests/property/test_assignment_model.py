"""Random histories of a workspace: the real decider against the slow one, and invariants after every record.

The invariants are judged on the parts alone, without the indexes, and without the slow decider's opinion; each of
them is shown to see a planted bug.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from routing import assignment, workspace_state
from routing.choosing import armed
from routing.decider import LogRecord
from routing.desk_agents import Agent
from routing.desk_hours import DeskHours
from routing.hours import Clock, Standing
from routing.inputs import (
    AgentPresence,
    AgentRemoved,
    AgentsConfigured,
    AgentUpdated,
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentTaken,
    ConfiguredAgent,
    Event,
    PoolTarget,
    RouteTarget,
    TeamHours,
)
from routing.pools import Pools
from routing.queues import WaitingQueue
from routing.strategies import Pool
from routing.workspace_index import Desk
from routing.workspace_state import WorkspacesState
from routing.workspaces import Workspaces
from tests.workspace_given import NONE, Lane, as_read_back, requested
from tests.workspace_reference import Reference
from tests.workspace_reference_parts import Outcome, Place
from tests.workspace_reference_reading import read_parts

GIVES = frozenset({"assignment.made", "assignment.offered"})
AGENTS = ("anna", "bob", "cleo", "dora")
EMAILS = (None, "a@x.io", "A@X.io", "bob")
CONVERSATIONS = tuple((contact, f"{contact}{n}") for contact in ("p", "q") for n in range(4))
MANAGERS = RouteTarget(team="t", strategy="least-open", wait_max_ms=40)
TARGETS = (
    RouteTarget(team="s"),
    RouteTarget(team="s", strategy="least-open", wait_max_ms=30),
    RouteTarget(team="t", only_online=False),
    RouteTarget(workspace=True),
    RouteTarget(workspace=True, strategy="least-open", only_online=False),
    RouteTarget(agent="anna", wait_max_ms=25),
    RouteTarget(agent="a@x.io", fallback=PoolTarget(team="s"), fallback_after_ms=10, wait_max_ms=50),
    RouteTarget(agent="bob", fallback=PoolTarget(team="t", strategy="least-open"), fallback_after_ms=0),
    RouteTarget(team="s", fallback=PoolTarget(agent="dora"), fallback_after_ms=5),
    RouteTarget(team="nobodys", wait_max_ms=0),
    RouteTarget(team="s", accept_ms=7, promote_after_ms=15, wait_max_ms=60),
    RouteTarget(team="t", strategy="least-open", accept_ms=12, sticky_ms=40),
    RouteTarget(agent="anna", fallback=PoolTarget(team="s"), fallback_after_ms=8, accept_ms=5),
    RouteTarget(workspace=True, strategy="longest-idle", promote_after_ms=10),
    RouteTarget(workspace=True, sticky_ms=25, match_language=True, relax_after_ms=9),
    RouteTarget(team="s", skills=("tax",), strategy="longest-idle", relax_after_ms=20, wait_max_ms=30),
    RouteTarget(team="t", skills=("tax",), match_language=True, accept_ms=6, fallback=PoolTarget(team="s")),
)  # fmt: skip

# The day is the first of 1970, a Thursday, and begins for the histories at 00:16:40.
OPEN = tuple((start, start + 37) for start in range(1_000_010, 1_002_000, 61))
RARELY = tuple((start, start + 15) for start in range(1_000_000, 1_002_000, 83))
WEEKS = [((),) * 3 + (spans,) + ((),) * 3 for spans in (OPEN, RARELY)]
ZONES = {"Z": ((0, 0),), "Y": ((0, 7), (1_000_035, -20), (1_000_090, 40), (1_000_160, -5))}
NIGHT = PoolTarget(team="t", strategy="least-open")
HOURS: tuple[dict[str, TeamHours], ...] = (
    {},
    {"a": TeamHours(zone="Z", week=WEEKS[0], teams=("s",))},
    {"a": TeamHours(zone="Y", week=WEEKS[0], teams=("s",), outside=NIGHT)},
    {"a": TeamHours(zone="Y", week=WEEKS[1], teams=("s",), outside=PoolTarget(agent="dora"))},
    {
        "b": TeamHours(zone="Z", week=WEEKS[1], teams=("t",), outside=PoolTarget(team="s", only_online=False)),
        "a": TeamHours(zone="Y", week=WEEKS[0], teams=("s",), workspace=True, outside=NIGHT),
    },
    {
        "b": TeamHours(zone="Z", week=WEEKS[0], teams=("t",), outside=PoolTarget(workspace=True)),
        "a": TeamHours(zone="Z", week=WEEKS[1], teams=("s",), outside=NIGHT, dates=(("1970-01-01", OPEN[3:]),)),
    },
)  # fmt: skip

agents = st.sampled_from(AGENTS)
conversations = st.sampled_from(CONVERSATIONS)
rooms = st.sampled_from([None, 0, 1, 1, 2, 3, -1])
bodies = st.builds(
    requested,
    st.sampled_from(TARGETS),
    language=st.sampled_from(["en", "pt", "pt-BR"]),
    route=st.sampled_from(["vip", "regular", "escalated"]),
    escalation=st.sampled_from([None, MANAGERS]),
    join=st.sampled_from([None, None, "p0", "p1", "q0", "q1"]),
)
teams = st.sampled_from([("s",), ("t",), ("s", "t"), ()])
more = {
    "weight": st.sampled_from([1, 1, 2, 3]),
    "languages": st.sampled_from([(), (), ("en",), ("pt",), ("PT-br", "en")]),
    "skills": st.sampled_from([(), ("tax",), ("tax", "law")]),
    "wrap_up_ms": st.sampled_from([None, None, 0, 9]),
}
updates = st.builds(AgentUpdated, teams=teams, max_open=rooms, email=st.sampled_from(EMAILS), **more)
configured = st.builds(
    ConfiguredAgent, teams=teams, max_open=st.sampled_from([None, 0, 1, 2]), email=st.sampled_from(EMAILS), **more
)
presences = st.tuples(
    st.just("agent"),
    agents,
    st.builds(AgentPresence, status=st.sampled_from(["online", "online", "away", "offline", "other"])),
    st.integers(-3, 3),
)
answers = st.tuples(
    st.just("answer"),
    st.sampled_from(["offered", "offered", *AGENTS]),
    conversations,
    st.sampled_from([AssignmentAccepted, AssignmentAccepted, AssignmentDeclined]),
    st.sampled_from(["now", "now", "now", "before", "wrong"]),
)
steps = st.one_of(
    st.tuples(st.just("request"), conversations, bodies),
    st.tuples(st.just("request"), conversations, bodies),
    st.tuples(st.just("request"), conversations, st.just(AssignmentEnded(reason="closed"))),
    st.tuples(
        st.just("request"),
        conversations,
        st.builds(AssignmentTaken, agent=st.sampled_from([None, *AGENTS, "stranger"]), fallback=st.none() | bodies),
    ),
    st.tuples(st.just("request"), conversations, st.just(AssignmentRefused(reason="trigger"))),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("agent"), agents, updates, st.integers(-3, 3)),
    presences,
    st.tuples(st.just("agent"), agents, st.just(AgentRemoved()), st.just(0)),
    answers,
    answers,
    st.tuples(
        st.just("config"),
        st.builds(
            AgentsConfigured,
            max_open=st.sampled_from([1, 2, 20]),
            agents=st.dictionaries(agents, configured, max_size=3),
            presence_ttl_ms=st.sampled_from([None, 20, 40]),
            wrap_up_ms=st.sampled_from([None, None, 6]),
            missed_offers_max=st.sampled_from([None, 1, 2]),
            rules=st.sampled_from([1, 2, 3, 3]),
        ),
    ),
    st.tuples(st.just("time"), st.integers(0, 30)),
)
histories = st.tuples(st.sampled_from([1, 3, 100]), st.lists(steps, min_size=20, max_size=60))
hours_told = st.builds(
    AgentsConfigured,
    max_open=st.sampled_from([1, 2]),
    presence_ttl_ms=st.sampled_from([None, 40]),
    rules=st.just(3),
    hours=st.sampled_from(HOURS),
    zones=st.just(ZONES),
)
times = st.tuples(st.just("time"), st.integers(1, 30))
hourly_steps = st.one_of(steps, steps, times, st.tuples(st.just("config"), hours_told))
hourly = st.tuples(  # histories that begin with hours, and in which more time passes
    st.sampled_from([1, 3, 100]),
    st.tuples(st.sampled_from(HOURS[1:]), st.lists(hourly_steps, min_size=20, max_size=60)).map(
        lambda drawn: [("config", AgentsConfigured(max_open=2, rules=3, hours=drawn[0], zones=ZONES)), *drawn[1]]
    ),
)


class Trial:
    """Runs one history, and looks after every record."""

    def __init__(self, follow_ups_max: int, *, reference: bool) -> None:
        self.lane = Lane(confirms=False)
        self.folded = Workspaces()
        self.reference = Reference(follow_ups_max) if reference else None
        self.told: list[Event] = []
        self.tokens: list[str] = []
        self._watch()

    def run(self, history: list[Any]) -> None:
        for step in history:
            match step:
                case ("request", (contact, conversation), body):
                    self.tell(self.lane.request(body, conversation, contact))
                case ("again", back):
                    if self.told:
                        self.tell(self.told[-1 - back % len(self.told)])
                case ("agent", agent, body, late_ms):
                    self.tell(self.lane.agent_event(body, agent, time_ms=self.lane.now_ms - late_ms))
                case ("answer", agent, which, body, token):
                    self._answer(agent, which, body, token)
                case ("config", body):
                    self.tell(self.lane.agent_event(body, None))
                case ("time", duration_ms):
                    self._pass(duration_ms)
        self._pass(0)
        assert not read_parts(self.lane.workspaces).busy(), "somebody waits when all drains are over"

    def _answer(self, agent: str, which: tuple[str, str], body: Any, token: str) -> None:
        """An agent says something to an offer: the present one, the one before it, or one that never was."""
        part = self.lane.part(which[1], which[0])
        if part.offer is None:
            offered = [part for part in self._offered() if part[1].offer is not None]
            if offered:
                which, part = offered[0]
        known = {
            "now": "" if part.offer is None else part.offer.token,
            "before": self.tokens[-2:][0] if self.tokens else "",
        }
        said = body(conversation=which[1], contact=which[0], token=known.get(token) or "t")
        self.tell(self.lane.agent_event(said, part.agent if agent == "offered" and part.agent else agent))

    def _offered(self) -> list[Any]:
        return [(which, self.lane.part(which[1], which[0])) for which in CONVERSATIONS]

    def tell(self, event: Event) -> None:
        """Decide it, take it back, decide it again: nothing may differ."""
        self.told.append(event)
        before = deepcopy(self.lane.workspaces.state.parts.values)
        index = index_of(self.lane.workspaces)
        count = len(self.lane.records)
        tried = self.lane.tell(event)
        self.lane.workspaces.discard()
        assert self.lane.workspaces.state.parts.values == before, "discard leaves something behind"
        assert index_of(self.lane.workspaces) == index, "discard leaves something in the index"
        del self.lane.records[count:]
        self.lane.offset_next = count
        self.seen.clear()
        records = self.lane.tell(event)
        self.lane.workspaces.confirm()
        assert records == tried, "the same input was decided otherwise"
        offers = [record for record in records if record.type == "assignment.offered"]
        self.tokens += [record.data["token"] for record in offers]
        if self.reference is not None:
            named = {((r.contact, str(r.subject)), r.data["seq"]): r.data["token"] for r in offers}
            self.reference.tokens |= named
            assert [outcome_of(record) for record in records] == self.reference.tell(event, self.lane.now_ms)
        self._look(records)

    def _pass(self, duration_ms: int) -> None:
        end_ms = self.lane.now_ms + duration_ms
        workspaces = self.lane.workspaces
        while (due_ms := workspaces.next_due_ms()) is not None and due_ms <= end_ms:
            self.lane.now_ms = max(self.lane.now_ms, due_ms)
            due = workspaces.due(self.lane.now_ms, 1_000)
            assert due, "something is said to be due, but nothing is"
            if self.reference is not None:
                told = [(event.contact, event.conversation or "", event.cause.id.split("/")[1]) for event in due]
                passed = [(*which, kind) for _, which, kind in self.reference.due(self.lane.now_ms)]
                assert [each for each in told if each[2] != "drain"] == passed
            first = len(self.lane.records)
            for event in due:
                self.tell(event)
            assert len(self.lane.records) > first, "nothing that is due makes a record"
        self.lane.now_ms = end_ms

    def _watch(self) -> None:
        """Judge each assignment by the state right before and right after it."""
        evolve = self.lane.workspaces.evolve
        self.seen: list[tuple[LogRecord, Reference, Reference]] = []

        def watched(record: LogRecord) -> None:
            before = read_parts(self.lane.workspaces)
            evolve(record)
            self.seen.append((record, before, read_parts(self.lane.workspaces)))

        self.lane.workspaces.evolve = watched  # type: ignore[method-assign]

    def _look(self, records: list[LogRecord]) -> None:
        for record, before, after in self.seen:
            # Who accepts has it since it was offered.
            if record.type in GIVES and record.data["reason"] not in {"taken-by-hand", "accepted"}:
                nobody_over_max_open(record, after)
                nobody_overtaken(record, before)
                nobody_out_of_hours(record, before)
        workspaces = self.lane.workspaces
        nobody_waits_while_somebody_is_free(workspaces)
        counts_are_right(workspaces)
        for record in records:
            self.folded.evolve(as_read_back(record))
        self.folded.confirm()
        assert dict(self.folded.parts()) == dict(workspaces.parts()), "the fold of the log is another state"
        assert index_of(self.folded) == index_of(workspaces)
        restored = Workspaces()
        restored.load((key, workspaces.dump(part)) for key, part in workspaces.parts())
        assert dict(restored.parts()) == dict(workspaces.parts()), "a snapshot is another state"
        assert index_of(restored) == index_of(workspaces), "a restart derives another index"


def nobody_over_max_open(record: LogRecord, after: Reference) -> None:
    assert after.room(record.data["agent"]) >= 0, "the router passed max_open"


def nobody_overtaken(record: LogRecord, before: Reference) -> None:
    """Whoever waits in front of this one could not have had the agent."""
    which = (record.contact, str(record.subject))
    place = (record.data["rank"], record.data["since_ms"], record.data["order"])
    for other in before.waiting():
        waits = before.talks[other].place
        if other != which and waits is not None and waits.key() < place:
            could, _ = before.could_have(other, waits)
            assert record.data["agent"] not in could, f"{which} overtook {other}"


def nobody_out_of_hours(record: LogRecord, before: Reference) -> None:
    """Whoever is given something as one of a pool is so while the wall clock says that it is open."""
    if record.data["strategy"] not in {"joined", "dedicated"}:
        target = PoolTarget(team=record.data["team"], workspace=record.data["team"] is None)
        assert not before.hours.closed_on_the_wall(target, record.at_ms), "somebody is given something out of hours"


def nobody_waits_while_somebody_is_free(workspaces: Workspaces) -> None:
    """Unless there is a drain due at once."""
    if workspaces.next_due_ms() != 0:
        assert not read_parts(workspaces).busy(), "somebody waits though somebody is free"


def counts_are_right(workspaces: Workspaces) -> None:
    """The index says of every agent and pool what a look at all parts says."""
    truth = read_parts(workspaces)
    for desk in workspaces.state.desks.values():
        for agent in desk.agents.values():
            assert agent.open == truth.load(agent.id), "an open count is wrong"
        for key, pool in desk.pools.by_key.items():
            if key.kind != "owner":
                assert sorted(pool._load_of) == pool.free
                names = (key.id or None, None) if key.kind == "agent" else (None, key.id or None)
                target = RouteTarget(
                    agent=names[0],
                    team=names[1],
                    only_online=key.only_online,
                    skills=key.skills,
                    match_language=key.language is not None,
                )
                place = Place("regular", "", target, None, 0, 0, 0, language=key.language)
                assert pool.free == truth.free(target, place), "a pool is wrong"
                hindered = [agent for agent in pool.members if agent not in pool.free]
                assert sum(pool.counts.values()) == len(hindered), "a pool counts its members wrong"


def index_of(workspaces: Workspaces) -> Any:
    """All that is derived from the parts, without pools where nobody waits and agents of whom nothing is known."""
    state = workspaces.state
    desks = {name: _index_of_desk(desk) for name, desk in state.desks.items()}
    said = {name: index for name, index in desks.items() if any(index)}
    return deepcopy((said, state.deadlines._live, [desk.workspace for desk in state.busy_desks()]))


def _index_of_desk(desk: Desk) -> tuple[Any, ...]:
    pools = {key: pool for key, pool in desk.pools.by_key.items() if len(pool.waiting)}
    return (
        desk.ready,
        desk.releasing,
        desk.unconfigured,
        desk.missing,
        {
            key: (pool.waiting._live, pool.waiting.head(), pool.members, pool.free, pool._by_load, pool.is_shut)
            for key, pool in pools.items()
        },
        {
            a.id: (a.open, a.wrapping, a.load, a.since, a.idle_since, a.max_open, a.presence, a.record)
            for a in desk.agents.values()
            if a.record or a.open
        },
        {agent: owned for agent, owned in desk._owned.items() if owned},
        desk._joiners,
    )


def outcome_of(record: LogRecord) -> Outcome:
    """A record as the reference tells it."""
    data = record.data
    names: tuple[str, ...]
    said: tuple[Any, ...]
    ends: tuple[Any, ...]
    match record.type:
        case "assignment.offered":
            said = (*(data[name] for name in ("agent", "strategy", "reason", "waited_ms", "until_ms")),)
            return (record.type, record.contact, record.subject, *said)
        case "assignment.made":
            said = (*(data[name] for name in ("agent", "strategy", "reason", "waited_ms")),)
            return (record.type, record.contact, record.subject, *said, data.get("released", {}).get("agent"))
        case "agent.changed":
            return (record.type, "", record.subject, data["what"], data["presence"], data.get("held"))
        case "agents.recorded":
            names = ()
        case "hours.changed":
            names = ("hours", "open", "until_ms")
        case "assignment.queued" | "assignment.released" if data["to"] == "waiting":
            shown = tuple(data[name] for name in ("route", "route_reason", "since_ms", "order"))
            deadlines = data.get("deadlines", {})
            flags = (data.get("join"), data.get("overdue", False), data.get("fallback_open", False))
            passed = tuple(data.get("passed", ()))
            ends = (deadlines.get("fallback"), deadlines.get("wait"))
            ends += (data.get("promoted", False), data.get("relaxed", False), passed)
            ends += (deadlines.get("promote"), deadlines.get("relax"))
            by = (data["agent"], data["reason"]) if record.type == "assignment.released" else ()
            return (record.type, record.contact, record.subject, *shown, *flags, *ends, *by)
        case "assignment.released":
            said = (data["agent"], data["reason"], data.get("wrap_up_until_ms"))
            return (record.type, record.contact, record.subject, *said)
        case _:
            names = ("reason",)
    return (record.type, record.contact, record.subject, *(data[name] for name in names))


@contextmanager
def follow_ups_at_most(limit: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "FOLLOW_UPS_MAX", limit)
        yield


def try_history(history: tuple[int, list[Any]], *, reference: bool) -> None:
    with follow_ups_at_most(history[0]):
        Trial(history[0], reference=reference).run(history[1])


@settings(derandomize=True, max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories)
def test_the_real_decider_does_what_the_slow_one_does(history: tuple[int, list[Any]]) -> None:
    """On every history, record by record, with all invariants."""
    try_history(history, reference=True)


@settings(derandomize=True, max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(hourly)
def test_it_does_so_with_hours(history: tuple[int, list[Any]]) -> None:
    """Teams open and close between everything else, on clocks that change."""
    try_history(history, reference=True)


search = settings(
    derandomize=True,
    max_examples=1_000,  # it ends at the first one that shows the bug
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@search
@given(histories)
def search_for_a_broken_invariant(history: tuple[int, list[Any]]) -> None:
    try_history(history, reference=False)


@search
@given(histories)
def search_for_a_difference(history: tuple[int, list[Any]]) -> None:
    try_history(history, reference=True)


@search
@given(hourly)
def search_with_hours(history: tuple[int, list[Any]]) -> None:
    try_history(history, reference=False)


@search
@given(hourly)
def search_for_a_difference_with_hours(history: tuple[int, list[Any]]) -> None:
    try_history(history, reference=True)


def never_full(self: Agent, *, only_online: bool) -> str | None:
    return self.presence if only_online and self.presence != "online" else None


def room_for_all(_self: Desk, _owner: str) -> bool:
    return True


def last_come_first_served(self: WaitingQueue) -> Any:
    return max(((place, which) for which, place in self._live.items()), default=None)


def classes_forgotten(self: WaitingQueue) -> Any:
    return min(((place, which) for which, place in self._live.items()), key=lambda each: each[0][1:], default=None)


def ready_for_two(self: Pool) -> bool:
    return bool(self.free) and len(self.waiting) > 1


def never_uncounted(self: Desk, conversation: Any, _before: Any, now: Any) -> None:
    if now is not None:
        self._owned.setdefault(now, set()).add(conversation)
        self._counted(now)


def parts_only(self: WorkspacesState) -> None:
    self.parts.discard()


def nobody_belongs(_self: Pools, _agent: Agent, _key: Any) -> bool:
    return False


def counting_evolve() -> Any:
    """An ``evolve`` that looks at something that is not in the record."""
    times = iter(range(10**9))

    def evolve(state: WorkspacesState, desk: Desk, record: LogRecord) -> None:
        made(state, desk, record)
        state.put_agent(desk, record.data["agent"], assigned_last=next(times))

    made = workspace_state._made
    return evolve


def place_lost(routing: Any, now_ms: int) -> Any:
    return replace(armed(routing, now_ms), since_ms=now_ms)


PLANTED: dict[str, tuple[Any, str, Any, str]] = {
    "nobody is ever full": (Agent, "hindrance", never_full, "passed max_open|pool is wrong"),
    "joined without room": (Desk, "room_with", room_for_all, "passed max_open"),
    "last come, first served": (WaitingQueue, "head", last_come_first_served, "overtook"),
    "classes are forgotten": (WaitingQueue, "head", classes_forgotten, "overtook"),
    "the last in a queue is forgotten": (Pool, "ready", property(ready_for_two), "somebody waits|overtook"),
    "an end frees nobody": (Desk, "_count", never_uncounted, "open count|discard leaves"),
    "a discard keeps the index": (WorkspacesState, "discard", parts_only, "discard leaves something in the index"),
    "evolve counts by itself": (workspace_state._APPLY, "assignment.made", counting_evolve(), "another state|discard"),
    "nobody is in any pool": (Pools, "_belongs", nobody_belongs, "somebody waits|pool is wrong"),
    "served past a drain": (Desk, "busy", property(lambda self: bool(self.releasing)), "overtook|somebody waits"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_an_invariant_sees_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the slow decider's help, and in the words of the invariant that it breaks."""
    owner, name, broken, message = PLANTED[bug]
    if isinstance(owner, dict):
        monkeypatch.setitem(owner, name, broken)
    else:
        monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match=message):
        search_for_a_broken_invariant()


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Pool, "next_agent", lambda self, _turn, _passed=(): self.free[0] if self.free else None),
        (assignment, "armed", place_lost),
        (Pool, "_again", lambda _self, _turn: False),
    ],
)
def test_the_slow_decider_sees_what_breaks_no_invariant(
    owner: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in turn, or a released conversation at the end of the queue: orderly, but not what was promised."""
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        search_for_a_difference()


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (DeskHours, "is_shut", lambda _self, _key: False),
        (Clock, "standing", lambda self, at_ms: Standing(self.is_open(at_ms), 10**15)),
        (Clock, "is_open", lambda _self, _at: True),
    ],
)
def test_an_invariant_sees_that_hours_are_forgotten(
    owner: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pools that are never shut, hours that never change, and a clock that nobody looks at."""
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match=r"out of hours|nobody can have it"):
        search_with_hours()


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (DeskHours, "_chain", lambda _self, _name: ()),
        (Clock, "_offset_ms", lambda self, _at: self._offsets_ms[0]),
    ],
)
def test_the_slow_decider_sees_who_stands_in_and_when_clocks_change(
    owner: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        search_for_a_difference_with_hours()


def test_nothing_is_decided_by_asking() -> None:
    """Asking what is due or what follows changes nothing."""
    lane = Lane()
    lane.has("anna", "support")
    before = deepcopy(lane.workspaces.state.parts.values)
    event = lane.request(requested(), "c1")
    for _ in range(2):
        lane.workspaces.decide(event, NONE, lane.now_ms)
        lane.workspaces.due(lane.now_ms, 10)
        lane.workspaces.follow_up(event, NONE, lane.now_ms)
    assert lane.workspaces.state.parts.values == before
