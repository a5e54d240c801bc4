"""What is remembered of a workspace: immutable parts, one per agent, conversation, pool's turn and source of requests.

Everything else that the decider needs (queues, counts, deadlines) is derived from these parts, see
``workspace_index.py``. What they mean and how records change them stands in ``workspace_state.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from routing.inputs import (
    Channel,
    ConfiguredAgent,
    Offsets,
    PoolTarget,
    PresenceStatus,
    RouteName,
    RouteTarget,
    TeamHours,
)

MAX_OPEN_DEFAULT: Final = 20  #: each agent's room until a policy's ``agents.max_open`` is known
RULES_BY_ROOM: Final = 2
RULES_WIDER_LANGUAGES: Final = 3
RULES: Final = RULES_WIDER_LANGUAGES  #: the newest rules of choosing, see ``ConfigPart.rules``
SHARED_MAX: Final = 4_096  #: different targets and channels that are kept once
RANKS: Final[dict[RouteName, int]] = {"vip": 0, "escalated": 1, "regular": 2}  #: who is served first

Status: TypeAlias = Literal["new", "waiting", "offered", "assigned", "ended", "not-routed"]
SetBy: TypeAlias = Literal["event", "policy"]
Held: TypeAlias = Literal["lapsed", "missed"]


class ConversationId(NamedTuple):
    """Names a conversation inside its workspace."""

    contact: str
    conversation: str


class Deadlines(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Until when a conversation waits, Unix milliseconds; None: for ever."""

    fallback: int | None = None  #: then the fallback's pool opens too
    wait: int | None = None  #: then it goes to the escalation, or is overdue
    promote: int | None = None  #: then it ranks as the next class
    relax: int | None = None  #: then skills and language do not matter any more


@lru_cache(maxsize=SHARED_MAX)
def relaxed(target: PoolTarget) -> PoolTarget:
    """The target when skills and language do not matter any more."""
    return replace(target, skills=(), match_language=False)


class Routing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a conversation waits, and its place there; kept while it is assigned, for the case that it is released."""

    route: RouteName
    route_reason: str
    target: RouteTarget
    escalation: RouteTarget | None = None
    policy: str | None = None
    channel: Channel | None = None
    language: str | None = None
    since_ms: int  #: its place in the queue; survives escalation, assignment and release
    order: int  #: offset in ``assignment.requests``: its place among those of the same millisecond
    queued_ms: int  #: when the present wait began
    join: str | None = None  #: the contact's other conversation, whose owner this one gets
    overdue: bool = False
    fallback_open: bool = False
    deadlines: Deadlines = Deadlines()
    promoted: bool = False
    relaxed: bool = False
    passed: tuple[str, ...] = ()  #: the last agents who did not accept it: others come first

    @property
    def rank(self) -> int:
        """Its class, the most urgent is 0."""
        rank = RANKS[self.route]
        return max(rank - 1, 0) if self.promoted else rank

    @property
    def place(self) -> tuple[int, int, int]:
        """What orders waiting conversations: class, then age."""
        return (self.rank, self.since_ms, self.order)

    @property
    def targets(self) -> tuple[PoolTarget, ...]:
        """Whose agents may get it now, the preferred first."""
        fallback = self.target.fallback
        targets = (self.target, fallback) if self.fallback_open and fallback is not None else (self.target,)
        return tuple(map(relaxed, targets)) if self.relaxed else targets

    def speaks_for(self, target: PoolTarget) -> str | None:
        """The language that the target's agents have to speak; None: any."""
        return self.language if target.match_language else None


