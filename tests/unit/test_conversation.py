"""How conversations behave: every rule of the design, one sentence each."""

import pytest

from routing.errors import InputRefusedError
from routing.inputs import CrmFailed
from tests.stories import MINUTE_MS, Story, kinds, policy, then

ASK_TWICE = ("retries = 3", "retries = 1")
DAY_MS = 24 * 60 * MINUTE_MS


def asked(**changes):
    story = Story(**changes)
    then(story.opened(), "conversation.started", to="awaiting-email")
    return story


def looking_up(**changes):
    story = Story(**changes)
    story.opened(email="ann@example.com")
    return story


def routed(**changes):
    story = looking_up(**changes)
    story.crm(customer_type="VIP")
    return story


# --- the e-mail address ---


def test_a_contact_with_an_address_is_looked_up_at_once():
    record = then(Story().opened(email="ann@example.com"), "conversation.started", from_="opened", to="fetching-crm")
    assert record.data["lookup"]["id"] == "v1/1"
    assert record.data["pii"]["email"] == "ann@example.com"
    assert "reply" not in record.data


def test_a_contact_without_an_address_is_asked_in_his_language():
    story = Story()
    record = then(story.opened(language="fr-CA", name="Zoé"), "conversation.started", to="awaiting-email")
    [reply] = story.outputs(record)
    assert reply["type"] == "reply.requested"
    assert (reply["data"]["kind"], reply["data"]["language"], reply["data"]["attempt"]) == ("ask", "fr", 1)
    assert "Zoé" in reply["data"]["text"]
    assert reply["expirytime"] > reply["time"]


def test_a_valid_answer_is_thanked_for_told_and_looked_up():
    story = asked()
    record = then(story.message("it's Ann.Lee+vip@Example.com, thanks!"), "email.accepted", to="fetching-crm")
    success, captured = story.outputs(record)
    assert success["data"]["kind"] == "success"
    assert captured["type"] == "contact.email-captured"
    assert captured["data"]["contact"] == {"id": "c1", "email": "Ann.Lee+vip@example.com"}
    assert (success["data"]["n"], captured["data"]["n"]) == (1, 2)


def test_fourth_invalid_answer_escalates():
    """The contact is asked four times in all; the fourth invalid answer goes to a person."""
    story = asked()
    retries = story.answers("no thanks", "why?", "later")
    assert [record.data["to"] for record in retries] == ["email-retry-1", "email-retry-2", "email-retry-3"]
    assert [story.outputs(record)[0]["data"]["attempt"] for record in retries] == [2, 3, 4]
    assert len({story.outputs(record)[0]["data"]["text"] for record in retries}) == 3
    record = then(story.message("still no"), "email.rejected", to="escalated", reason="no-address")
    message, request = story.outputs(record)
    assert message["data"]["kind"] == "escalated"
    assert (request["data"]["route"], request["data"]["route_reason"]) == ("escalated", "invalid-answers")


def test_the_policy_says_how_often_is_asked_again():
    story = asked(policy=policy(ASK_TWICE))
    then(story.message("no"), "email.rejected", to="email-retry-1")
    then(story.message("no"), "email.rejected", to="escalated")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("no", "no-address"), ("a@b.co or c@d.co", "two-addresses"), ("", "no-text"), (None, "no-text")],
)
def test_an_invalid_answer_says_why_and_keeps_no_text(text, reason):
    record = then(asked().message(text, kind="audio" if text is None else "text"), "email.rejected", reason=reason)
    assert "text" not in record.data["input"]
    assert "text" not in record.data.get("pii", {}).get("input", {})


def test_an_address_in_the_opening_message_is_accepted_with_thanks():
    story = Story()
    record = then(story.opened(text="hi, I am bob@example.com"), "conversation.started", to="fetching-crm")
    assert [output["type"] for output in story.outputs(record)] == ["reply.requested", "contact.email-captured"]
    assert record.data["email_source"] == "answer"


def test_an_address_from_the_contacts_record_is_accepted_without_thanks():
    story = asked()
    changed, accepted = story.updated(email="ann@example.com")
    assert (changed.type, accepted.type) == ("contact.changed", "email.accepted")
    assert accepted.data["to"] == "fetching-crm"
    assert story.outputs(accepted) == []


