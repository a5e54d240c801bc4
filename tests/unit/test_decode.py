"""Records of the input topics become what deciders take: the contract's fields, its defaults, its refusals."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from msgspec import UNSET

from events import event_types
from events.cloudevents import STRUCTURED_HEADERS, BadInputError, envelope
from events.crm_answers import encode_crm_answer
from events.decode import decode_agent, decode_conversation, decode_crm_answer, decode_request
from events.log import StoredRecord
from events.records import RECORD_TYPES
from events.topics import AGENT_EVENTS, ASSIGNMENT_REQUESTS, CONVERSATION_EVENTS, CRM_ANSWERS
from routing.inputs import (
    AgentPresence,
    AgentRemoved,
    AgentUpdated,
    AssigneeChanged,
    AssignmentAccepted,
    AssignmentDeclined,
    AssignmentEnded,
    AssignmentRefused,
    AssignmentRequested,
    AssignmentTaken,
    Cause,
    Channel,
    Closed,
    ContactUpdated,
    CrmAnswered,
    CrmFailed,
    MessageReceived,
    Opened,
    OpeningMessage,
    Origin,
    PoolTarget,
    ReplyFailed,
    RouteTarget,
)

NOON = "2026-11-22T12:00:00.000Z"
NOON_MS = 1_795_348_800_000
STORED_MS = NOON_MS + 40


def stored(value: Any, topic: Any = CONVERSATION_EVENTS, key: Any = b"c1", headers: Any = ()) -> Any:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return StoredRecord(topic, 3, 17, key, raw, headers, STORED_MS)


def event(type_: Any, data: Any = None, **attributes: Any) -> Any:
    """An event of contact c1 in conversation v1; an attribute that is None is left out."""
    values = {"specversion": "1.0", "id": "e1", "source": "/chat", "type": type_, "subject": "v1", "time": NOON,
              "partitionkey": "c1", **attributes}  # fmt: skip
    if data is not None:
        values["data"] = data
    return {name: value for name, value in values.items() if value is not None}


def body(type_: Any, data: Any, **attributes: Any) -> Any:
    return decode_conversation(stored(event(type_, data, **attributes))).body


def refused(decode: Any, record: Any) -> Any:
    with pytest.raises(BadInputError) as caught:
        decode(record)
    return caught.value


def refused_data(type_: Any, data: Any) -> Any:
    error = refused(decode_conversation, stored(event(type_, data)))
    assert error.reason == "bad-data"
    return error.detail


class TestEvent:
    def test_it_says_where_it_stood_and_what_caused_it(self) -> None:
        decoded = decode_conversation(stored(event("message.received", {"text": "hi"}, workspace="acme")))
        assert (decoded.workspace, decoded.contact, decoded.conversation) == ("acme", "c1", "v1")
        assert (decoded.source, decoded.time_ms) == ("/chat", NOON_MS)
        assert decoded.cause == Cause(topic=CONVERSATION_EVENTS, partition=3, offset=17, id="e1")
        assert decoded.origin is None

    def test_the_workspace_is_default_unless_said(self) -> None:
        assert decode_conversation(stored(event("conversation.closed"))).workspace == "default"

    def test_without_a_time_it_has_that_of_its_record(self) -> None:
        decoded = decode_conversation(stored(event("message.received", {}, time=None)))
        assert decoded.time_ms == STORED_MS
        assert isinstance(decoded.body, MessageReceived)
        assert decoded.body.sent_at_ms == STORED_MS

    def test_binary_mode_is_taken(self) -> None:
        attributes = event("message.received")
        headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
        binary = decode_conversation(stored({"text": "hi"}, headers=headers))
        assert binary == decode_conversation(stored(event("message.received", {"text": "hi"})))


class TestWhomItConcerns:
    def contact(self, data: Any = None, key: Any = b"k1", **attributes: Any) -> Any:
        return decode_conversation(stored(event("message.received", data, **attributes), key=key)).contact

    def test_partitionkey_comes_first(self) -> None:
        assert self.contact() == "c1"
        assert self.contact({"contact": {"id": "c1"}}) == "c1"
        assert self.contact({"contact": {"name": "Ann"}}) == "c1"

    def test_then_the_contact_in_the_data(self) -> None:
        assert self.contact({"contact": {"id": "c2"}}, partitionkey=None) == "c2"
        assert self.contact({"contact": {"id": 77}}, partitionkey=None) == "77"

    def test_then_the_key(self) -> None:
        assert self.contact(partitionkey=None) == "k1"
        assert self.contact({"contact": None}, partitionkey=None, key="é".encode()) == "é"

    def test_a_number_and_its_text_are_one_contact(self) -> None:
        assert self.contact({"contact": {"id": 77}}, partitionkey="77") == "77"

    def test_two_different_ones_are_a_mismatch(self) -> None:
        record = stored(event("message.received", {"contact": {"id": "c2"}}))
        assert refused(decode_conversation, record).reason == "key-mismatch"

    @pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\x00b", b"x" * 257])
    def test_none_at_all_is_refused(self, key: Any) -> None:
        record = stored(event("message.received", {}, partitionkey=None), key=key)
        assert refused(decode_conversation, record).reason == "no-contact"

    @pytest.mark.parametrize("bad", ["", "x" * 257, True, 1.5, 1e30, {}, "a\x00"])
    def test_a_bad_id_in_the_data_is_bad_data(self, bad: Any) -> None:
        for type_ in ("message.received", "conversation.opened", "contact.updated"):
            error = refused(decode_conversation, stored(event(type_, {"contact": {"id": bad}}, partitionkey=None)))
            assert (error.reason, error.detail.split(":")[0]) == ("bad-data", "data.contact.id")


class TestConversation:
    def test_it_is_the_subject(self) -> None:
        assert decode_conversation(stored(event("message.received", {}, subject=881))).conversation == "881"

    @pytest.mark.parametrize("type_", ["message.received", "conversation.closed"])
    def test_without_subject_the_open_one_is_meant(self, type_: str) -> None:
        assert decode_conversation(stored(event(type_, {}, subject=None))).conversation is None

    def test_an_opening_without_subject_takes_its_event_id(self) -> None:
        data = {"contact": {"id": "c1"}}
        assert decode_conversation(stored(event("conversation.opened", data, subject=None))).conversation == "e1"

    def test_what_concerns_the_contact_has_none(self) -> None:
        assert decode_conversation(stored(event("contact.updated", {"contact": {"id": "c1"}}))).conversation is None


class TestOpened:
    def test_a_small_one_has_the_defaults(self) -> None:
        assert body("conversation.opened", {"contact": {"id": "c1"}}) == Opened()

    def test_a_whole_one_has_everything(self) -> None:
        data = {
            "contact": {"id": "c1", "email": " Ann@Example.com ", "name": "  Ann\n Lee ", "language": "pt-BR"},
            "channel": {"id": 9, "type": "whatsapp"},
            "opened_by": "workflow",
            "message": {"id": 5, "text": "hi", "sent_at": "2026-11-22T11:59:59Z"},
            "agent": 12,
        }
        assert body("conversation.opened", data) == Opened(
            email="Ann@example.com",
            name="Ann Lee",
            language="pt-BR",
            channel=Channel(id="9", type="whatsapp"),
            opened_by="workflow",
            message=OpeningMessage(id="5", text="hi", sent_at_ms=NOON_MS - 1000),
            agent="12",
        )

    def test_its_message_was_sent_at_its_time_unless_said(self) -> None:
        opened = body("conversation.opened", {"contact": {"id": "c1"}, "message": {"id": "m"}})
        assert opened.message == OpeningMessage(id="m", sent_at_ms=NOON_MS)

    @pytest.mark.parametrize(
        "email", ["ann", "ann at example dot com", "", None, "a@b.co c@d.co", "x" * 300 + "@ex.com"]
    )
    def test_what_is_no_address_is_none(self, email: Any) -> None:
        assert body("conversation.opened", {"contact": {"id": "c1", "email": email}}).email is None

    def test_a_new_kind_of_opener_is_other(self) -> None:
        assert body("conversation.opened", {"contact": {"id": "c1"}, "opened_by": "robot"}).opened_by == "other"

    def test_long_texts_are_cut(self) -> None:
        contact = {"id": "c1", "name": "n" * 10_000, "language": "l" * 100}
        opened = body("conversation.opened", {"contact": contact, "channel": {"type": "t" * 100}})
        assert (len(opened.name), len(opened.language), len(opened.channel.type)) == (200, 35, 64)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (None, "data: object missing required field `contact`"),
            ({"contact": {}}, "data.contact: object missing required field `id`"),
            ({"contact": "c1"}, "data.contact"),
            ({"contact": {"id": "c1", "email": 5}}, "data.contact.email"),
            ({"contact": {"id": "c1"}, "channel": []}, "data.channel"),
            ({"contact": {"id": "c1"}, "channel": {"id": ""}}, "data.channel.id"),
            ({"contact": {"id": "c1"}, "opened_by": 1}, "data.opened_by"),
            ({"contact": {"id": "c1"}, "message": {}}, "data.message: object missing required field `id`"),
            ({"contact": {"id": "c1"}, "message": {"id": "m", "text": 1}}, "data.message.text"),
            ({"contact": {"id": "c1"}, "message": {"id": "m", "sent_at": "noon"}}, "data.message.sent_at"),
            ({"contact": {"id": "c1"}, "agent": "\x00"}, "data.agent"),
        ],
    )
    def test_bad_data_is_refused_naming_the_field(self, data: Any, says: str) -> None:
        assert refused_data("conversation.opened", data).startswith(says)


class TestMessage:
    def test_a_small_one_is_a_text_of_the_contact_sent_at_its_time(self) -> None:
        assert body("message.received", {}) == MessageReceived(kind="text", sender="contact", sent_at_ms=NOON_MS)

    def test_a_whole_one_has_everything(self) -> None:
        data = {"message_id": 5, "text": " hi\n", "kind": "image", "sent_at": "2026-11-22T13:00:00+01:00",
                "sender": "agent", "agent": "anna"}  # fmt: skip
        assert body("message.received", data) == MessageReceived(
            message_id="5", text=" hi\n", kind="image", sent_at_ms=NOON_MS, sender="agent", agent="anna"
        )

    def test_empty_text_and_no_text_stay_apart(self) -> None:
        assert body("message.received", {"text": ""}).text == ""
        assert body("message.received", {"text": None}).text is None

    def test_the_text_is_kept_whole(self) -> None:
        assert body("message.received", {"text": "x" * 200_000}).text == "x" * 200_000

    def test_new_kinds_and_senders_are_other(self) -> None:
        message = body("message.received", {"kind": "hologram", "sender": "oracle"})
        assert (message.kind, message.sender) == ("other", "other")

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ({"text": 5}, "data.text"),
            ({"message_id": True}, "data.message_id: an id is a string"),
            ({"message_id": 1e30}, "data.message_id: an id is a string"),
            ({"message_id": ""}, "data.message_id"),
            ({"message_id": "x" * 257}, "data.message_id"),
            ({"message_id": "a\x00"}, "data.message_id"),
            ({"kind": []}, "data.kind"),
            ({"sender": 1}, "data.sender"),
            ({"sent_at": 1_795_348_800}, "data.sent_at"),
            ({"sent_at": "2026-11-22"}, "data.sent_at"),
        ],
    )
    def test_bad_data_is_refused_naming_the_field(self, data: Any, says: str) -> None:
        assert refused_data("message.received", data).startswith(says)

    def test_an_id_that_json_readers_round_is_refused(self) -> None:
        raw = orjson.dumps(event("message.received", {"message_id": "MARK"})).replace(b'"MARK"', b"9" * 30)
        error = refused(decode_conversation, stored(raw))
        assert error.detail.startswith("data.message_id: an id is a string, or a whole number of at most 64 bits")


class TestContactUpdated:
    def patch(self, **contact: Any) -> Any:
        return body("contact.updated", {"contact": {"id": "c1", **contact}})

    def test_what_is_absent_is_unsaid_and_null_is_none(self) -> None:
        assert self.patch() == ContactUpdated(email=UNSET, name=UNSET, language=UNSET)
        assert self.patch(email=None, name=None, language=None) == ContactUpdated(email=None, name=None, language=None)
        assert self.patch(email="a@example.com", name="Ann", language="fr") == ContactUpdated(
            email="a@example.com", name="Ann", language="fr"
        )

    @pytest.mark.parametrize("email", ["ann@", "", "none"])
    def test_an_address_that_is_none_says_nothing(self, email: Any) -> None:
        """A slip of the pen in the contact's record must not erase a good address."""
        assert self.patch(email=email).email is UNSET

    def test_bad_data_is_refused(self) -> None:
        assert refused_data("contact.updated", {"contact": {"id": "c1", "name": 5}}).startswith("data.contact.name")
        assert refused_data("contact.updated", {}).startswith("data: ")


