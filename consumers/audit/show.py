"""A conversation's history as a person reads it: what happened, why, under which policy, who could have had it.

It tells what the records say; finding them is ``finding.py``'s business, words for codes ``words.py``'s, and how it
looks on a terminal the command line's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from msgspec import Struct

from consumers.audit.finding import Found, cause_of, read_at, records
from consumers.audit.reading import Seen
from consumers.audit.summary import Summary
from consumers.audit.words import REASONS, candidate_words, input_words, reason_words, target_words
from events.log import Log
from events.times import format_time
from events.topics import ROUTING_LOG
from routing.conditions import holds
from routing.errors import PolicyError
from routing.policy import Condition, Policy
from routing.policy_file import parse_policy

HIDDEN: Final = "•••"  #: stands for personal data

Duration = Callable[[int], str]  #: milliseconds as people read them


class Step(Struct, frozen=True, kw_only=True):
    """One record in words."""

    at_ms: int
    where: str  #: its log, partition and offset
    seq: int
    what: str
    why: str | None
    from_: str | None
    to: str | None
    details: list[str]


class Story:
    """Tells a conversation's records. ``personal``: show personal data; else a sign stands for them."""

    def __init__(self, log: Log, found: Found, *, personal: bool, duration: Duration) -> None:
        self.summary = Summary()
        self._log = log
        self._found = found
        self._personal = personal
        self._duration = duration
        self._policies: dict[str, Policy | None] = {}

    async def steps(self) -> AsyncIterator[Step]:
        """The steps, oldest first; ``summary`` grows with them."""
        async for found in records(self._log, self._found):
            yield await self._step(found)

    async def _step(self, found: Seen) -> Step:
        data = found.data
        is_router = found.stored.topic == ROUTING_LOG
        policy = await self._policy(data.get("policy"))
        what, why = (_router_words if is_router else _assigner_words)(found)
        details = [f"because of {await self._cause(found)}"]
        if is_router:
            details += self._policy_lines(data, policy)
            details += self._router_details(found, policy)
        else:
            details += self._assigner_details(data)
        self._sum_up(found, is_router=is_router)
        return Step(
            at_ms=found.record.at_ms,
            where=f"{found.stored.topic}/{found.stored.partition}@{found.stored.offset}",
            seq=data["seq"],
            what=what,
            why=why,
            from_=data.get("from"),
            to=data.get("to"),
            details=details,
        )

    def _sum_up(self, found: Seen, *, is_router: bool) -> None:
        data = found.data
        if is_router:
            self.summary.run = data["run"]
            self.summary.state = data.get("to", self.summary.state)
        elif "to" in data:
            self.summary.assign(data, found.record.at_ms)

    async def _cause(self, found: Seen) -> str:
        told = found.data.get("input")
        holder: Seen | None = found
        if told is None:
            holder = await cause_of(self._log, found)
        if holder is None:
            return "an input that the log does not have"
        words = input_words(holder.data["input"], holder.data["cause"])
        return words if told is not None else f"{words}, through what came before"

    async def _policy(self, version: str | None) -> Policy | None:
        """The policy as the log has it; None: it has none, or one that cannot be read."""
        if version is None:
            return None
        if version not in self._policies:
            spot = self._found.policies.get(version)
            try:
                text = None if spot is None else (await read_at(self._log, spot)).data["text"]
                self._policies[version] = None if text is None else parse_policy(text, source=version)
            except PolicyError:
                self._policies[version] = None
        return self._policies[version]

    def _policy_lines(self, data: dict[str, Any], policy: Policy | None) -> list[str]:
        """The policy, where it begins to apply."""
        version = data.get("policy")
        if version is None or version == self.summary.policy:
            return []
        self.summary.policy = version
        self.summary.policy_name = None if policy is None else policy.workflow.name
        return [f"policy {self.summary.policy_name or 'without a readable text'}, version {version}"]

    # --- details ---

    def _router_details(self, found: Seen, policy: Policy | None) -> list[str]:
        data = found.data
        told, personal = data.get("input") or {}, data.get("pii") or {}
        lines: list[str] = []
        if "email" in personal:
            lines.append(f"e-mail address: {self._shown(personal['email'])}")
        if found.record.type == "crm.resolved":
            lines += self._crm_lines(data, told, personal, policy)
        if "lookup" in data:
            lines.append(f"look-up {data['lookup']['id']}, until {format_time(data['lookup']['deadline_ms'])}")
        if "reply" in data:
            lines += self._reply_lines(found, data["reply"], personal)
        if "closed" in data:
            lines += self._closed_lines(data["closed"], personal)
        request = data.get("request") or {}
        if request.get("type") == "assignment.requested":
            target = target_words(request.get("target"), self._duration)
            lines.append(f"wants an owner by route {request['route']}: {target}")
        return lines

    def _reply_lines(self, found: Seen, reply: dict[str, Any], personal: dict[str, Any]) -> list[str]:
        if "reply" not in personal:
            return [f"nothing is sent: the policy's text for {reply['kind']} is empty"]
        out = found.stored.offset < self._found.marks.get(found.stored.place, 0)
        when = "went out" if out else "is to go out (the log does not say yet that it has)"
        until = f", answer until {format_time(reply['expires_ms'])}" if "expires_ms" in reply else ""
        language = found.data.get("language")
        return [
            f"message {when}: {reply['kind']} {reply['attempt']} in {language}{until}",
            f"  “{self._shown(personal['reply'])}”",
        ]

    def _closed_lines(self, closed: dict[str, Any], personal: dict[str, Any]) -> list[str]:
        until = format_time(closed["opens_ms"])
        lines = [f"nobody who could have it is there: hours {closed['hours']} open at {until}"]
        return [*lines, f"  “{self._shown(personal['closed'])}”"] if "closed" in personal else lines

    def _crm_lines(
        self, data: dict[str, Any], told: dict[str, Any], personal: dict[str, Any], policy: Policy | None
    ) -> list[str]:
        private = (personal.get("input") or {}).get("personal_variables", {})
        request = data.get("request") or {}
        variables = {**request.get("variables", told.get("variables", {})), **private}
        values = [
            f"{name} = {self._shown(_value_words(value)) if name in private else _value_words(value)}"
            for name, value in variables.items()
            if value is not None
        ]
        took = self._duration(told.get("latency_ms", 0))
        lines = [
            f"status {told.get('status')}, attempts: {told.get('attempts')}, {took}",
            f"variables: {', '.join(values) or 'none'}",
        ]
        if policy is None:
            return lines
        if told.get("status") == 404 and policy.crm.not_found == "regular":  # noqa: PLR2004  # HTTP's "not found"
            return [*lines, "the CRM does not know the contact, and crm.not_found makes that regular"]
        lines.append(f"VIP if {policy.branch_vip.match} of these hold:")
        for condition in policy.branch_vip.conditions:
            actual = variables.get(condition.variable)
            verdict = "holds"
            if not holds(condition, actual):
                shown = self._shown(_value_words(actual)) if condition.variable in private else _value_words(actual)
                verdict = f"does not hold, it {'does not exist' if actual is None else f'is {shown}'}"
            lines.append(f"  {_condition_words(condition)}: {verdict}")
        return lines

    def _assigner_details(self, data: dict[str, Any]) -> list[str]:
        lines: list[str] = []
        if data.get("to") == "waiting":
            lines.append(f"wanted: {target_words(data.get('target'), self._duration)}")
        lines += [f"out of hours: {name}, until {format_time(until_ms)}" for name, until_ms in _closed(data)]
        if "opens_ms" in data:
            lines.append(f"nobody who could have it is there before {format_time(data['opens_ms'])}")
        if "waited_ms" in data:
            lines.append(f"waited {self._duration(data['waited_ms'])}")
            lines += self._candidate_lines(data)
            lines += _turn_lines(data.get("turn"))
        if "until_ms" in data:
            lines.append(f"may be accepted until {format_time(data['until_ms'])}")
        return lines

    def _candidate_lines(self, data: dict[str, Any]) -> list[str]:
        named = data.get("candidates", [])
        if not named:
            return []
        total = data.get("candidates_total", len(named))
        count = f"{total}" if total == len(named) else f"{total}, of whom {len(named)} are named"
        lines = [f"candidates: {count}", *(f"  {candidate_words(line)}" for line in named)]
        if "counts" in data:
            counts = (f"{number} {REASONS.get(why, why)}" for why, number in data["counts"].items())
            lines.append(f"  of all: {', '.join(counts)}")
        return lines

    def _shown(self, value: Any) -> str:
        return str(value) if self._personal else HIDDEN


