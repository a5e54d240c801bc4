"""The records of a conversation's assignment, as decisions: what each kind of them tells.

Who gets what is ``choosing.py``'s and ``assignment.py``'s business, what a record changes ``workspace_state.py``'s.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from routing.decider import Decision
from routing.strategies import Chosen
from routing.workspace_parts import ConfigPart, ConversationId, ConversationPart, Offer, Routing, routing_data

TOKEN_CHARS: Final = 32
PASSED_MAX: Final = 16  #: agents who did not accept a conversation that are remembered


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


def of_nobody(config: ConfigPart, type: str, data: dict[str, Any], *, more: bool = False) -> Decision:
    """The next record of those of a workspace that concern nobody in particular."""
    return Decision(
        type=type, contact="", subject=None, seq=config.seq + 1, prev=config.prev, policy=None, data=data, more=more
    )


def shown(routing: Routing) -> dict[str, Any]:
    """What of the routing the record of a conversation's end needs, for the events made of it."""
    return {
        "route": routing.route,
        "route_reason": routing.route_reason,
        "channel": None if routing.channel is None else to_builtins(routing.channel),
        "language": routing.language,
    }


def queued(part: ConversationPart, routing: Routing) -> dict[str, Any]:
    """What a record that makes a conversation wait adds."""
    return {"from": part.status, "to": "waiting", **routing_data(routing)}


def given(
    conversation: ConversationId, part: ConversationPart, routing: Routing, chosen: Chosen, now_ms: int
) -> Decision:
    """The record that gives a conversation to the agent whom the router chose, or offers it to him."""
    accept_ms = routing.target.accept_ms
    if accept_ms is None or chosen.strategy == "joined":
        return made(conversation, part, replace(routing, passed=()) if routing.passed else routing, chosen, now_ms)
    data: dict[str, Any] = {
        "from": part.status,
        "to": "offered",
        **routing_data(routing),
        **_told_of(chosen, part, routing, now_ms),
        "token": token_of(conversation, part, chosen.agent),
        "until_ms": now_ms + accept_ms,
    }
    return record("assignment.offered", conversation, part, data, routing=routing)


def made(
    conversation: ConversationId, part: ConversationPart, routing: Routing | None, chosen: Chosen, now_ms: int
) -> Decision:
    """The record that makes an agent the owner of a conversation."""
    data: dict[str, Any] = {
        "from": part.status,
        "to": "assigned",
        **({"route": None, "route_reason": None} if routing is None else routing_data(routing)),
        **_told_of(chosen, part, routing, now_ms),
    }
    if part.agent is not None and part.agent != chosen.agent:
        data["released"] = {"agent": part.agent, "reason": chosen.reason}
        data |= withdrawn(part)
    return record("assignment.made", conversation, part, data, routing=routing)


def accepted(
    conversation: ConversationId, part: ConversationPart, routing: Routing, offer: Offer, now_ms: int
) -> Decision:
    """The record that makes the agent the owner who has accepted; whom else there was stands in that of the offer."""
    strategy: Any = offer.strategy
    chosen = Chosen(agent=str(part.agent), strategy=strategy, reason="accepted", team=offer.team)
    return made(conversation, part, replace(routing, passed=()) if routing.passed else routing, chosen, now_ms)


def passed_on(conversation: ConversationId, part: ConversationPart, routing: Routing, reason: str) -> Decision:
    """The record that takes an offer back and lets the conversation wait on, where it waited before."""
    agent = str(part.agent)
    others = [name for name in routing.passed if name != agent]
    routing = replace(routing, passed=(*others, agent)[-PASSED_MAX:])
    data = {"from": part.status, "to": "waiting", "agent": agent, "reason": reason, **routing_data(routing)}
    data |= withdrawn(part)
    return record("assignment.released", conversation, part, data, routing=routing)


def withdrawn(part: ConversationPart) -> dict[str, Any]:
    """What a record tells of an offer that it takes back; nothing if there was none."""
    return {} if part.status != "offered" or part.offer is None else {"token": part.offer.token}


def token_of(conversation: ConversationId, part: ConversationPart, agent: str) -> str:
    """What names the offer that follows on a conversation's last record: the same in every replay."""
    told = "\n".join((*conversation, agent, str(part.seq + 1), part.prev or ""))
    return sha256(told.encode(errors="surrogatepass")).hexdigest()[:TOKEN_CHARS]


def _told_of(chosen: Chosen, part: ConversationPart, routing: Routing | None, now_ms: int) -> dict[str, Any]:
    """Whom it is given to, and why him."""
    waited_ms = 0 if routing is None or part.status == "assigned" else now_ms - routing.queued_ms
    data: dict[str, Any] = {
        "agent": chosen.agent,
        "team": chosen.team,
        "strategy": chosen.strategy,
        "reason": chosen.reason,
        "waited_ms": waited_ms,
        "candidates": chosen.candidates,
        "candidates_total": chosen.candidates_total,
    }
    if chosen.counts is not None:
        data["counts"] = chosen.counts
    data["turn"] = chosen.turn
    return data