class TestOtherInputs:
    def test_assignee_changed_names_an_agent_or_none(self) -> None:
        assert body("assignee.changed", {"agent": "anna", "team": 4}) == AssigneeChanged(agent="anna", team="4")
        assert body("assignee.changed", {"agent": None}) == AssigneeChanged(agent=None)
        assert "`agent`" in refused_data("assignee.changed", {})

    def test_conversation_closed_may_have_a_reason(self) -> None:
        assert body("conversation.closed", None) == Closed()
        assert body("conversation.closed", {"reason": "solved"}) == Closed(reason="solved")
        assert refused_data("conversation.closed", {"reason": 1}).startswith("data.reason")

    def test_reply_failed_names_a_reply_of_ours(self) -> None:
        reply = "c%2F" * 500 + "1/v1/3/1"
        assert body("reply.failed", {"reply": reply, "reason": "blocked"}) == ReplyFailed(reply=reply, reason="blocked")
        assert "`reason`" in refused_data("reply.failed", {"reply": "x"})
        assert "`reply`" in refused_data("reply.failed", {"reason": "x"})


class TestUnknownType:
    @pytest.mark.parametrize(
        ("type_", "says"),
        [
            ("message.recieved", "type: there is none called message.recieved; did you mean message.received?"),
            ("com.acme.ticket.v2", "type: there is none called com.acme.ticket.v2; known on conversations.events: "),
            ("agent.presence", "agent.presence does not belong on conversations.events: publish it on agents.events"),
            ("conversation.assigned", "conversation.assigned is vip-router's own event, which only it writes"),
            ("crm.answered", "only it writes, on crm.answers: take it out of what is sent to conversations.events"),
            ("ann@acme.com", "what came is no name of a type; known on conversations.events: conversation.opened"),
            ("5511987654321", "what came is no name of a type; "),
            ("a.5511987654321", "what came is no name of a type; "),
            ("my name is Ann", "what came is no name of a type; "),
            ("a" * 65, "what came is no name of a type; "),
        ],
    )
    def test_it_is_refused_with_a_hint(self, type_: str, says: str) -> None:
        error = refused(decode_conversation, stored(event(type_, {})))
        assert error.reason == "unknown-type"
        assert says in error.detail
        assert error.detail.count("publish it on") == (type_ == "agent.presence"), "nobody else writes what is ours"
        assert (type_ in error.detail) == ("what came" not in says)

    @pytest.mark.parametrize("decode", [decode_agent, decode_crm_answer, decode_request])
    def test_each_topic_has_its_own(self, decode: Any) -> None:
        assert refused(decode, stored(event("message.received", {}))).reason == "unknown-type"

    def test_type_names_are_unique_among_inputs_outputs_and_log(self) -> None:
        names = [*(known.name for known in event_types.EVENT_TYPES), *RECORD_TYPES]
        assert len(names) == len(set(names))


