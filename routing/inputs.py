"""What a decider is told: inputs, already parsed, typed and freed from their transport.

``Event`` is the envelope, ``body`` says what happened. The bodies' tags are the event types of the contract.
Parsing and its errors are ``events``' business; what an input leads to is the deciders'.

Every body is stored in the log record that it caused, its personal fields apart (``Body.split``), so that a replay
can build it again and decide again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, convert, to_builtins

OpenedBy: TypeAlias = Literal["contact", "user", "workflow", "other"]
MessageKind: TypeAlias = Literal["text", "image", "audio", "video", "file", "sticker", "reaction", "other"]
Sender: TypeAlias = Literal["contact", "agent", "bot", "system", "other"]
PresenceStatus: TypeAlias = Literal["online", "away", "offline", "other"]
DeadlineKind: TypeAlias = Literal[
    "answer", "crm", "forget", "fallback", "wait", "promote", "relax", "offer", "lease", "wrap-up", "hours", "drain"
]  # fmt: skip
Found: TypeAlias = Literal["address", "none", "two", "no-text", "stop"]


class Cause(Struct, frozen=True, kw_only=True):
    """Where an input stood. A deadline stands in no topic: only its ``id`` is set, made of what armed it."""

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    id: str


class Channel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The way to the contact, handed through as given."""

    id: str | None = None
    type: str | None = None


