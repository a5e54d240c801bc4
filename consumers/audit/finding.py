"""Finds a conversation's records in both logs, and where else it may be if they hold none.

The logs are read once, record by record (with the contact's id: of each log the one partition that it can be on); of
the records that belong to the conversation only their places are kept. Whether the chain holds costs a hash a record.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Final, NamedTuple

import orjson

from consumers.audit.reading import READ_RECORDS, Seen, ends_of, seen, stream
from consumers.audit.report import Counts, Difference, OnProgress
from consumers.audit.wholeness import Wholeness, difference
from events.chain import MARK
from events.cloudevents import BadInputError
from events.dead_letters import parse_dead_letter
from events.log import Log, StoredRecord, TopicPartition
from events.records import POLICY_RECORDED
from events.topics import ASSIGNMENTS_LOG, CONVERSATION_EVENTS, DEAD_LETTERS, ROUTING_LOG, partition_of

SIMILAR_MAX: Final = 3
CONTACTS_SHOWN_MAX: Final = 20
_SIMILAR: Final = 0.6  #: as difflib measures it
_POLICY: Final = b'"type":"policy.recorded"'
_SUBJECT: Final = re.compile(rb'"subject":("(?:[^"\\]|\\.)*")')
_WORKSPACE: Final = re.compile(rb'"workspace":("(?:[^"\\]|\\.)*"),"data":')


class NotFoundError(Exception):
    """No such conversation; ``str()`` says where it may be."""


class SeveralContactsError(Exception):
    """Several contacts have a conversation of this id; ``str()`` lists them."""


class Spot(NamedTuple):
    """Where a record stands, and what orders it among those of the other log."""

    place: TopicPartition
    offset: int
    at_ms: int
    needs: int  #: the offset in the router's log that it follows from; -1: none


@dataclass(slots=True, kw_only=True)
class Found:
    """A conversation and where its records stand, in the order in which things happened."""

    workspace: str
    contact: str
    conversation: str
    spots: list[Spot]
    policies: dict[str, Spot] = field(default_factory=dict)  #: where the texts stand, by version
    marks: dict[TopicPartition, int] = field(default_factory=dict)  #: what is below was published
    damage: Difference | None = None  #: why these may not be the records that lanes wrote, or not all of them


async def find(
    log: Log, conversation: str, *, workspace: str, contact: str | None = None, on_progress: OnProgress | None = None
) -> Found:
    """The conversation's records; raises ``NotFoundError`` or ``SeveralContactsError``."""
    search = _Search(log, conversation, Counts(on_progress))
    await search.run(contact, workspace)
    mine = {who: spots for (space, who), spots in search.found.items() if space == workspace}
    if contact is not None:
        mine = {who: spots for who, spots in mine.items() if who == contact}
    if len(mine) > 1:
        raise SeveralContactsError(_several(conversation, sorted(mine)))
    if not mine:
        raise NotFoundError(await _elsewhere(log, search, workspace, contact))
    ((who, spots),) = mine.items()
    whose = workspace, who
    damage = search.wholeness.damage(whose, {(spot.place, spot.offset) for spot in spots})
    return Found(
        workspace=workspace, contact=who, conversation=conversation, spots=_merged(spots),
        policies=search.policies, marks=search.marks,
        damage=None if damage is None else difference(damage, whose, conversation),
    )  # fmt: skip


async def records(log: Log, found: Found) -> AsyncIterator[Seen]:
    """The conversation's records, in order, read again one by one."""
    for spot in found.spots:
        yield await read_at(log, spot)


async def read_at(log: Log, spot: Spot) -> Seen:
    """The record at a spot."""
    return seen((await log.read(spot.place, spot.offset, records_max=1)).records[0])


async def cause_of(log: Log, follower: Seen) -> Seen | None:
    """The record that holds the input which a record without one followed from; None: it is not there."""
    cause, end = follower.data.get("cause"), follower.stored.offset
    while end > 0:
        start = max(end - READ_RECORDS, 0)
        before = (await log.read(follower.stored.place, start, records_max=end - start)).records
        for stored in reversed(before):
            found = seen(stored)
            if found.moves and found.data.get("cause") != cause:
                return None
            if "input" in found.data:
                return found
        end = start
    return None


class _Search:
    def __init__(self, log: Log, conversation: str, counts: Counts) -> None:
        self.conversation = conversation
        self.found: dict[tuple[str, str], list[Spot]] = {}
        self.policies: dict[str, Spot] = {}
        self.marks: dict[TopicPartition, int] = {}
        self.wholeness = Wholeness()
        self._log = log
        self._counts = counts
        self._needle = b'"subject":' + orjson.dumps(conversation)

    async def run(self, contact: str | None, workspace: str) -> None:
        """Read both logs once, on the one partition where the records must be if that is known."""
        ends = {**await ends_of(self._log, ROUTING_LOG), **await ends_of(self._log, ASSIGNMENTS_LOG)}
        if contact is not None:  # then it is known on which partition its records are
            homes = {ROUTING_LOG: contact, ASSIGNMENTS_LOG: workspace}
            counts = {topic: await self._log.partition_count(topic) for topic in homes}
            ends = {
                place: end for place, end in ends.items()
                if place.partition == partition_of(homes[place.topic], counts[place.topic])
            }  # fmt: skip
        self._counts.total = sum(ends.values())
        for place, end in ends.items():
            async for stored in stream(self._log, place, end):
                self._take(stored)
                self._counts.step()
            self.wholeness.end(place, end, has_fenced=self._log.leaves_gaps)

    def _take(self, stored: StoredRecord) -> None:
        self.wholeness.see(stored)
        if stored.headers and stored.headers[-1][0] == MARK:
            self.marks[stored.place] = int(stored.headers[-1][1])
        value = stored.value or b""
        if self._needle in value:
            self._keep(seen(stored))
        elif _POLICY in value:
            found = seen(stored)
            if found.record.type == POLICY_RECORDED:
                self.policies.setdefault(found.data["version"], Spot(stored.place, stored.offset, 0, -1))

    def _keep(self, found: Seen) -> None:
        record = found.record
        if record.subject != self.conversation or not record.contact:
            return
        needs = ((found.data.get("input") or {}).get("origin") or {}).get("offset", -1)
        spot = Spot(found.stored.place, found.stored.offset, record.at_ms, needs)
        whose = record.workspace, record.contact
        self.wholeness.see_of(whose, found)
        self.found.setdefault(whose, []).append(spot)