def _closed(data: dict[str, Any]) -> list[tuple[str, int]]:
    return sorted((data.get("closed") or {}).items())


def _turn_lines(turn: dict[str, Any] | None) -> list[str]:
    if turn is None:
        return []
    before = "nobody" if turn["before"] is None else turn["before"]
    times = f", for the {turn['times']}. time in a row" if turn.get("times", 1) > 1 else ""
    return [f"turn of {turn['pool']}: was {before}, is {turn['after']}{times}"]


def _condition_words(condition: Condition) -> str:
    value = "" if condition.value is None else f" {_value_words(condition.value)}"
    return f"{condition.variable} {condition.operator}{value}"


def _value_words(value: Any) -> str:
    """A value of a policy or of a CRM: as JSON has it, but texts without quotes and lists without brackets."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_words, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _router_words(found: Seen) -> tuple[str, str | None]:
    """What happened and why, of a record of the router."""
    kind, data = found.record.type, found.data
    told = data.get("input") or {}
    reason = reason_words(data["reason"]) if "reason" in data else None
    if kind == "conversation.started":
        return _started_words(data, told)
    if kind == "email.rejected":
        if data.get("reason") == "asked":
            return "The contact asked for a person", reason
        last = data.get("to") == "escalated"
        return f"The answer was not accepted{', it was the last one: a person takes over' if last else ''}", reason
    if kind == "email.accepted":
        given = data.get("email_source") == "answer"
        return ("The contact gave an e-mail address" if given else "The e-mail address became known another way"), None
    if kind == "crm.resolved":
        when = "The CRM answered after all" if data.get("late") else "The CRM answered"
        return f"{when}: {'a VIP' if data.get('vip') else 'no VIP'}", reason_words(
            "vip" if data.get("vip") else "not-vip"
        )
    if kind == "conversation.taken":
        agent = data.get("agent")
        return (f"{agent} took the conversation by hand" if agent else "It was released by hand"), None
    if kind == "conversation.joined":
        return f"It goes with conversation {data.get('join')}", reason_words("joined")
    if kind == "input.ignored":
        return f"{told.get('type', 'an input')} had no effect", reason
    words = {
        "email.timed-out": "The time to answer was over",
        "email.unreachable": "The question could not be delivered",
        "crm.unresolved": "The CRM look-up ended without an answer",
        "conversation.ended": "The conversation ended",
    }
    return words.get(kind, kind), reason


def _started_words(data: dict[str, Any], told: dict[str, Any]) -> tuple[str, str | None]:
    if not told:
        begun = "It begins on its own: the conversation that it waited for has ended"
    else:
        who = told.get("opened_by", "contact")
        channel = (told.get("channel") or {}).get("type")
        again = f" again (run {data['run']})" if data["run"] > 1 else ""
        begun = f"Opened{again} by {'the contact' if who == 'contact' else who}{f' on {channel}' if channel else ''}"
    to = data.get("to")
    if "join" in data:
        return begun, f"it goes with the contact's open conversation {data['join']} [joined]"
    if to == "fetching-crm":
        answered = data.get("email_source") == "answer"
        return begun, f"an e-mail address is {'in the first message' if answered else 'known'}: the CRM is asked"
    if to == "escalated":
        route_reason = (data.get("request") or {}).get("route_reason")
        return begun, reason_words(route_reason) if route_reason else "somebody owns it already"
    return begun, "no e-mail address is known: the contact is asked for it"


_WAITS: Final = {
    "overdue": "overdue",
    "fallback_open": "its fallback is open",
    "promoted": "ranks as the next class",
    "relaxed": "skills and language do not matter any more",
}


def _assigner_words(found: Seen) -> tuple[str, str | None]:
    """What happened and why, of a record of the assigner."""
    kind, data = found.record.type, found.data
    if kind == "assignment.made":
        before = data.get("released")
        passed = f" (before: {before['agent']})" if before else ""
        team = f" of team {data['team']}" if data.get("team") else ""
        return f"Given to {data['agent']}{team}{passed}", reason_words(data["reason"])
    if kind == "assignment.offered":
        team = f" of team {data['team']}" if data.get("team") else ""
        return f"Offered to {data['agent']}{team}", reason_words(data["reason"])
    if kind == "assignment.queued":
        stands = "".join(f", {words}" for name, words in _WAITS.items() if data.get(name))
        return f"Waits in the queue of route {data['route']}{stands}", reason_words(data["route_reason"])
    if kind == "assignment.rerouted":
        return f"{data['agent']} has it, and is told that its route is {data['route']} now", reason_words(
            data["route_reason"]
        )
    if kind == "assignment.released":
        had = "The offer is taken back from" if data.get("from") == "offered" else "Taken from"
        whom = f"{had} {data['agent']}" if data.get("agent") else "Left the queue"
        back = " and put back into the queue" if data.get("to") == "waiting" else ": it needs no owner any more"
        return f"{whom}{back}", reason_words(data["reason"])
    if kind == "assignment.not-routed":
        return "Not routed", reason_words(data["reason"])
    told = data.get("input") or {}
    return f"{told.get('type', 'an input')} had no effect on the assignment", reason_words(data.get("reason"))
