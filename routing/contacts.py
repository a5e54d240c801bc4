"""The conversations of one partition: every contact's state, the decider over it, and the deadlines' index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from sys import intern

import msgspec
from msgspec.structs import replace

from routing import conversation as rules
from routing.answers import read_answer
from routing.contact import Contact, Conversation, Deadline, evolve
from routing.decider import Decision, LogRecord, Parts, Policies
from routing.inputs import Answer, Cause, DeadlineKind, DeadlinePassed, Event, MessageReceived, Opened

NO_STOP_WORDS: frozenset[str] = frozenset()


class Contacts:
    """``LaneState`` of the router. One ``Contact`` is one part; its key is ``<workspace>/<contact id>``.

    The heap is only an index of the deadlines in the state: an entry may be stale or too early, never too late.
    """

    def __init__(self) -> None:
        self._parts: Parts[Contact] = Parts()
        self._heap: list[tuple[int, str]] = []
        self._indexed: dict[str, int] = {}  # per contact the earliest entry that the heap holds
        self._taken_over_ms = 0
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Contact)

    def contact(self, workspace: str, contact_id: str) -> Contact:
        """The state of a contact; a new one for somebody unheard of."""
        found = self._parts.values.get(f"{workspace}/{contact_id}")
        return Contact(workspace=workspace, id=contact_id) if found is None else found

    # --- LaneState ---

    def read(self, event: Event, policies: Policies) -> Event:
        """Look for an address in a message where one is missing; drop the text.

        Raises ``InputRefusedError`` for an unheard-of contact of a workspace that has no policy.
        """
        if f"{event.workspace}/{event.contact}" not in self._parts.values:
            policies.current(event.workspace)
        body = event.body
        if isinstance(body, MessageReceived):
            return self._read_message(event, body, policies)
        if isinstance(body, Opened) and body.message is not None:
            return self._read_opening(event, body)
        return event

    def decide(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:
        """See ``routing.conversation.decide``."""
        return rules.decide(self.contact(event.workspace, event.contact), event, policies, now_ms)

    def follow_up(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:
        """See ``routing.conversation.follow_up``."""
        return rules.follow_up(self.contact(event.workspace, event.contact), policies, now_ms)

    def evolve(self, record: LogRecord) -> None:
        """Fold one record."""
        key = f"{record.workspace}/{record.contact}"
        before = self._parts.values.get(key)
        if before is None:
            before = Contact(workspace=intern(record.workspace), id=record.contact)
        self._parts.put(key, evolve(before, record))

    def confirm(self) -> dict[str, Contact | None]:
        """Make the changes final and return them; from now on their deadlines count."""
        changed = self._parts.confirm()
        for key, contact in changed.items():
            if contact is not None:
                self._index(key, contact)
        return changed

    def discard(self) -> None:
        """Forget the changes."""
        self._parts.discard()

    def next_due_ms(self) -> int | None:
        """When the earliest deadline passes."""
        while self._heap:
            due_ms, key = self._heap[0]
            if self._indexed.get(key) != due_ms:  # another entry speaks for this contact
                heappop(self._heap)
                continue
            contact = self._parts.get(key)
            actual_ms = None if contact is None else self._contact_due_ms(contact)
            if actual_ms == due_ms:
                return due_ms
            heappop(self._heap)
            del self._indexed[key]
            if contact is not None:
                self._index(key, contact)
        return None

    def due(self, now_ms: int, limit: int) -> list[Event]:
        """The deadlines that have passed, earliest contact first."""
        events: list[Event] = []
        taken: list[tuple[int, str]] = []
        while len(events) < limit and (due_ms := self.next_due_ms()) is not None and due_ms <= now_ms:
            entry = heappop(self._heap)
            taken.append(entry)
            events.extend(self._passed(self._parts.values[entry[1]], now_ms))
            del self._indexed[entry[1]]
        for due_ms, key in taken:  # they stay due until a record says otherwise
            heappush(self._heap, (due_ms, key))
            self._indexed[key] = due_ms
        return events

    def taken_over(self, now_ms: int) -> None:
        """From here on every look-up under way is given its full time."""
        self._taken_over_ms = now_ms
        self._indexed = {}
        self._heap = []
        for key, contact in self._parts.values.items():
            if (due_ms := self._contact_due_ms(contact)) is not None:
                self._indexed[key] = due_ms
                self._heap.append((due_ms, key))
        heapify(self._heap)

    def parts(self) -> Iterator[tuple[str, Contact]]:
        """Every contact."""
        return iter(self._parts.values.items())

    def load(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Put contacts back that ``dump`` made."""
        for key, value in parts:
            self._parts.values[key] = self._decoder.decode(value)

    def dump(self, part: msgspec.Struct) -> bytes:
        """A contact as JSON."""
        return self._encoder.encode(part)

    # --- pieces ---

    def _read_message(self, event: Event, body: MessageReceived, policies: Policies) -> Event:
        if body.text is None and body.sender != "contact":
            return event
        contact = self.contact(event.workspace, event.contact)
        name = event.conversation or (contact.open[-1] if contact.open else None)
        conversation = None if name is None else contact.conversations.get(name)
        asking = conversation is not None and conversation.is_asking
        if body.sender != "contact" or not (asking or contact.email is None):
            return _with_body(event, replace(body, text=None))
        words = NO_STOP_WORDS
        if conversation is not None and asking:
            words = policies.pinned(str(conversation.policy)).email.stop_words
        reading = read_answer(body.text, stop_words=words)
        answer = Answer(found=reading.found)
        return _with_body(event, replace(body, text=None, answer=answer, answer_email=reading.email))

    def _read_opening(self, event: Event, body: Opened) -> Event:
        assert body.message is not None
        contact = self.contact(event.workspace, event.contact)
        if body.email is not None or contact.email is not None:
            return _with_body(event, replace(body, message=replace(body.message, text=None)))
        reading = read_answer(body.message.text, stop_words=NO_STOP_WORDS)
        message = replace(body.message, text=None, answer=Answer(found=reading.found))
        return _with_body(event, replace(body, message=message, answer_email=reading.email))

    def _index(self, key: str, contact: Contact) -> None:
        due_ms = self._contact_due_ms(contact)
        if due_ms is None:
            return
        indexed = self._indexed.get(key)
        if indexed is None or due_ms < indexed:
            self._indexed[key] = due_ms
            heappush(self._heap, (due_ms, key))

    def _deadline_due_ms(self, deadline: Deadline) -> int:
        if deadline.kind == "crm":
            return max(deadline.due_ms, self._taken_over_ms + deadline.length_ms)
        return deadline.due_ms

    def _contact_due_ms(self, contact: Contact) -> int | None:
        earliest: int | None = None
        for name in contact.open:
            conversation = contact.conversations[name]
            due_ms = conversation.forget_due_ms
            if conversation.deadline is not None:
                due_ms = min(due_ms, self._deadline_due_ms(conversation.deadline))
            if earliest is None or due_ms < earliest:
                earliest = due_ms
        return earliest

    def _passed(self, contact: Contact, now_ms: int) -> Iterator[Event]:
        for name in contact.open:
            conversation = contact.conversations[name]
            deadline = conversation.deadline
            if deadline is not None and (due_ms := self._deadline_due_ms(deadline)) <= now_ms:
                yield _deadline_event(contact, conversation, deadline.kind, deadline.seq, due_ms)
            elif conversation.forget_due_ms <= now_ms:
                seq = conversation.heard_seq
                yield _deadline_event(contact, conversation, "forget", seq, conversation.forget_due_ms)


def _with_body(event: Event, body: MessageReceived | Opened) -> Event:
    return replace(event, body=body)


def _deadline_event(contact: Contact, conversation: Conversation, kind: DeadlineKind, seq: int, due_ms: int) -> Event:
    return Event(
        workspace=contact.workspace,
        contact=contact.id,
        conversation=conversation.id,
        source=f"/vip-router/{contact.workspace}/clock",
        time_ms=due_ms,
        cause=Cause(id=f"deadline/{kind}/{seq}"),
        body=DeadlinePassed(kind=kind, seq=seq),
    )
