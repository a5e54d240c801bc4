"""The events of the contract as they stand on the wire: one Struct for the ``data`` of each type.

Reading them into what deciders take is ``events/decode.py``'s business, the envelope around them
``events/cloudevents.py``'s. Structs of what comes in are lenient where the contract is: unknown fields are ignored,
enumerations are open (the deciders read unknown values as ``other``), ids may be whole numbers.
Which type travels where says ``events/event_types.py``; the JSON Schema that ``vip-router schema`` prints is made of
both.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from routing.inputs import AssignmentRequested, RouteTarget

ID_CHARS_MAX: Final = 256
OUR_ID_CHARS_MAX: Final = 8192  #: ids of ours hold two others, percent-encoded
NAME_CHARS_MAX: Final = 200  #: longer names are cut
LANGUAGE_CHARS_MAX: Final = 35  #: longer tags are cut (RFC 5646, 4.4.1)
CHANNEL_TYPE_CHARS_MAX: Final = 64  #: longer ones are cut
REASON_CHARS_MAX: Final = 200  #: longer ones are cut
TEAMS_MAX: Final = 100  #: of one agent, and of his languages and skills; more are bad data
WEIGHT_MAX: Final = 100
WRAP_UP_MAX_S: Final = 86_400
ROOM_MAX: Final = 1_000_000  #: conversations that one agent may have

_NO_CONTROLS: Final = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, extra_json_schema=_NO_CONTROLS)]
Id: TypeAlias = Text | int
OurId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=OUR_ID_CHARS_MAX, extra_json_schema=_NO_CONTROLS)]
Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Hash: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": "^sha256:[0-9a-f]+$"})]


def _open(*known: str) -> Meta:
    """An enumeration that may get more values: the known ones are told, others are valid."""
    return Meta(description=f"one of {', '.join(known)}; others may come", extra_json_schema={"examples": list(known)})


OpenedBy: TypeAlias = Annotated[str, _open("contact", "user", "workflow", "other")]
MessageKind: TypeAlias = Annotated[
    str, _open("text", "image", "audio", "video", "file", "sticker", "reaction", "other")
]  # fmt: skip
Sender: TypeAlias = Annotated[str, _open("contact", "agent", "bot", "system", "other")]
PresenceStatus: TypeAlias = Annotated[str, _open("online", "away", "offline")]
ReplyKind: TypeAlias = Annotated[str, _open("ask", "retry", "success", "escalated", "closed")]
Route: TypeAlias = Annotated[str, _open("vip", "regular", "escalated")]
RouteReason: TypeAlias = Annotated[
    str,
    _open(
        "vip",
        "not-vip",
        "crm-failed",
        "invalid-answers",
        "no-answer",
        "asked",
        "unreachable",
        "waited",
        "joined",
        "late-vip",
    ),
]
Strategy: TypeAlias = Annotated[
    str, _open("round-robin", "least-open", "longest-idle", "sticky", "dedicated", "joined", "by-hand")
]  # fmt: skip


class Data(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``data`` of an event. Fields that we don't know are ignored."""


class Named(Data, frozen=True, kw_only=True):
    """A contact that an event may name; its other fields are ignored."""

    id: Id | None = None


class Concerned(Data, frozen=True, kw_only=True):
    """``data`` of an event that concerns a contact: named here only if ``partitionkey`` does not."""

    contact: Named | None = None


class Contact(Data, frozen=True, kw_only=True):
    """A contact, as its record has it."""

    id: Id
    email: str | None = None
    name: str | None = None
    language: str | None = None


class ContactPatch(Data, frozen=True, kw_only=True):
    """What changed in a contact's record: an absent field is unsaid, null is "none"."""

    id: Id
    email: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET


class Channel(Data, frozen=True, kw_only=True):
    """The way to the contact."""

    id: Id | None = None
    type: str | None = None


class FirstMessage(Data, frozen=True, kw_only=True):
    """The contact's first message, which opened the conversation."""

    id: Id
    text: str | None = None
    sent_at: Time | None = None


class ConversationOpened(Data, frozen=True, kw_only=True):
    """``conversation.opened``: a conversation was opened."""

    contact: Contact
    channel: Channel | None = None
    opened_by: OpenedBy | None = None
    message: FirstMessage | None = None
    agent: Id | None = None


class MessageReceived(Concerned, frozen=True, kw_only=True):
    """``message.received``: a message in a conversation, by whomever."""

    message_id: Id | None = None
    text: str | None = None
    kind: MessageKind | None = None
    sent_at: Time | None = None
    sender: Sender | None = None
    agent: Id | None = None


class ContactUpdated(Data, frozen=True, kw_only=True):
    """``contact.updated``: a patch of the contact's record."""

    contact: ContactPatch


class AssigneeChanged(Concerned, frozen=True, kw_only=True):
    """``assignee.changed``: somebody took, passed on or (``agent`` null) released the conversation by hand."""

    agent: Id | None
    team: Id | None = None


class ConversationClosed(Concerned, frozen=True, kw_only=True):
    """``conversation.closed``: the conversation was closed."""

    reason: str | None = None


class ReplyFailed(Concerned, frozen=True, kw_only=True):
    """``reply.failed``: a reply of ours (``reply``: its event id) could not be delivered."""

    reply: OurId
    reason: str


