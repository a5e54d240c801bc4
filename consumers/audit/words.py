"""What records say, in words: reason codes as sentences, routes and targets as people name them.

A code that is not known here is shown as it stands: reasons of closings are the producers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REASONS: Final[Mapping[str, str]] = {
    # why an input had no effect, in the router
    "duplicate": "the same event was here before",
    "already-open": "the conversation is open already",
    "before-close": "the opening is not later than the close that came before it",
    "once-per-contact": "the policy takes a contact through the workflow once, ever",
    "opened-by-contact": "the policy does not take conversations that the contact opened",
    "opened-by-user": "the policy does not take conversations that a user opened",
    "opened-by-workflow": "the policy does not take conversations that a workflow opened",
    "opened-by-other": "the policy does not take conversations that somebody else opened",
    "not-opened": "the conversation was never opened",
    "not-routed": "the trigger did not take the conversation",
    "closed": "the conversation is closed",
    "from-agent": "an agent wrote it",
    "from-bot": "a bot wrote it, it is no answer",
    "from-system": "the system wrote it, it is no answer",
    "from-other": "neither contact nor agent wrote it, so it is no answer",
    "reaction": "a reaction is no answer",
    "edited": "it is a new version of a message that counted already",
    "grace": "it was sent so soon after the question that it cannot be the answer",
    "joined": "the contact has another conversation open, and this one goes with it",
    "looking-up": "the CRM is being asked; the message changes nothing",
    "routed": "the conversation is routed; the address in it is remembered for the next one",
    "heard": "the conversation is routed; this only says that it is alive",
    "not-assigned": "nobody had it, so nobody can release it",
    "reply-not-current": "the reply that failed is not the question that waits for an answer",
    # why an answer is none
    "no-address": "the answer holds no e-mail address that could be one",
    "two-addresses": "the answer holds two different e-mail addresses",
    "no-text": "the answer has no text",
    # route reasons
    "vip": "the policy's VIP conditions hold",
    "not-vip": "the policy's VIP conditions do not hold",
    "crm-failed": "the CRM gave no answer",
    "late-vip": "the CRM's answer came late: the policy's VIP conditions hold",
    "invalid-answers": "no answer held a usable e-mail address, after the last question too",
    "no-answer": "the contact did not answer in time",
    "asked": "the contact asked for a person (a stop word)",
    "unreachable": "the contact cannot be asked on this channel",
    "waited": "it waited as long as its route allows",
    "taken": "a person had taken it",
    # how a look-up failed
    "deadline": "the look-up's deadline passed",
    "time-out": "the CRM did not answer within the time of the last attempt",
    "dns": "the CRM's host name has no address",
    "refused": "nobody listens at the CRM's address",
    "tls": "no TLS connection to the CRM could be made",
    "connection": "the connection to the CRM could not be made, or broke",
    "too-large": "the CRM's answer is too large",
    "encoded": "the CRM's answer is compressed, which was not asked for",
    "not-json": "the CRM's answer is not JSON",
    "wrong-type": "the CRM's answer is neither an object nor an array",
    "unusable-request": "the request to the CRM cannot be built for this contact",
    "missing-secret": "a secret that the policy names for the CRM is missing",
    "unusable-policy": "the conversation's policy could not be read",
    "fault": "a fault of vip-router; the program log says more",
    # how conversations end
    "forgotten": "nothing was heard of it for as long as the policy's forget_after",
    # who gets a conversation, and who does not
    "dedicated": "the route names this agent",
    "fallback": "the route's first choice could not have it, so its fallback serves",
    "outside-hours": "its team is out of hours, and this is who stands in then",
    "next-in-turn": "round robin: it is this agent's turn",
    "fewest-open": "least open: nobody who could have it has fewer conversations",
    "taken-by-hand": "a person decided it",
    "by-hand": "a person released it",
    "longest-idle": "longest idle: nobody who could have it has waited longer for work",
    "had-it-last": "sticky: this agent had the contact last",
    "accepted": "he has accepted it",
    "declined": "he has declined it",
    "offer-missed": "he did not answer in time",
    "agent-removed": "the agent was removed",
    "offline": "offline",
    "away": "away",
    "full": "has as many as allowed",
    "wrapping-up": "still wraps up what has ended",
    "did-not-accept": "did not accept it before",
    "idle-for-less": "has waited less long for work",
    "later-turn": "the turn comes later",
    "more-open": "has more open",
    "served-later": "as many open, but served later",
    # why a request or an agent's event had no effect
    "already-assigned": "somebody has it already",
    "already-offered": "it is offered to somebody already",
    "already-accepted": "he has accepted it already",
    "offer-over": "it is not offered any more",
    "wrong-token": "it is another offer than the present one",
    "negative-wrap-up": "wrap_up is negative",
    "no-weight": "weight is not above zero",
    "lease-over": "it is so old that it says nothing any more",
    "already-waiting": "it is waiting already",
    "already-ended": "it has ended already",
    "already-not-routed": "it is known not to be routed",
    "present-owner": "he has it already",
    "no-route": "it has no route to wait in",
    "unknown-conversation": "nothing was asked for it",
    "not-ours": "the event does not concern agents or conversations",
    "no-agent": "the event names no agent",
    "no-conversation": "the event names no conversation",
    "negative-max-open": "max_open is negative",
    "stale": "a later event was applied before it",
    "unknown-agent": "nobody told us of this agent",
    "removed-agent": "the agent was removed",
    "no-offer": "nothing was offered to this agent",
}

INPUTS: Final[Mapping[str, str]] = {
    "conversation.opened": "an opening",
    "message.received": "a message",
    "contact.updated": "news of the contact's record",
    "assignee.changed": "a change of the owner by hand",
    "conversation.closed": "a close",
    "reply.failed": "a reply that could not be delivered",
    "crm.answered": "the CRM's answer",
    "crm.failed": "the CRM's failure",
    "deadline.passed": "a deadline",
    "assignment.requested": "the router's request for an owner",
    "assignment.ended": "the router's word that it has ended",
    "assignment.taken": "the router's word that a person took or released it",
    "assignment.refused": "the router's word that it is not routed",
    "agent.updated": "an agent's record",
    "agent.presence": "an agent's presence",
    "agent.removed": "an agent's removal",
    "agents.configured": "the policy's [agents] and [hours]",
    "assignment.accepted": "an agent's yes to an offer",
    "assignment.declined": "an agent's no to an offer",
}
_DEADLINES: Final[Mapping[str, str]] = {
    "answer": "the time to answer was over",
    "crm": "the CRM look-up's time was over",
    "forget": "the time to be forgotten had come",
    "fallback": "the time until the fallback was over",
    "wait": "the time to wait was over",
    "promote": "it had waited long enough to rank as the next class",
    "relax": "it had waited long enough to ask for less",
    "offer": "the time to accept was over",
    "lease": "no heartbeat had come for as long as presence holds",
    "wrap-up": "the time to wrap up was over",
    "hours": "a team opened or closed",
    "drain": "there was more to do",
}


def reason_words(code: Any) -> str:
    """A reason code as a sentence, followed by the code itself."""
    text = str(code)
    if text.startswith("http-"):
        return f"the CRM answered with status {text[5:]} [{text}]"
    known = REASONS.get(text)
    return text if known is None else f"{known} [{text}]"


def input_words(told: Mapping[str, Any], cause: Mapping[str, Any]) -> str:
    """What caused a record, and where it stands."""
    kind = str(told.get("type"))
    if kind == "deadline.passed":
        return f"{_DEADLINES.get(str(told.get('kind')), 'a deadline passed')} ({cause.get('id')})"
    words = INPUTS.get(kind, kind)
    place = f"{cause.get('topic')}/{cause.get('partition')}@{cause.get('offset')}"
    return f"{words}: {kind} {cause.get('id')} ({place})" if cause.get("topic") else f"{words} ({cause.get('id')})"


def target_words(target: Mapping[str, Any] | None, duration: Any) -> str:
    """Whom a route wants; ``duration`` makes a text of milliseconds."""
    if not target:
        return "nobody"
    text = _pool_words(target)
    fallback = target.get("fallback")
    if fallback is not None:
        after = target.get("fallback_after_ms")
        when = "" if after is None else f" after {duration(after)}"
        text += f", else {_pool_words(fallback)}{when}"
    if target.get("wait_max_ms") is not None:
        text += f", waiting at most {duration(target['wait_max_ms'])}"
    return text


def whom_words(target: Mapping[str, Any] | None) -> str:
    """Whom a route wants, in as few words as there are; nothing if it names nobody."""
    if not target:
        return ""
    fallback = target.get("fallback")
    return _whom(target) if fallback is None else f"{_whom(target)}, else {_whom(fallback)}"


def _whom(target: Mapping[str, Any]) -> str:
    if target.get("agent") is not None:
        return f"agent {target['agent']}"
    return f"team {target['team']}" if target.get("team") is not None else "anybody of the workspace"


def _pool_words(target: Mapping[str, Any]) -> str:
    whom = _whom(target)
    if target.get("agent") is not None:
        return whom
    online = "" if target.get("only_online", True) else ", offline too"
    skills = f", who knows {' and '.join(target['skills'])}" if target.get("skills") else ""
    language = ", who speaks the contact's language" if target.get("match_language") else ""
    return f"{whom} ({target.get('strategy', 'round-robin')}{online}{skills}{language})"


def candidate_words(line: Mapping[str, Any]) -> str:
    """One candidate: his load, his presence, and why he was passed over."""
    load = f"{line.get('agent')}: {line.get('open')} of {line.get('max_open')} open, {line.get('presence')}"
    if line.get("wrapping"):
        load += f", wraps up {line['wrapping']}"
    if line.get("weight"):
        load += f", weight {line['weight']}"
    if "passed_over" not in line:
        return f"{load} <- chosen"
    why = REASONS.get(str(line["passed_over"]), str(line["passed_over"]))
    return f"{load}; passed over: {why}"