class Offer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent was asked to accept; kept once he has, so that a copy of his word is known."""

    token: str
    until_ms: int
    strategy: str
    team: str | None = None


class Part(Struct, frozen=True, kw_only=True, tag_field="part", omit_defaults=True):
    """A piece of the state; ``seq`` and ``prev`` name the last record of its subject where it has records."""


class ConversationPart(Part, frozen=True, kw_only=True, tag="conversation"):
    """A conversation. After its end only its chain is kept, so that one opened again goes on counting."""

    seq: int = 0
    prev: str | None = None
    run: int = 0
    status: Status = "new"
    routing: Routing | None = None
    agent: str | None = None
    armed: int = 0  #: the ``seq`` of the record that put it into the queue: deadlines of another one are void
    offer: Offer | None = None
    offers: int = 0  #: how often it was offered, ever


class AgentPart(Part, frozen=True, kw_only=True, tag="agent"):
    """An agent, also one who was removed or whom nobody told us of: his records need their chain."""

    seq: int = 0
    prev: str | None = None
    record: ConfiguredAgent | None = None  #: None: he is not one of ours, or not any more
    set_by: SetBy | None = None  #: an event's word overrides the policy's
    presence: PresenceStatus | None = None  #: None: nobody said; counts as online
    presence_time_ms: int | None = None
    record_time_ms: int | None = None
    seen: tuple[str, ...] = ()  #: sources and ids of the last inputs that changed him
    assigned_last: int = -1  #: log offset of his last assignment; -1: none yet
    releasing: bool = False  #: he was removed and still has conversations
    idle_since: int = -1  #: log offset since when he waits for work: he got or ended something, or came online
    held: Held | None = None  #: why his presence is not what he said: no heartbeat came, or offers were missed
    missed: int = 0  #: offers in a row that he let pass
    wrapping: tuple[int, ...] = ()  #: until when ended conversations take room, Unix milliseconds, in order


class ContactPart(Part, frozen=True, kw_only=True, tag="contact"):
    """Who had a contact last, where a route prefers him."""

    agent: str
    at_ms: int


class TurnPart(Part, frozen=True, kw_only=True, tag="turn"):
    """A pool's turn: whom round robin served last, and how many times in a row."""

    agent: str
    times: int = 1


class SourcePart(Part, frozen=True, kw_only=True, tag="source"):
    """The last request taken from one partition of a router's log."""

    offset: int
    n: int


class HoursNow(Struct, frozen=True, kw_only=True):
    """How hours stand, as the log has it."""

    open: bool
    until_ms: int  #: when that is to be decided again


class ConfigPart(Part, frozen=True, kw_only=True, tag="config"):
    """What the policy says of agents, and the chain of the records that concern nobody in particular."""

    seq: int = 0
    prev: str | None = None
    max_open: int = MAX_OPEN_DEFAULT
    agents: dict[str, ConfiguredAgent] = {}
    presence_ttl_ms: int | None = None
    leases_from_ms: int = 0  #: when ``presence_ttl_ms`` became what it is
    wrap_up_ms: int | None = None
    missed_offers_max: int | None = None
    rules: int = 1  #: by which is chosen: 2 weighs loads by room, ties by who waits for work; 3: pt-BR speaks pt
    hours: dict[str, TeamHours] = {}
    zones: dict[str, Offsets] = {}
    hours_now: dict[str, HoursNow] = {}  #: of ``hours``; who has none here is closed, and due to be decided
    hours_seq: int = 0  #: the record that armed the present deadline of hours


PieceT = TypeVar("PieceT", bound=Struct)
WorkspacePart: TypeAlias = ConversationPart | AgentPart | ContactPart | TurnPart | SourcePart | ConfigPart


class _Shared(Generic[PieceT]):
    """Keeps one of all equal structs, and one of their JSON values: nobody may change what it gives.

    All conversations of a route have the same target, escalation and mostly channel. A dictionary that this gave is
    known again by its identity, so that a record that was just decided need not be read.
    """

    def __init__(self, type: type[PieceT]) -> None:
        self._type = type
        self._values: dict[PieceT, tuple[PieceT, dict[str, Any]]] = {}
        self._given: dict[int, PieceT] = {}  #: by the id of values that are kept, so that no other has it

    def values(self, piece: PieceT | None) -> dict[str, Any] | None:
        """The struct as JSON values."""
        if piece is None:
            return None
        kept = self._values.get(piece) or self._keep(piece)
        return kept[1]

    def read(self, values: dict[str, Any] | None) -> PieceT | None:
        """The struct that these JSON values say."""
        if values is None:
            return None
        given = self._given.get(id(values))
        if given is not None:
            return given
        piece = convert(values, self._type)
        kept = self._values.get(piece) or self._keep(piece)
        return kept[0]

    def _keep(self, piece: PieceT) -> tuple[PieceT, dict[str, Any]]:
        if len(self._values) >= SHARED_MAX:
            self._given.clear()
            self._values.clear()
        kept = self._values[piece] = (piece, to_builtins(piece))
        self._given[id(kept[1])] = piece
        return kept