def test_a_captured_address_is_remembered_for_the_next_conversation():
    story = asked()
    story.message("ann@example.com")
    story.closed()
    record = then(story.opened("v2"), "conversation.started", to="fetching-crm")
    assert record.data["pii"]["email"] == "ann@example.com"


def test_an_address_seen_after_an_escalation_is_remembered():
    story = asked()
    story.answers("no", "no", "no", "no")
    record = then(story.message("oh well: ann@example.com"), "input.ignored", reason="routed")
    assert record.data["pii"]["email"] == "ann@example.com"
    assert story.person().email == "ann@example.com"


def test_exactly_a_stop_word_escalates_without_a_message():
    story = asked()
    record = then(story.message(" STOP! "), "email.rejected", to="escalated", reason="asked")
    assert [output["type"] for output in story.outputs(record)] == ["assignment.requested"]
    then(asked().message("please stop it"), "email.rejected", to="email-retry-1")


def test_no_answer_in_time_escalates():
    story = asked()
    assert story.passes(12 * 60 * MINUTE_MS - 1) == []
    record = then(story.passes(1), "email.timed-out", to="escalated")
    message, request = story.outputs(record)
    assert message["data"]["kind"] == "escalated"
    assert request["data"]["route_reason"] == "no-answer"


def test_each_question_has_its_own_time():
    story = asked()
    story.passes(11 * 60 * MINUTE_MS)
    story.message("what?")
    assert story.passes(11 * 60 * MINUTE_MS) == []
    assert kinds(story.passes(60 * MINUTE_MS)) == ["email.timed-out"]


# --- what does not count as an answer ---


def test_a_message_sent_before_the_grace_is_over_does_not_count():
    story = asked()
    sent = story.conversation().asked_at_ms + 5_000
    then(story.message("hello?", sent_at_ms=sent), "input.ignored", reason="grace")
    then(story.message("hello?", sent_at_ms=sent + 1), "email.rejected", to="email-retry-1")


def test_without_grace_every_message_counts():
    story = asked(policy=policy(('grace = "5s"', 'grace = "0s"')))
    then(story.message("hi", sent_at_ms=story.conversation().asked_at_ms - MINUTE_MS), "email.rejected")


def test_an_address_counts_within_the_grace():
    story = asked()
    then(story.message("a@example.com", sent_at_ms=story.conversation().asked_at_ms), "email.accepted")


def test_a_reaction_does_not_count():
    then(asked().message("👍", kind="reaction"), "input.ignored", reason="reaction")


def test_an_edit_never_counts_as_invalid_but_may_bring_the_address():
    story = asked()
    then(story.message("anna", message_id="m7"), "email.rejected", to="email-retry-1")
    then(story.message("anna at example", message_id="m7"), "input.ignored", reason="edited")
    then(story.message("anna@example.com", message_id="m7"), "email.accepted")


def test_a_duplicate_changes_nothing():
    story = asked()
    story.message("no", id="same")
    then(story.message("no", id="same"), "input.ignored", reason="duplicate")
    assert story.conversation().state == "email-retry-1"


def test_the_same_id_of_another_source_is_another_input():
    story = asked()
    story.message("no", id="same")
    then(story.message("no", id="same", source="/telegram"), "email.rejected", to="email-retry-2")


@pytest.mark.parametrize("sender", ["bot", "system", "other"])
def test_only_the_contact_answers(sender):
    then(asked().message("x@example.com", sender=sender), "input.ignored", reason=f"from-{sender}")


# --- the CRM ---


def test_a_vip_is_routed_to_the_vip_route():
    story = looking_up()
    record = then(story.crm(customer_type="vip"), "crm.resolved", to="routed-vip", vip=True)
    [request] = story.outputs(record)
    assert request["data"]["target"]["agent"] == "anna"
    assert request["data"]["escalation"]["agent"] == "maya"
    assert request["data"]["route_reason"] == "vip"


def test_anybody_else_is_regular():
    record = then(looking_up().crm(customer_type="standard"), "crm.resolved", to="routed-regular", vip=False)
    assert record.data["request"]["route_reason"] == "not-vip"


def test_a_failed_look_up_goes_on_as_the_policy_says():
    then(looking_up().crm_failed(), "crm.unresolved", to="routed-regular", reason="time-out")
    escalating = policy(('on_failure = "regular"', 'on_failure = "escalated"'))
    record = then(looking_up(policy=escalating).crm_failed(), "crm.unresolved", to="escalated")
    assert record.data["request"]["route_reason"] == "crm-failed"


