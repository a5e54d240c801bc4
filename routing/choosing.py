"""Who may have a waiting conversation, who of them gets it, and how the record explains it."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from routing.decider import Decision
from routing.inputs import AssignmentRequested, PoolTarget, RouteTarget
from routing.strategies import CANDIDATES_MAX, Chosen, Line
from routing.workspace_index import Desk
from routing.workspace_parts import ConversationId, ConversationPart, Deadlines, Routing, routing_data


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
        deadlines=_deadlines(target, now_ms),
    )


def armed(routing: Routing, now_ms: int) -> Routing:
    """The routing with its target's deadlines counted from now, and the fallback shut until its own has passed."""
    target = routing.target
    return replace(routing, fallback_open=_opens_at_once(target), deadlines=_deadlines(target, now_ms))


def _opens_at_once(target: RouteTarget) -> bool:
    return target.fallback is not None and target.fallback_after_ms is not None and target.fallback_after_ms <= 0


def _deadlines(target: RouteTarget, now_ms: int) -> Deadlines:
    after_ms = None if target.fallback is None else target.fallback_after_ms
    return Deadlines(
        fallback=now_ms + after_ms if after_ms is not None and after_ms > 0 else None,
        wait=None if target.wait_max_ms is None else now_ms + target.wait_max_ms,
    )


def choose(desk: Desk, conversation: ConversationId, routing: Routing) -> Chosen | None:
    """Who gets the conversation, if it waits as ``routing`` says; None: nobody can have it now."""
    leader = desk.leader(conversation, routing)
    if leader is not None:
        return _owner(desk, leader)
    passed_over: list[Line] = []
    for index, target in enumerate(routing.targets):
        chosen = (_dedicated if target.agent is not None else _of_pool)(desk, target, passed_over)
        if chosen is not None:
            return chosen if index == 0 else replace(chosen, reason="fallback")
    return None


def _owner(desk: Desk, leader: ConversationPart) -> Chosen | None:
    if leader.agent is None or not desk.room_with(leader.agent):
        return None
    candidates = [desk.agents[leader.agent].as_candidate(None)]
    return Chosen(agent=leader.agent, strategy="joined", reason="joined", candidates=candidates, candidates_total=1)


def _dedicated(desk: Desk, target: PoolTarget, passed_over: list[Line]) -> Chosen | None:
    agent = desk.resolve(str(target.agent))
    if agent is None:
        return None
    hindrance = agent.hindrance(only_online=target.only_online)
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


def _of_pool(desk: Desk, target: PoolTarget, passed_over: list[Line]) -> Chosen | None:
    pool = desk.pool(target)
    if not pool.free:
        return None
    turn = desk.turn(pool.turn_name)
    agent = pool.next_agent(turn)
    in_turn = target.strategy == "round-robin"
    return Chosen(
        agent=agent,
        strategy=target.strategy,
        reason="next-in-turn" if in_turn else "fewest-open",
        team=target.team,
        candidates=[*passed_over, *pool.explain(agent, turn, limit=CANDIDATES_MAX - len(passed_over))],
        candidates_total=len(passed_over) + len(pool.members),
        turn={"pool": pool.turn_name, "before": turn, "after": agent} if in_turn else None,
    )


def shown(routing: Routing) -> dict[str, Any]:
    """What of the routing the record of a conversation's end needs, for the events made of it."""
    return {
        "route": routing.route,
        "route_reason": routing.route_reason,
        "channel": None if routing.channel is None else to_builtins(routing.channel),
        "language": routing.language,
    }


def record(
    type: str,
    conversation: ConversationId,
    part: ConversationPart,
    data: dict[str, Any],
    *,
    routing: Routing | None = None,
    more: bool = True,
) -> Decision:
    """The next record of a conversation."""
    known = routing or part.routing
    return Decision(
        type=type,
        contact=conversation.contact,
        subject=conversation.conversation,
        run=part.run,
        seq=part.seq + 1,
        prev=part.prev,
        policy=None if known is None else known.policy,
        data=data,
        more=more,
    )


def queued(part: ConversationPart, routing: Routing) -> dict[str, Any]:
    """What a record that makes a conversation wait adds."""
    return {"from": part.status, "to": "waiting", **routing_data(routing)}


def made(
    conversation: ConversationId, part: ConversationPart, routing: Routing | None, chosen: Chosen, now_ms: int
) -> Decision:
    """The record that gives a conversation to an agent."""
    waited_ms = 0 if routing is None or part.status == "assigned" else now_ms - routing.queued_ms
    data: dict[str, Any] = {
        "from": part.status,
        "to": "assigned",
        **({"route": None, "route_reason": None} if routing is None else routing_data(routing)),
        "agent": chosen.agent,
        "team": chosen.team,
        "strategy": chosen.strategy,
        "reason": chosen.reason,
        "waited_ms": waited_ms,
        "candidates": chosen.candidates,
        "candidates_total": chosen.candidates_total,
        "turn": chosen.turn,
    }
    if part.agent is not None:
        data["released"] = {"agent": part.agent, "reason": chosen.reason}
    return record("assignment.made", conversation, part, data, routing=routing)