def _merged(spots: list[Spot]) -> list[Spot]:
    """Both logs' records by time; what the assigner did because of a record comes after it, whatever the clocks say."""
    routing = deque(spot for spot in spots if spot.place.topic == ROUTING_LOG)
    assigning = [spot for spot in spots if spot.place.topic != ROUTING_LOG]
    merged: list[Spot] = []
    for spot in assigning:
        while routing and (routing[0].at_ms <= spot.at_ms or routing[0].offset <= spot.needs):
            merged.append(routing.popleft())
        merged.append(spot)
    return [*merged, *routing]


def _several(conversation: str, contacts: list[str]) -> str:
    shown = ", ".join(contacts[:CONTACTS_SHOWN_MAX])
    more = "" if len(contacts) <= CONTACTS_SHOWN_MAX else f" and {len(contacts) - CONTACTS_SHOWN_MAX} more"
    return f"{len(contacts)} contacts have a conversation {conversation}: say whose with --contact; {shown}{more}"


async def _elsewhere(log: Log, search: _Search, workspace: str, contact: str | None) -> str:
    """Where a conversation may be that the log does not have."""
    conversation = search.conversation
    whose = "" if contact is None else f" of contact {contact}"
    sentence = f"the log knows no conversation {conversation}{whose} in workspace {workspace}"
    if search.found:
        spaces = sorted({space for space, _ in search.found if space != workspace})
        if spaces:
            return f"{sentence}; it is in workspace {', '.join(spaces)}: add --workspace {spaces[0]}"
        contacts = sorted({who for _, who in search.found})
        return f"{sentence}; contact {', '.join(contacts[:CONTACTS_SHOWN_MAX])} has one: correct --contact"
    letter = await _dead_letter(log, conversation)
    if letter is not None:
        return f'{sentence}; {letter}: "vip-router dead-letters list" says more'
    waiting = await _undecided(log, conversation)
    if waiting is not None:
        return (
            f"{sentence}; an event at {waiting} names it: has serve decided it yet, or did it lie in another workspace?"
        )
    near = await _similar(log, conversation, workspace)
    if near:
        return f"{sentence}; did you mean {' or '.join(near)}?"
    return f"{sentence}, nor one like it, and no dead letter names it: was it published to this log?"


async def _dead_letter(log: Log, conversation: str) -> str | None:
    """The first dead letter whose original names the conversation."""
    needle = orjson.dumps(conversation)
    for place, end in (await ends_of(log, DEAD_LETTERS)).items():
        async for stored in stream(log, place, end, start=await log.start_offset(place)):
            try:
                letter = parse_dead_letter(stored)
            except BadInputError:
                continue
            if needle in (letter.value or b""):
                at = f"{letter.topic}/{letter.partition} at offset {letter.offset}"
                return f"an event that names it ({at}) could not be used, because of {letter.reason}"
    return None


async def _undecided(log: Log, conversation: str) -> str | None:
    needle = orjson.dumps(conversation)
    for place, end in (await ends_of(log, CONVERSATION_EVENTS)).items():
        async for stored in stream(log, place, end, start=await log.start_offset(place)):
            if needle in (stored.value or b""):
                return f"{place.topic}/{place.partition} offset {stored.offset}"
    return None


async def _similar(log: Log, conversation: str, workspace: str) -> list[str]:
    """The ids most like this one, the best first; keeps only as many as it returns."""
    best: list[tuple[float, str]] = []
    matcher = SequenceMatcher(b=conversation.casefold())
    for place, end in (await ends_of(log, ROUTING_LOG)).items():
        async for stored in stream(log, place, end):
            name = _subject_in(stored, workspace)
            if name is None or any(name == known for _, known in best):
                continue
            matcher.set_seq1(name.casefold())
            if matcher.real_quick_ratio() >= _SIMILAR and matcher.quick_ratio() >= _SIMILAR:
                ratio = matcher.ratio()
                if ratio >= _SIMILAR:
                    best = sorted([*best, (ratio, name)], reverse=True)[:SIMILAR_MAX]
    return [name for _, name in best]


def _subject_in(stored: StoredRecord, workspace: str) -> str | None:
    value = stored.value or b""
    subject, space = _SUBJECT.search(value), _WORKSPACE.search(value)
    if subject is None or space is None or _POLICY in value or orjson.loads(space[1]) != workspace:
        return None
    name: str = orjson.loads(subject[1])
    return name