class Body(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What happened. ``PERSONAL`` names the fields that may stand in a log record only under ``data.pii``."""

    PERSONAL: ClassVar[tuple[str, ...]] = ()

    def split(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The body as JSON values, with its tag as ``type``; and the personal fields that are set, apart."""
        values: dict[str, Any] = to_builtins(self)
        personal: dict[str, Any] = {}
        for name in self.PERSONAL:
            if name in values:
                personal[name] = values.pop(name)
        return values, personal


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message's text holds for us; the text itself is not kept."""

    found: Found


class OpeningMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The contact's first message, which opened the conversation. ``text`` is dropped once it was read."""

    id: str | None = None
    text: str | None = None
    sent_at_ms: int | None = None
    answer: Answer | None = None


class Opened(Body, frozen=True, kw_only=True, tag="conversation.opened"):
    """A conversation was opened."""

    PERSONAL = ("email", "name", "answer_email")

    email: str | None = None  #: from the contact's record, normalised; None: unknown or not an address
    name: str | None = None
    language: str | None = None  #: BCP 47 tag as given
    channel: Channel | None = None
    opened_by: OpenedBy = "contact"
    message: OpeningMessage | None = None
    agent: str | None = None  #: who owns it already
    answer_email: str | None = None  #: the address found in ``message``


class MessageReceived(Body, frozen=True, kw_only=True, tag="message.received"):
    """A message in a conversation, by whomever. ``text`` is dropped once it was read (``answer``)."""

    PERSONAL = ("text", "answer_email")

    message_id: str | None = None
    text: str | None = None
    kind: MessageKind = "text"
    sent_at_ms: int
    sender: Sender = "contact"
    agent: str | None = None
    answer: Answer | None = None  #: set by the decider's ``read``; None: nobody needed to know
    answer_email: str | None = None


class ContactUpdated(Body, frozen=True, kw_only=True, tag="contact.updated"):
    """A patch of the contact's record: UNSET is unsaid, None is "none". Concerns the contact, no conversation."""

    PERSONAL = ("email", "name")

    email: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET


class AssigneeChanged(Body, frozen=True, kw_only=True, tag="assignee.changed"):
    """Somebody took the conversation by hand, passed it on, or (``agent`` None) released it."""

    agent: str | None
    team: str | None = None


class Closed(Body, frozen=True, kw_only=True, tag="conversation.closed"):
    """The conversation was closed."""

    reason: str | None = None


class ReplyFailed(Body, frozen=True, kw_only=True, tag="reply.failed"):
    """A reply of ours could not be delivered. ``reply`` is its event id."""

    reply: str
    reason: str


class CrmAnswered(Body, frozen=True, kw_only=True, tag="crm.answered"):
    """The CRM answered a look-up. ``personal`` holds the variables that the policy marks so."""

    PERSONAL = ("personal_variables",)

    lookup_id: str
    status: int
    variables: dict[str, Any]
    personal_variables: dict[str, Any] = {}
    attempts: int
    latency_ms: int
    age_ms: int | None = None


class CrmFailed(Body, frozen=True, kw_only=True, tag="crm.failed"):
    """A look-up ended without an answer."""

    lookup_id: str
    reason: str
    status: int | None = None
    attempts: int


class DeadlinePassed(Body, frozen=True, kw_only=True, tag="deadline.passed"):
    """A deadline that the state holds has passed. Ignored unless the record ``seq`` is what armed the current one."""

    kind: DeadlineKind
    seq: int


class PoolTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may get a conversation: exactly one of ``agent``, ``team`` and ``workspace`` is set."""

    agent: str | None = None  #: an agent's id, or else the e-mail address of his record
    team: str | None = None
    workspace: bool = False
    strategy: Literal["round-robin", "least-open", "longest-idle"] = "round-robin"
    only_online: bool = True
    skills: tuple[str, ...] = ()  #: what an agent of the pool must know
    match_language: bool = False  #: he must speak the conversation's language


class RouteTarget(PoolTarget, frozen=True, kw_only=True, omit_defaults=True):
    """A route, resolved: nothing of the policy is needed to carry it out."""

    fallback: PoolTarget | None = None
    fallback_after_ms: int | None = None  #: from the moment of queueing; None: the fallback never opens
    wait_max_ms: int | None = None
    sticky_ms: int | None = None  #: how long the agent who had the contact last is preferred; None: not at all
    accept_ms: int | None = None  #: how long an agent has to accept what he is offered; None: he is not asked
    promote_after_ms: int | None = None  #: when it ranks as the next class; None: never
    relax_after_ms: int | None = None  #: when skills and language do not matter any more; None: never


RouteName: TypeAlias = Literal["vip", "regular", "escalated"]


class AssignmentRequested(Body, frozen=True, kw_only=True, tag="assignment.requested"):
    """The router asks for an owner."""

    route: RouteName
    route_reason: str
    target: RouteTarget
    escalation: RouteTarget | None = None  #: where it goes when ``target.wait_max_ms`` has passed; None: nowhere
    variables: dict[str, Any] = {}  #: never a personal one
    policy: str
    language: str
    channel: Channel | None = None
    join: str | None = None  #: the contact's other conversation whose owner this one gets as well


class AssignmentEnded(Body, frozen=True, kw_only=True, tag="assignment.ended"):
    """The conversation needs no owner any more."""

    reason: str


class AssignmentTaken(Body, frozen=True, kw_only=True, tag="assignment.taken"):
    """A person took the conversation, or (``agent`` None) released it into its route's queue."""

    agent: str | None
    team: str | None = None
    fallback: AssignmentRequested | None = None  #: the route to queue it in, if it has none yet and is released


class AssignmentRefused(Body, frozen=True, kw_only=True, tag="assignment.refused"):
    """The router does not route this conversation."""

    reason: str


class AgentUpdated(Body, frozen=True, kw_only=True, tag="agent.updated"):
    """An agent's whole record."""

    name: str | None = None
    email: str | None = None
    teams: tuple[str, ...] = ()
    max_open: int | None = None  #: None: the policy's ``agents.max_open``
    weight: int = 1  #: one with weight 2 gets twice as much
    languages: tuple[str, ...] = ()  #: empty: nobody said, so he counts as speaking all
    skills: tuple[str, ...] = ()
    wrap_up_ms: int | None = None  #: None: the policy's ``agents.wrap_up``


class AgentPresence(Body, frozen=True, kw_only=True, tag="agent.presence"):
    """An agent's presence, repeated as a heartbeat."""

    status: PresenceStatus


class AgentRemoved(Body, frozen=True, kw_only=True, tag="agent.removed"):
    """An agent left: what he had goes back into the queue."""


class AssignmentAccepted(Body, frozen=True, kw_only=True, tag="assignment.accepted"):
    """An agent accepted an offer."""

    conversation: str
    contact: str
    token: str


class AssignmentDeclined(Body, frozen=True, kw_only=True, tag="assignment.declined"):
    """An agent declined an offer."""

    conversation: str
    contact: str
    token: str


class ConfiguredAgent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent as the policy's ``[agents]`` has him."""

    teams: tuple[str, ...] = ()
    max_open: int | None = None
    name: str | None = None
    email: str | None = None
    weight: int = 1
    languages: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    wrap_up_ms: int | None = None


Span: TypeAlias = tuple[int, int]  #: from and until, in milliseconds of the day; beyond 24:00 it is the next day
Offsets: TypeAlias = tuple[tuple[int, int], ...]  #: a zone: from which instant its clocks are how far from UTC, in ms


class TeamHours(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When teams can be given conversations, as the clocks of their zone show it."""

    zone: str
    week: tuple[tuple[Span, ...], ...]  #: of the seven days, Monday first
    dates: tuple[tuple[str, tuple[Span, ...]], ...] = ()  #: days such as ``2026-12-24`` that differ from the week
    teams: tuple[str, ...] = ()
    workspace: bool = False  #: they hold for the workspace's pool, too
    outside: PoolTarget | None = None  #: who stands in while they are closed; None: nobody


class AgentsConfigured(Body, frozen=True, kw_only=True, tag="agents.configured"):
    """The policy's ``[agents]`` and ``[hours]``, given to the workspace when they differ from what the log has.

    ``rules`` says by which rules the program chooses that gives it: what an older one has recorded replays by its own.
    """

    max_open: int
    agents: dict[str, ConfiguredAgent] = {}
    presence_ttl_ms: int | None = None  #: None: presence holds until something else is said
    wrap_up_ms: int | None = None
    missed_offers_max: int | None = None  #: None: as many as the decider thinks right
    rules: int = 1
    hours: dict[str, TeamHours] = {}  #: by name
    zones: dict[str, Offsets] = {}  #: those that ``hours`` name, so that the record holds all that is decided from


ConversationBody: TypeAlias = (
    Opened
    | MessageReceived
    | ContactUpdated
    | AssigneeChanged
    | Closed
    | ReplyFailed
    | CrmAnswered
    | CrmFailed
    | DeadlinePassed
)
WorkspaceBody: TypeAlias = (
    AssignmentRequested | AssignmentEnded | AssignmentTaken | AssignmentRefused | AgentUpdated | AgentPresence
    | AgentRemoved | AssignmentAccepted | AssignmentDeclined | AgentsConfigured | DeadlinePassed
)  # fmt: skip


class Origin(Struct, frozen=True, kw_only=True):
    """The router's record that a request on ``assignment.requests`` is an output of, and which of its outputs."""

    log_id: str
    partition: int
    offset: int
    n: int
    run: int  #: of the conversation, as the router counts


class Event(Struct, frozen=True, kw_only=True):
    """One input of a lane, with its place.

    ``conversation`` is None where the producer named none. In agents' events ``contact`` is empty and
    ``conversation`` holds the agent's id (the CloudEvents ``subject``).
    """

    workspace: str
    contact: str
    conversation: str | None
    source: str
    time_ms: int  #: CloudEvents ``time``, the producer's clock, Unix milliseconds
    cause: Cause
    body: ConversationBody | WorkspaceBody
    origin: Origin | None = None  #: set on what the router asks of the assigner

    def recorded(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The event as its log record keeps it: under ``data.input`` and, what is personal, ``data.pii.input``."""
        values, personal = self.body.split()
        values["source"] = self.source
        values["time_ms"] = self.time_ms
        if self.origin is not None:
            values["origin"] = to_builtins(self.origin)
        return values, personal


def body_from_record(public: dict[str, Any], personal: dict[str, Any]) -> ConversationBody | WorkspaceBody:
    """The body that ``Body.split`` took apart; raises ``msgspec.ValidationError``."""
    body: ConversationBody | WorkspaceBody = convert({**public, **personal}, ConversationBody | WorkspaceBody)
    return body