def agent(type_: Any, data: Any = None, **attributes: Any) -> Any:
    return stored(
        event(type_, data, **{"subject": "anna", "partitionkey": None, **attributes}), AGENT_EVENTS, b"default"
    )


class TestAgents:
    def test_the_subject_is_the_agent(self) -> None:
        decoded = decode_agent(agent("agent.presence", {"status": "online"}))
        assert (decoded.workspace, decoded.contact, decoded.conversation) == ("default", "", "anna")
        assert decoded.body == AgentPresence(status="online")
        assert refused(decode_agent, agent("agent.removed", subject=None)).detail.startswith("subject")

    def test_the_workspace_is_the_attribute_or_partitionkey(self) -> None:
        assert decode_agent(agent("agent.removed", workspace="acme")).workspace == "acme"
        assert decode_agent(agent("agent.removed", partitionkey="acme")).workspace == "acme"
        assert decode_agent(agent("agent.removed", partitionkey="a", workspace="a")).workspace == "a"
        assert refused(decode_agent, agent("agent.removed", partitionkey="a", workspace="b")).reason == "key-mismatch"

    def test_an_updated_agent_is_the_whole_record(self) -> None:
        data = {"name": "Anna", "email": " anna@acme.local ", "teams": ["vip-desk", 7, "vip-desk"], "max_open": 5}
        assert decode_agent(agent("agent.updated", data)).body == AgentUpdated(
            name="Anna", email="anna@acme.local", teams=("vip-desk", "7"), max_open=5
        )
        assert decode_agent(agent("agent.updated", {"teams": []})).body == AgentUpdated()

    @pytest.mark.parametrize(
        "data",
        [
            {}, {"teams": "vip"}, {"teams": [""]}, {"teams": [True]}, {"teams": ["x"] * 101},
            {"teams": [], "max_open": -1}, {"teams": [], "max_open": 1.5}, {"teams": [], "max_open": "5"},
        ],
    )  # fmt: skip
    def test_a_bad_record_is_refused(self, data: Any) -> None:
        assert refused(decode_agent, agent("agent.updated", data)).reason == "bad-data"

    def test_a_new_presence_is_other(self) -> None:
        assert decode_agent(agent("agent.presence", {"status": "lunch"})).body == AgentPresence(status="other")
        assert refused(decode_agent, agent("agent.presence", {})).reason == "bad-data"

    def test_removed_needs_no_data(self) -> None:
        assert decode_agent(agent("agent.removed")).body == AgentRemoved()

    def test_offers_are_answered(self) -> None:
        data = {"conversation": "v1", "contact": {"id": 5}, "token": "t"}
        answer = {"conversation": "v1", "contact": "5", "token": "t"}
        assert decode_agent(agent("assignment.accepted", data)).body == AssignmentAccepted(**answer)
        assert decode_agent(agent("assignment.declined", data)).body == AssignmentDeclined(**answer)
        for name in data:
            less = {other: value for other, value in data.items() if other != name}
            assert refused(decode_agent, agent("assignment.accepted", less)).reason == "bad-data"