def test_a_look_up_that_takes_too_long_goes_on_without_an_answer():
    story = looking_up()
    then(story.passes(15_000), "crm.unresolved", to="routed-regular", reason="deadline")
    assert story.crm("v1/1", customer_type="VIP") == []


def test_a_look_up_has_its_full_time_after_a_take_over():
    story = looking_up()
    story.state.taken_over(story.now_ms + 10_000)
    assert story.passes(24_999) == []
    assert kinds(story.passes(1)) == ["crm.unresolved"]


def test_only_the_first_answer_to_the_look_up_that_is_waited_for_counts():
    story = looking_up()
    assert story.crm("v1/7", customer_type="VIP") == []
    then(story.crm("v1/1", customer_type="VIP"), "crm.resolved")
    assert story.crm("v1/1", customer_type="x") == []


def test_not_found_is_regular_whatever_the_conditions_say():
    unlike = policy(('operator = "is equal to", value = "VIP"', 'operator = "is not equal to", value = "standard"'))
    then(looking_up(policy=unlike).crm(status=404), "crm.resolved", to="routed-regular")


def test_the_agent_may_come_from_a_variable():
    managed = policy(('agent = "anna"', 'agent_from = "account_manager"'))
    record = then(looking_up(policy=managed).crm(customer_type="VIP", account_manager="bob"), "crm.resolved")
    assert record.data["request"]["target"]["agent"] == "bob"
    record = then(looking_up(policy=managed).crm(customer_type="VIP"), "crm.resolved")
    assert record.data["request"]["target"]["team"] == "vip-desk"


# --- late answers ---


def unresolved(late="30m", **fields):
    """A conversation that went on as regular because the CRM failed; the look-up is kept trying."""
    trying = policy(('on_failure = "regular"', f'on_failure = "regular"\nlate = "{late}"'))
    story = looking_up(policy=trying, **fields)
    record = then(story.crm_failed(), "crm.unresolved", to="routed-regular")
    return story, record


def test_a_look_up_that_failed_is_kept_trying_where_the_policy_says_so():
    story, record = unresolved()
    assert record.data["lookup"]["late"] is True
    assert record.data["lookup"]["id"] == "v1/2"
    assert record.data["lookup"]["deadline_ms"] == record.at_ms + 30 * MINUTE_MS
    assert record.data["pii"]["email"] == "ann@example.com"
    assert story.state.next_due_ms() > record.at_ms + 30 * MINUTE_MS, "nobody waits for it"
    assert "lookup" not in then(looking_up().crm_failed(), "crm.unresolved").data


def test_a_late_answer_moves_a_vip_to_the_vip_route():
    story, _ = unresolved()
    record = then(story.crm("v1/2", customer_type="VIP"), "crm.resolved", from_="routed-regular", to="routed-vip")
    assert record.data["late"] is True
    [request] = story.outputs(record)
    assert (request["data"]["route"], request["data"]["route_reason"]) == ("vip", "late-vip")
    assert story.crm("v1/2", customer_type="VIP") == [], "the first late answer counts"


def test_a_late_answer_that_changes_nothing_is_recorded_and_asks_for_nobody():
    story, _ = unresolved()
    record = then(story.crm("v1/2", customer_type="standard"), "crm.resolved", to="routed-regular", vip=False)
    assert story.outputs(record) == []
    assert story.crm("v1/2", customer_type="VIP") == []


def test_a_late_failure_changes_nothing():
    story, _ = unresolved()
    assert story.put("v1", CrmFailed(lookup_id="v1/2", reason="deadline", attempts=9)) == []
    then(story.crm("v1/2", customer_type="VIP"), "crm.resolved", to="routed-vip")


def test_a_late_answer_counts_also_when_somebody_has_taken_the_conversation():
    story, _ = unresolved()
    then(story.taken("ben"), "conversation.taken", to="routed-regular")
    then(story.crm("v1/2", customer_type="VIP"), "crm.resolved", to="routed-vip")


def test_a_late_answer_comes_too_late_for_a_conversation_that_has_ended():
    story, _ = unresolved()
    story.closed()
    assert story.crm("v1/2", customer_type="VIP") == []
    story.opened(time_ms=story.now_ms + 2 * MINUTE_MS)
    assert story.crm("v1/2", customer_type="VIP") == [], "nor is it one of the next run"