class AgentUpdated(Data, frozen=True, kw_only=True):
    """``agent.updated``: an agent's whole record."""

    name: str | None = None
    email: str | None = None
    teams: Annotated[list[Id], Meta(max_length=TEAMS_MAX)]
    max_open: Annotated[int, Meta(ge=0, le=ROOM_MAX)] | None = None
    weight: Annotated[int, Meta(ge=1, le=WEIGHT_MAX)] = 1
    languages: Annotated[list[str], Meta(max_length=TEAMS_MAX)] = []
    skills: Annotated[list[Id], Meta(max_length=TEAMS_MAX)] = []
    wrap_up_s: Annotated[int, Meta(ge=0, le=WRAP_UP_MAX_S)] | None = None


class AgentPresence(Data, frozen=True, kw_only=True):
    """``agent.presence``: an agent's presence, repeated as a heartbeat."""

    status: PresenceStatus


class AgentRemoved(Data, frozen=True, kw_only=True):
    """``agent.removed``: an agent left."""


class ContactRef(Data, frozen=True, kw_only=True):
    """The contact that an event must name."""

    id: Id


class OfferAnswered(Data, frozen=True, kw_only=True):
    """``assignment.accepted`` and ``assignment.declined``: what an agent says to an offer."""

    conversation: Id
    contact: ContactRef
    token: Text


class CrmAnswered(Data, frozen=True, kw_only=True):
    """``crm.answered``: the CRM answered a look-up; the variables that the policy marks personal stand apart."""

    lookup_id: OurId
    status: int
    variables: dict[str, Any]
    personal_variables: dict[str, Any] = {}
    attempts: int
    latency_ms: int
    age_ms: int | None = None


class CrmFailed(Data, frozen=True, kw_only=True):
    """``crm.failed``: a look-up ended without an answer."""

    lookup_id: OurId
    reason: str
    status: int | None = None
    attempts: int


class Place(Data, frozen=True, kw_only=True):
    """Where the log record stands that an output comes from."""

    id: str
    partition: int
    offset: int


class ContactId(Data, frozen=True, kw_only=True):
    """The contact that an output concerns."""

    id: str


class Output(Data, frozen=True, kw_only=True):
    """What the data of every output holds.

    A consumer drops what is not greater than the last (``seq``, ``n``) of its source, contact and conversation.
    """

    contact: ContactId
    channel: Channel | None = None
    language: str | None = None
    run: int
    seq: int
    n: int
    log: Place


class ReplyRequested(Output, frozen=True, kw_only=True):
    """``reply.requested``: send this to the contact, with the event's source and id as idempotency key."""

    kind: ReplyKind
    attempt: int
    text: str


class KnownContact(ContactId, frozen=True, kw_only=True):
    """A contact and the address that was captured."""

    email: str


class EmailCaptured(Output, frozen=True, kw_only=True):
    """``contact.email-captured``: for whoever keeps the contact's record."""

    contact: KnownContact


class ConversationQueued(Output, frozen=True, kw_only=True):
    """``conversation.queued``: it waits for an owner."""

    route: Route
    route_reason: RouteReason
    target: RouteTarget
    overdue: bool = False
    opens: Time | None = None  #: set if all who could have it are out of hours: when the first of them are back


class ConversationOffered(Output, frozen=True, kw_only=True):
    """``conversation.offered``: an agent may accept it until then."""

    agent: str
    token: str
    until: Time


class OfferWithdrawn(Output, frozen=True, kw_only=True):
    """``conversation.offer-withdrawn``: the agent cannot accept it any more, and why."""

    agent: str
    token: str
    reason: str


class AcceptRefused(Output, frozen=True, kw_only=True):
    """``conversation.accept-refused``: an agent accepted what is not offered to him any more, or never was."""

    agent: str
    token: str
    reason: str


class ConversationAssigned(Output, frozen=True, kw_only=True):
    """``conversation.assigned``: it has this owner now, and why."""

    route: Route
    route_reason: RouteReason
    agent: str
    team: str | None = None
    strategy: Strategy
    reason: str
    waited_ms: int
    policy: Hash


class ConversationRerouted(Output, frozen=True, kw_only=True):
    """``conversation.rerouted``: it keeps its owner, but belongs to another route now, and why."""

    agent: str
    route: Route
    route_reason: RouteReason
    policy: Hash


class ConversationReleased(Output, frozen=True, kw_only=True):
    """``conversation.released``: it has no owner any more."""

    agent: str
    reason: str


class ConversationNotRouted(Output, frozen=True, kw_only=True):
    """``conversation.not-routed``: this workflow does not route it."""

    reason: str


class AssignmentRequest(Output, frozen=True, kw_only=True):
    """``assignment.requested``: the router asks for an owner; the whole resolved route is told."""

    route: Literal["vip", "regular", "escalated"]
    route_reason: str
    target: RouteTarget
    escalation: RouteTarget | None = None
    variables: dict[str, Any] = {}
    policy: str
    language: str
    join: str | None = None


class AssignmentEnd(Output, frozen=True, kw_only=True):
    """``assignment.ended`` and ``assignment.refused``: the conversation needs no owner (any more)."""

    reason: str


class AssignmentTake(Output, frozen=True, kw_only=True):
    """``assignment.taken``: a person took the conversation, or (``agent`` null) released it."""

    agent: str | None
    team: str | None = None
    fallback: AssignmentRequested | None = None


class Header(Data, frozen=True, kw_only=True):
    """A header of a dead letter's record."""

    name: str
    value_base64: str


class DeadLetter(Data, frozen=True, kw_only=True):
    """``dead.letter``: a record that could not be used, why, where it stands, and its bytes as they were."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    key_base64: str | None = None  #: absent: the record had no key
    value_base64: str | None = None  #: absent: the record had no value, or ``value_bytes`` says that it was too large
    value_bytes: int | None = None  #: the size of a value that does not fit; it stands in its topic
    headers: list[Header] = []