class TestCrmAnswers:
    answered = CrmAnswered(lookup_id="v1/2", status=200, variables={"customer_type": "VIP"}, attempts=1, latency_ms=12,
                           personal_variables={"account_manager": "ann@acme.com"})  # fmt: skip
    failed = CrmFailed(lookup_id="v1/2", reason="timed-out", attempts=3)

    def written(self, answer: Any) -> Any:
        record = encode_crm_answer(
            answer, workspace="acme", contact="c/1", conversation="v1", seq=2, partition=5, now_ms=NOON_MS
        )
        return record, StoredRecord(record.topic, 5, 0, record.key, record.value, record.headers, STORED_MS)

    @pytest.mark.parametrize("answer", [answered, failed])
    def test_what_is_written_is_read(self, answer: Any) -> None:
        record, kept = self.written(answer)
        decoded = decode_crm_answer(kept)
        assert decoded.body == answer
        assert (decoded.workspace, decoded.contact, decoded.conversation) == ("acme", "c/1", "v1")
        assert decoded.cause.id == "c%2F1/v1/2/crm"
        assert (record.topic, record.partition, record.key) == (CRM_ANSWERS, 5, b"c/1")
        assert record.headers == STRUCTURED_HEADERS
        assert decoded.source == "/vip-router/acme/crm"

    def test_personal_variables_stand_apart(self) -> None:
        data = orjson.loads(self.written(self.answered)[0].value)["data"]
        assert data == {"lookup_id": "v1/2", "status": 200, "variables": {"customer_type": "VIP"}, "attempts": 1,
                        "latency_ms": 12, "personal_variables": {"account_manager": "ann@acme.com"}}  # fmt: skip

    def test_ids_of_the_longest_contacts_fit(self) -> None:
        record = encode_crm_answer(
            self.failed, workspace="w", contact="字" * 256, conversation="話" * 256, seq=1, partition=0, now_ms=0
        )
        assert decode_crm_answer(StoredRecord(CRM_ANSWERS, 0, 0, record.key, record.value, (), 0)).contact == "字" * 256

    def test_bad_answers_are_refused(self) -> None:
        for data in ({}, {"lookup_id": 5, "reason": "x", "attempts": 1}, {"lookup_id": "x", "reason": "y"}):
            assert refused(decode_crm_answer, stored(event("crm.failed", data), CRM_ANSWERS)).reason == "bad-data"