_targets: Final = _Shared(RouteTarget)
_channels: Final = _Shared(Channel)


def routing_data(routing: Routing) -> dict[str, Any]:
    """The routing as a record has it; ``read_routing`` makes it again. The policy is the record's own field."""
    values: dict[str, Any] = {
        "channel": _channels.values(routing.channel),
        "language": routing.language,
        "escalation": _targets.values(routing.escalation),
        "route": routing.route,
        "route_reason": routing.route_reason,
        "target": _targets.values(routing.target),
        "since_ms": routing.since_ms,
        "order": routing.order,
        "queued_ms": routing.queued_ms,
    }
    if routing.join is not None:
        values["join"] = routing.join
    if routing.overdue:
        values["overdue"] = True
    if routing.fallback_open:
        values["fallback_open"] = True
    if routing.promoted:
        values["promoted"] = True
    if routing.relaxed:
        values["relaxed"] = True
    if routing.passed:
        values["passed"] = list(routing.passed)
    values["deadlines"] = to_builtins(routing.deadlines)
    values["rank"] = routing.rank
    return values


def read_target(values: dict[str, Any]) -> RouteTarget:
    """The target that a record's data tells of."""
    target = _targets.read(values)
    assert target is not None
    return target


def read_routing(data: Mapping[str, Any]) -> Routing:
    """The routing that a record's data tells of."""
    target = _targets.read(data["target"])
    assert target is not None, "a record has a route without a target"
    get = data.get
    route: Any = intern(data["route"])
    policy, language = data["policy"], get("language")
    return Routing(
        route=route,
        route_reason=intern(data["route_reason"]),
        target=target,
        escalation=_targets.read(get("escalation")),
        policy=None if policy is None else intern(policy),
        channel=_channels.read(get("channel")),
        language=None if language is None else intern(language),
        since_ms=data["since_ms"],
        order=data["order"],
        queued_ms=data["queued_ms"],
        join=get("join"),
        overdue=get("overdue", False),
        fallback_open=get("fallback_open", False),
        deadlines=Deadlines(**data["deadlines"]),
        promoted=get("promoted", False),
        relaxed=get("relaxed", False),
        passed=tuple(get("passed", ())),
    )


_special: Final = re.compile(r"[^A-Za-z0-9_.~-]").search


def _encoded(text: str) -> str:
    return quote(text, safe="") if _special(text) else text


@lru_cache(maxsize=1_024)
def _conversations(workspace: str) -> str:
    return f"{_encoded(workspace)}/conversation"


# One record asks for the same few keys again and again.


@lru_cache(maxsize=128)
def conversation_key(workspace: str, conversation: ConversationId) -> str:
    """The key of a conversation's part."""
    contact, name = conversation
    if _special(contact + name) is not None:
        contact, name = _encoded(contact), _encoded(name)
    return f"{_conversations(workspace)}/{contact}/{name}"


@lru_cache(maxsize=4_096)
def agent_key(workspace: str, agent: str) -> str:
    """The key of an agent's part."""
    return f"{_encoded(workspace)}/agent/{_encoded(agent)}"


@lru_cache(maxsize=128)
def contact_key(workspace: str, contact: str) -> str:
    """The key of what is remembered of a contact."""
    return f"{_encoded(workspace)}/contact/{_encoded(contact)}"


@lru_cache(maxsize=1_024)
def turn_key(workspace: str, pool: str) -> str:
    """The key of a pool's turn; ``pool`` as ``PoolKey.turn_name`` has it."""
    return f"{_encoded(workspace)}/turn/{_encoded(pool)}"


@lru_cache(maxsize=1_024)
def source_key(workspace: str, log_id: str, partition: int) -> str:
    """The key of what was taken from one partition of a router's log."""
    return f"{_encoded(workspace)}/source/{_encoded(log_id)}/{partition}"


@lru_cache(maxsize=1_024)
def config_key(workspace: str) -> str:
    """The key of the workspace's own part."""
    return f"{_encoded(workspace)}/config"


def parse_key(key: str) -> tuple[str, str, tuple[str, ...]]:
    """The workspace, the kind of part and the ids that a key was made of."""
    workspace, kind, *ids = map(unquote, key.split("/"))
    return workspace, kind, tuple(ids)