# --- who takes part ---


def test_a_conversation_that_the_trigger_does_not_take_is_recorded_and_told():
    story = Story()
    record = then(story.opened(opened_by="workflow"), "input.ignored", reason="opened-by-workflow")
    [refused] = story.outputs(record)
    assert refused["type"] == "assignment.refused"
    assert story.message("hello") == []


def test_once_per_contact_means_once_ever():
    story = Story(policy=policy(("once_per_contact = false", "once_per_contact = true")))
    story.opened(email="ann@example.com")
    story.closed()
    then(story.opened("v2"), "input.ignored", reason="once-per-contact")


def test_an_owned_conversation_is_counted_not_routed():
    story = Story()
    record = then(story.opened(agent="bob", opened_by="user"), "conversation.started", to="escalated")
    [taken] = story.outputs(record)
    assert (taken["type"], taken["data"]["agent"]) == ("assignment.taken", "bob")


def test_a_channel_that_cannot_be_asked_escalates():
    silent = policy(("skip_channels = []", 'skip_channels = ["phone"]'))
    record = then(Story(policy=silent).opened(channel="phone"), "conversation.started", to="escalated")
    assert record.data["request"]["route_reason"] == "unreachable"
    assert "reply" not in record.data


def test_a_conversation_keeps_the_policy_that_it_started_with():
    story = asked()
    newer = policy(ASK_TWICE)
    story.book.exchange({"default": newer})
    story.policies.add(newer, "default", 9)
    story.answers("no", "no")
    assert story.conversation().state == "email-retry-2"
    then(story.opened("v2"), "conversation.started", policy=newer.version)


# --- people ---


def test_an_agents_message_while_we_ask_takes_the_conversation():
    story = asked()
    record = then(story.message("hi, Bob here", sender="agent", agent="bob"), "conversation.taken", to="escalated")
    assert record.data["request"]["agent"] == "bob"
    assert story.passes(DAY_MS) == []


def test_taken_by_hand_ends_the_asking():
    story = asked()
    then(story.taken("bob"), "conversation.taken", from_="awaiting-email", to="escalated")
    then(story.message("ann@example.com"), "input.ignored", reason="routed")


def test_taken_by_hand_after_routing_keeps_the_route():
    then(routed().taken("bob"), "conversation.taken", from_="routed-vip", to="routed-vip")
    then(routed().taken(None), "conversation.taken", to="routed-vip", agent=None)


def test_releasing_what_nobody_has_is_ignored():
    then(asked().taken(None), "input.ignored", reason="not-assigned")


def test_an_undeliverable_question_escalates():
    story = asked()
    record = then(story.reply_failed(1), "email.unreachable", to="escalated")
    assert record.data["request"]["route_reason"] == "unreachable"


def test_only_the_current_question_can_be_undeliverable():
    story = asked()
    story.message("no")
    then(story.reply_failed(1), "input.ignored", reason="reply-not-current")
    then(story.reply_failed(2), "email.unreachable")


# --- the end, and again ---


def test_closed_ends_the_assignment_only_where_one_was_asked_for():
    assert "request" not in then(asked().closed(reason="spam"), "conversation.ended", to="closed", reason="spam").data
    assert then(routed().closed(), "conversation.ended", to="closed").data["request"]["type"] == "assignment.ended"


def test_opened_after_closed_starts_a_new_run_with_the_seq_going_on():
    story = routed()
    story.closed()
    seq = story.conversation().seq
    record = then(story.opened(), "conversation.started", run=2, seq=seq + 1)
    assert record.data["prev"] == story.records[-2].hash


def test_an_opening_that_began_an_earlier_run_is_a_duplicate():
    story = Story()
    story.opened(id="o1")
    story.closed()
    then(story.opened(id="o1"), "input.ignored", reason="duplicate")


def test_an_opening_from_before_the_close_is_a_duplicate():
    story = asked()
    story.closed()
    then(story.opened(time_ms=story.conversation().closed_ms), "input.ignored", reason="before-close")


@pytest.mark.parametrize("act", ["message", "taken", "closed"])
def test_what_comes_before_the_opening_or_after_the_close_is_recorded(act):
    story = Story()
    tell = {"message": lambda: story.message("hi"), "taken": lambda: story.taken("bob"), "closed": story.closed}[act]
    then(tell(), "input.ignored", reason="not-opened")
    then(story.opened(), "conversation.started", seq=2, run=1)
    story.closed()
    then(tell(), "input.ignored", reason="closed")