COMMON = {"contact": {"id": "c1"}, "run": 1, "seq": 4, "n": 2, "log": {"id": "L", "partition": 3, "offset": 99}}


class TestRequests:
    def request(self, type_: Any, **data: Any) -> Any:
        raw = envelope(
            id="c1/v1/4/2", source="/vip-router/acme/routing", type=type_, subject="v1", time_ms=NOON_MS,
            partitionkey="acme", workspace="acme", data={**COMMON, **data},
        )  # fmt: skip
        return stored(raw, ASSIGNMENT_REQUESTS, b"acme")

    def test_it_says_which_record_asked(self) -> None:
        decoded = decode_request(self.request("assignment.ended", reason="closed"))
        assert decoded.origin == Origin(log_id="L", partition=3, offset=99, n=2, run=1)
        assert (decoded.workspace, decoded.contact, decoded.conversation) == ("acme", "c1", "v1")
        assert decoded.body == AssignmentEnded(reason="closed")

    def test_a_request_holds_the_whole_route(self) -> None:
        target = {"agent": "anna", "fallback": {"team": "vip", "strategy": "least-open"}, "fallback_after_ms": 1000}
        data = {"route": "vip", "route_reason": "vip", "target": target, "variables": {"x": [1, None]},
                "policy": "sha256:00", "language": "fr", "channel": {"id": "w", "type": "chat"}}  # fmt: skip
        body = decode_request(self.request("assignment.requested", **data)).body
        assert body == AssignmentRequested(
            route="vip",
            route_reason="vip",
            target=RouteTarget(
                agent="anna", fallback=PoolTarget(team="vip", strategy="least-open"), fallback_after_ms=1000
            ),
            variables={"x": [1, None]},
            policy="sha256:00",
            language="fr",
            channel=Channel(id="w", type="chat"),
        )

    def test_taken_may_bring_the_route_to_fall_back_to(self) -> None:
        fallback = {"route": "regular", "route_reason": "not-vip", "target": {"workspace": True}, "policy": "p",
                    "language": "en"}  # fmt: skip
        for route in (fallback, {"type": "assignment.requested", **fallback}):
            body = decode_request(self.request("assignment.taken", agent=None, fallback=route)).body
            assert isinstance(body, AssignmentTaken)
            assert body.fallback == AssignmentRequested(
                route="regular", route_reason="not-vip", target=RouteTarget(workspace=True), policy="p", language="en"
            )

    def test_refused_is_a_type_of_its_own(self) -> None:
        body = decode_request(self.request("assignment.refused", reason="opened-by")).body
        assert body == AssignmentRefused(reason="opened-by")

    @pytest.mark.parametrize("missing", ["contact", "log", "n", "seq", "run"])
    def test_nothing_may_be_missing(self, missing: str) -> None:
        record = self.request("assignment.ended", reason="closed")
        event = orjson.loads(record.value)
        del event["data"][missing]
        assert refused(decode_request, record._replace(value=orjson.dumps(event))).reason == "bad-data"


