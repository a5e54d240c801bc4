"""Who may have a waiting conversation, and who of them gets it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from msgspec.structs import replace

from routing.desk_agents import Line
from routing.hours import StandIn
from routing.inputs import AssignmentRequested, PoolTarget, RouteTarget
from routing.strategies import CANDIDATES_MAX, CROWD, CROWD_NAMED_MAX, Chosen, Pool
from routing.workspace_index import Desk
from routing.workspace_parts import ConversationId, ConversationPart, Deadlines, Routing, TurnPart

_REASONS: Final = {"round-robin": "next-in-turn", "least-open": "fewest-open", "longest-idle": "longest-idle"}


def new_routing(body: AssignmentRequested, *, order: int, now_ms: int) -> Routing:
    """Where a request puts a conversation when nobody can have it at once."""
    target = body.target
    return Routing(
        route=body.route,
        route_reason=body.route_reason,
        target=target,
        escalation=body.escalation,
        policy=body.policy,
        channel=body.channel,
        language=body.language,
        since_ms=now_ms,
        order=order,
        queued_ms=now_ms,
        join=body.join,
        fallback_open=_opens_at_once(target),
        deadlines=_deadlines(target, now_ms, promoted=False),
    )


def armed(routing: Routing, now_ms: int) -> Routing:
    """The routing at the beginning of a new wait.

    Its target's deadlines count from now, the fallback is shut until its own has passed, skills and language matter
    again. It keeps its place.
    """
    target = routing.target
    return replace(
        routing,
        fallback_open=_opens_at_once(target),
        relaxed=False,
        passed=(),
        deadlines=_deadlines(target, now_ms, promoted=routing.promoted),
    )


def _opens_at_once(target: RouteTarget) -> bool:
    return target.fallback is not None and target.fallback_after_ms is not None and target.fallback_after_ms <= 0


def _deadlines(target: RouteTarget, now_ms: int, *, promoted: bool) -> Deadlines:
    after_ms = None if target.fallback is None else target.fallback_after_ms
    return Deadlines(
        fallback=now_ms + after_ms if after_ms is not None and after_ms > 0 else None,
        wait=None if target.wait_max_ms is None else now_ms + target.wait_max_ms,
        promote=None if target.promote_after_ms is None or promoted else now_ms + target.promote_after_ms,
        relax=None if target.relax_after_ms is None else now_ms + target.relax_after_ms,
    )


def choose(desk: Desk, conversation: ConversationId, routing: Routing, now_ms: int) -> Chosen | None:
    """Who gets the conversation, if it waits as ``routing`` says; None: nobody can have it now.

    Those who did not accept it before come after all others who can have it.
    """
    leader = desk.leader(conversation, routing)
    if leader is not None:
        return _owner(desk, leader)
    chosen = _had_last(desk, conversation, routing, now_ms)
    if chosen is None and routing.passed:
        chosen = _of_targets(desk, routing, routing.passed)
    return chosen or _of_targets(desk, routing, ())


def _owner(desk: Desk, leader: ConversationPart) -> Chosen | None:
    if leader.agent is None or leader.status != "assigned" or not desk.room_with(leader.agent):
        return None
    candidates = [desk.agents[leader.agent].as_candidate(None)]
    return Chosen(agent=leader.agent, strategy="joined", reason="joined", candidates=candidates, candidates_total=1)


def _had_last(desk: Desk, conversation: ConversationId, routing: Routing, now_ms: int) -> Chosen | None:
    """The agent who had the contact not so long ago, if he is one of those who could have it now."""
    sticky_ms = routing.target.sticky_ms
    had = None if sticky_ms is None else desk.had_last(conversation.contact)
    if sticky_ms is None or had is None or now_ms - had.at_ms > sticky_ms or had.agent in routing.passed:
        return None
    for target in routing.targets if desk.hours is None else desk.hours.open_of(routing):
        if target.agent is None and desk.pool(target, routing).has_free(had.agent):
            candidates = [desk.agents[had.agent].as_candidate(None)]
            return Chosen(
                agent=had.agent,
                strategy="sticky",
                reason="had-it-last",
                team=target.team,
                candidates=candidates,
                candidates_total=1,
            )
    return None


def _of_targets(desk: Desk, routing: Routing, passed: Collection[str]) -> Chosen | None:
    passed_over: list[Line] = []
    targets = routing.targets
    first = targets[0]
    for target in targets if desk.hours is None else desk.hours.open_of(routing):
        of_target = _dedicated if target.agent is not None else _of_pool
        chosen = of_target(desk, target, routing, passed, passed_over)
        if chosen is not None:
            if target is first or target == first:
                return chosen
            return replace(chosen, reason="outside-hours" if isinstance(target, StandIn) else "fallback")
    return None


def _dedicated(
    desk: Desk, target: PoolTarget, _routing: Routing, passed: Collection[str], passed_over: list[Line]
) -> Chosen | None:
    agent = desk.pools.resolve(str(target.agent))
    if agent is None:
        return None
    hindrance = agent.hindrance(only_online=target.only_online)
    if hindrance is None and agent.id in passed:
        hindrance = "did-not-accept"
    candidates = [*passed_over, agent.as_candidate(hindrance)]
    if hindrance is not None:
        passed_over[:] = candidates
        return None
    return Chosen(
        agent=agent.id,
        strategy="dedicated",
        reason="dedicated",
        candidates=candidates,
        candidates_total=len(candidates),
    )


def _of_pool(
    desk: Desk, target: PoolTarget, routing: Routing, passed: Collection[str], passed_over: list[Line]
) -> Chosen | None:
    pool = desk.pool(target, routing)
    turn = desk.turn(pool.turn_name) if pool.free else None
    agent = pool.next_agent(turn, passed) if pool.free else None
    if agent is None:
        return None
    is_crowd = desk.names_few and len(pool.members) > CROWD
    limit = (CROWD_NAMED_MAX if is_crowd else CANDIDATES_MAX) - len(passed_over)
    in_turn = target.strategy == "round-robin"
    return Chosen(
        agent=agent,
        strategy=target.strategy,
        reason=_REASONS[target.strategy],
        team=target.team,
        candidates=[*passed_over, *pool.explain(agent, turn, limit=limit, passed=passed)],
        candidates_total=len(passed_over) + len(pool.members),
        counts=_counts(pool) if is_crowd else None,
        turn=_turn(pool, desk, turn, agent) if in_turn else None,
    )


def _counts(pool: Pool) -> dict[str, int]:
    """How many of a crowd stand how: the free ones, and the others by what hinders them."""
    return {"free": len(pool.free), **{why: count for why, count in sorted(pool.counts.items()) if count}}


def _turn(pool: Pool, desk: Desk, turn: TurnPart | None, agent: str) -> dict[str, Any]:
    """Whose turn it was and is. ``times`` counts how often in a row, of somebody with a weight."""
    values: dict[str, Any] = {"pool": pool.turn_name, "before": None if turn is None else turn.agent, "after": agent}
    if desk.agents[agent].weight > 1:
        again = turn is not None and turn.agent == agent and turn.times < desk.agents[agent].weight
        values["times"] = turn.times + 1 if again and turn is not None else 1
    return values