def test_opened_twice_is_recorded():
    then([*asked().opened(id="again")], "input.ignored", reason="already-open")


def test_a_conversation_of_which_nothing_is_heard_is_closed():
    story = routed()
    assert story.passes(30 * DAY_MS - MINUTE_MS - 1) == []
    then(story.passes(MINUTE_MS + 1), "conversation.ended", to="closed", reason="forgotten")


def test_a_message_now_and_then_keeps_it_open_without_a_record_for_each():
    story = routed()
    assert story.message("thanks") == []
    story.passes(4 * DAY_MS)
    then(story.message("and another thing"), "input.ignored", reason="heard")
    assert story.message("bye") == []
    assert story.passes(29 * DAY_MS) == []


def test_an_event_without_a_subject_means_the_open_conversation():
    story = asked()
    then(story.message("ann@example.com", conversation=None), "email.accepted")
    story.closed(None)
    with pytest.raises(InputRefusedError, match="subject"):
        story.message("hello", conversation=None)


# --- two conversations of one contact ---


def test_a_second_conversation_joins_the_first_and_follows_it():
    story = asked()
    then(story.opened("v2"), "conversation.started", to="opened", join="v1")
    story.message("ann@example.com")
    first, second = story.crm(customer_type="VIP")
    assert (first.type, second.type) == ("crm.resolved", "conversation.joined")
    assert (second.subject, second.data["to"]) == ("v2", "routed-vip")
    assert (second.data["request"]["join"], second.data["request"]["route_reason"]) == ("v1", "joined")


def test_a_conversation_that_joins_a_routed_one_is_routed_at_once():
    record = then(routed().opened("v2"), "conversation.started", to="routed-vip")
    assert record.data["request"]["join"] == "v1"


def test_an_address_in_the_second_conversation_answers_the_first():
    story = asked()
    story.opened("v2")
    seen, accepted = story.message("ann@example.com", "v2")
    assert (seen.type, seen.data["reason"]) == ("input.ignored", "joined")
    assert (accepted.type, accepted.subject) == ("email.accepted", "v1")


def test_when_the_first_ends_before_it_is_routed_the_second_begins():
    story = asked()
    story.opened("v2")
    ended, started = story.closed("v1")
    assert (ended.subject, ended.type) == ("v1", "conversation.ended")
    assert (started.subject, started.type, started.data["to"]) == ("v2", "conversation.started", "awaiting-email")
    assert story.conversation("v2").join is None


def test_of_three_the_third_joins_the_second_when_the_first_ends():
    story = asked()
    story.opened("v2")
    story.opened("v3")
    _, second, third = story.closed("v1")
    assert (second.subject, second.data["to"]) == ("v2", "awaiting-email")
    assert (third.subject, third.data["to"], third.data["join"]) == ("v3", "opened", "v2")


def test_without_the_rule_every_conversation_goes_alone():
    alone = policy(("one_open_per_contact = true", "one_open_per_contact = false"))
    story = asked(policy=alone)
    then(story.opened("v2"), "conversation.started", to="awaiting-email")
    answered, other = story.message("ann@example.com", "v2")
    assert (answered.subject, other.subject) == ("v2", "v1")
    assert other.data["to"] == "fetching-crm"
    assert story.outputs(other) == []


# --- the contact ---


def test_a_patch_that_changes_nothing_makes_no_record():
    story = Story()
    then(story.updated(language="fr"), "contact.changed", language="fr", seq=1)
    assert story.updated(language="fr") == []


def test_an_address_taken_away_is_asked_for_again_next_time():
    story = routed()
    story.updated(email=None)
    story.closed()
    then(story.opened("v2"), "conversation.started", to="awaiting-email")


def test_an_old_deadline_is_ignored():
    story = asked()
    assert story.deadline("answer", 7) == []
    assert story.deadline("crm", 1) == []
    assert story.deadline("forget", 9) == []


def test_every_record_follows_the_one_before_it():
    story = routed()
    story.closed()
    assert [record.data["seq"] for record in story.records] == [1, 2, 3]
    assert [record.data["prev"] for record in story.records] == [None, *(r.hash for r in story.records[:-1])]