@pytest.mark.parametrize(
    ("raw", "key", "reason"),
    [
        (b"hello", b"c1", "not-json"),
        (event("message.received", {"text": ["hi"]}), b"c1", "bad-data"),
        (event("conversation.opened", {}), b"c1", "bad-data"),
        (event("message.sent", {}), b"c1", "unknown-type"),
        (b'{"text":"' + b"x" * 10_000_000 + b'"}', b"c1", "too-large"),
        (b"[" * 100_000 + b"]" * 100_000, b"c1", "too-deep"),
        (b'{"specversion":"1.0","x":NaN}', b"c1", "not-json"),
        (b'{"specversion":"1.0","id":"1","id":"2"}', b"c1", "duplicate-keys"),
        (b'{"specversion":"1.0","id":"\\ud800"}', b"c1", "not-json"),
        (event("message.received", {"text": "hi"}, partitionkey=None), None, "no-contact"),
    ],
)
def test_each_kind_of_bad_input_has_its_reason(raw: Any, key: Any, reason: str) -> None:
    """What the codec sees of bad input; what follows from state is the deciders' and the lane's business."""
    assert refused(decode_conversation, stored(raw, key=key)).reason == reason


def test_an_empty_text_and_another_workspace_are_no_bad_input_here() -> None:
    """An empty text is an invalid answer, an unknown workspace is found by who knows the policies."""
    decoded = decode_conversation(stored(event("message.received", {"text": ""}, workspace="nobody")))
    assert (decoded.workspace, decoded.body.text) == ("nobody", "")  # type: ignore[union-attr]
