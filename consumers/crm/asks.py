"""The CRM consumer's reading and writing: records that ask for a look-up, the policies they name, the answers.

When to read, look up and publish is ``consumers/crm/consumer.py``'s business.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from consumers.crm.outcomes import Answered, Failed, LookUp
from events.crm_answers import encode_crm_answer
from events.log import Log, NewRecord, StoredRecord, TopicPartition
from events.records import POLICY_RECORDED
from routing.errors import PolicyError
from routing.inputs import CrmAnswered, CrmFailed
from routing.policy import Policy
from routing.policy_file import parse_policy

POLICIES_MAX: Final = 64  #: versions kept; a conversation's is read again if it was pushed out


class AskError(Exception):
    """A record or a policy that cannot be used. ``str()`` names the place and holds nothing personal."""


class Ask(NamedTuple):
    """A record that asks for a look-up."""

    place: TopicPartition
    offset: int
    seq: int
    look_up: LookUp
    policy: str
    policy_offset: int
    is_late: bool  #: it failed before, and is only kept trying


class _Wanted(Struct, frozen=True):
    id: str
    deadline_ms: int
    policy_offset: int
    late: bool = False


class _Pii(Struct, frozen=True):
    email: str | None = None


class _Data(Struct, frozen=True):
    seq: int = 0
    policy: str | None = None
    to: str | None = None
    lookup: _Wanted | None = None
    pii: _Pii | None = None


class _Record(Struct, frozen=True):
    """Of a stored record only what a look-up needs."""

    type: str
    data: _Data
    workspace: str = ""
    partitionkey: str = ""
    subject: str | None = None


_decode: Final = msgspec.json.Decoder(_Record).decode


def read_ask(stored: StoredRecord) -> Ask | None:
    """The ask in a record of ``routing.log``; None if it asks for nothing, which costs next to nothing to see.

    Raises ``AskError`` if it asks in a way that cannot be read.
    """
    if stored.value is None or b'"lookup"' not in stored.value:
        return None
    try:
        record = _decode(stored.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AskError(f"{_where(stored.place, stored.offset)}: the look-up that it asks for cannot be read") from None
    wanted, pii = record.data.lookup, record.data.pii
    if wanted is None:
        return None
    if record.subject is None or record.data.policy is None or pii is None or pii.email is None:
        raise AskError(f"{_where(stored.place, stored.offset)}: it asks for a look-up without address or policy")
    look_up = LookUp(
        workspace=record.workspace,
        contact=record.partitionkey,
        conversation=record.subject,
        lookup_id=wanted.id,
        email=pii.email,
        deadline_ms=wanted.deadline_ms,
    )
    return Ask(
        stored.place, stored.offset, record.data.seq, look_up, record.data.policy, wanted.policy_offset, wanted.late
    )


def moved_conversation(stored: StoredRecord) -> tuple[str, str, str] | None:
    """Workspace, contact and conversation of a record that moves a conversation to another state; None for others."""
    if stored.value is None or b'"to"' not in stored.value:
        return None
    try:
        record = _decode(stored.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # who asks for a look-up in a way that cannot be read is told of by ``read_ask``
    if record.subject is None or record.data.to is None:
        return None
    return record.workspace, record.partitionkey, record.subject


class RecordedPolicies:
    """The policies that a log has recorded, found by where they stand."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, Policy] = {}  # the one used last stands last
        self._reading = asyncio.Lock()  # the first look-ups of a policy all come at once: one reads it for all

    def known(self, ask: Ask) -> Policy | None:
        """The policy that an ask is pinned to, if it was read lately."""
        return self._known.get(ask.policy)

    async def of(self, ask: Ask) -> Policy:
        """The policy that an ask is pinned to; raises ``AskError`` if it does not stand there, and ``LogError``."""
        if ask.policy not in self._known:
            async with self._reading:
                if ask.policy not in self._known:
                    self._known[ask.policy] = await self._read(ask)
        policy = self._known[ask.policy] = self._known.pop(ask.policy)
        if len(self._known) > POLICIES_MAX:
            del self._known[next(iter(self._known))]
        return policy

    async def _read(self, ask: Ask) -> Policy:
        found = await self._log.read(ask.place, ask.policy_offset, records_max=1)
        where = _where(ask.place, ask.policy_offset)
        try:
            stored = found.records[0]
            record = orjson.loads(stored.value or b"")
            if stored.offset != ask.policy_offset or record["type"] != POLICY_RECORDED:
                raise AskError(f"{where} should record the policy {ask.policy}, but does not")
            policy = parse_policy(record["data"]["text"], source=where)
        except (IndexError, KeyError, TypeError, ValueError):
            raise AskError(f"{where} should record the policy {ask.policy}, but cannot be read") from None
        except PolicyError as problem:
            raise AskError(f"{where} records a policy that cannot be used: {problem}") from None
        if policy.version != ask.policy:
            raise AskError(f"{where} records the policy {policy.version}, not {ask.policy}")
        return policy


def answer_record(ask: Ask, outcome: Answered | Failed, *, now_ms: int) -> NewRecord:
    """What goes to ``crm.answers``, on the partition of the record that asked."""
    look_up = ask.look_up
    return encode_crm_answer(
        _body(look_up.lookup_id, outcome),
        workspace=look_up.workspace,
        contact=look_up.contact,
        conversation=look_up.conversation,
        seq=ask.seq,
        partition=ask.place.partition,
        now_ms=now_ms,
    )


def _body(lookup_id: str, outcome: Answered | Failed) -> CrmAnswered | CrmFailed:
    if isinstance(outcome, Failed):
        return CrmFailed(lookup_id=lookup_id, reason=outcome.reason, status=outcome.status, attempts=outcome.attempts)
    return CrmAnswered(
        lookup_id=lookup_id,
        status=outcome.status,
        variables=outcome.variables,
        personal_variables=outcome.personal,
        attempts=outcome.attempts,
        latency_ms=outcome.latency_ms,
        age_ms=outcome.age_ms,
    )


def _where(place: TopicPartition, offset: int) -> str:
    return f"{place.topic}/{place.partition} at offset {offset}"
