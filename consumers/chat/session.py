"""One chat: what is typed becomes events, what comes of them is said, and a script waits for it before it goes on."""

from __future__ import annotations

import asyncio
from typing import Final

from consumers.chat.contact import ContactEvents, Sent
from consumers.chat.seen import ROUTED, TOPICS, Say, Seen
from consumers.chat.typed import Typed
from consumers.publisher import publish_all
from events.log import Log, Reader, StoredRecord, TopicPartition
from events.topics import DEAD_LETTERS
from routing.answers import normalise_email

SETTLE_S: Final = 30.0  #: so long a script waits for what comes of a line
FETCH_RECORDS: Final = 100
HELP: Final = (
    "What you write goes out as the contact's message; the first one opens the conversation, one after its end opens",
    "it again. Besides:",
    "  /email ADDRESS  somebody enters the address into the contact's record",
    "  /agent NAME     an agent takes the conversation by hand",
    "  /close          the conversation is closed",
    "  /quit           end (or Ctrl-D); the conversation stays as it is",
    "  //...           a message that begins with a slash",
)


class NotSettledError(Exception):
    """Nothing, or not enough, came of a line of a script in time, or it ended among the dead letters."""


class Session:
    """A contact's conversation, from the first line to the last."""

    def __init__(self, log: Log, contact: ContactEvents, say: Say) -> None:
        self._log = log
        self._contact = contact
        self._say = say
        self._seen = Seen(contact.person.id, say)
        self._moved = asyncio.Event()
        self._is_open = False
        self._opening = ""  #: the id of the event that opened it last; refused, the next line is one again

    async def reader(self) -> Reader:
        """A reader for ``follow``, from the log's present ends on: to be made before anything is sent."""
        letters = self._contact.partition % await self._log.partition_count(DEAD_LETTERS)
        places = [TopicPartition(each, letters if each == DEAD_LETTERS else self._contact.partition) for each in TOPICS]
        return self._log.reader({place: await self._log.end_offset(place) for place in places})

    async def follow(self, reader: Reader) -> None:
        """Say what comes, until cancelled."""
        while True:
            records = list(await reader.fetch(records_max=FETCH_RECORDS, timeout_s=None))
            while more := await reader.fetch(records_max=FETCH_RECORDS, timeout_s=0):
                records += more  # what follows from a record may be read before it, but not long before
            for record in sorted(records, key=_in_order):
                self._seen.take(record)
            if self._seen.state == "closed" or self._seen.refusal(self._opening) is not None:
                self._is_open = False
            self._moved.set()

    async def converse(self, typed: Typed) -> None:
        """Send what is typed until it ends. Raises ``NotSettledError`` for scripts, which wait for each effect."""
        while (line := await typed.next()) is not None:
            if line.strip() == "/quit":
                return
            if not typed.is_terminal and line.strip():
                self._say("you", line)
            sent = self._event(line.strip())
            if sent is None:
                continue
            was_routed = self._seen.state in ROUTED
            await publish_all(self._log, [sent.record])
            if not typed.is_terminal:
                await self._until_settled(sent, is_silent=was_routed and not line.startswith("/"))

    def _event(self, line: str) -> Sent | None:
        """What a line makes happen; None: nothing that leaves this terminal."""
        if line.startswith("/") and not line.startswith("//"):
            return self._command(line)
        text = line.removeprefix("/")
        if not text:
            return None
        if self._is_open:
            return self._contact.said(text)
        self._is_open = True
        sent = self._contact.opened(text)
        self._opening = sent.id
        return sent

    def _command(self, line: str) -> Sent | None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "/email":
            address = normalise_email(rest) if rest else None
            if address is not None:
                return self._contact.updated(address)
            self._say("help", "write /email and an address that can exist, such as ann@example.com")
        elif word in {"/agent", "/close"} and not self._is_open:
            self._say("help", "there is no open conversation: write something first")
        elif word == "/agent" and rest:
            return self._contact.taken(rest)
        elif word == "/close":
            self._is_open = False
            return self._contact.closed()
        else:
            for sentence in HELP:
                self._say("help", sentence)
        return None

    async def _until_settled(self, sent: Sent, *, is_silent: bool) -> None:
        """Wait until an event has had its effect; messages to an owner (``is_silent``) need not have any."""
        try:
            async with asyncio.timeout(SETTLE_S):
                while not self._is_done(sent, is_silent=is_silent):
                    if (why := self._seen.refusal(sent.id)) is not None:
                        raise NotSettledError(f"the router put it among the dead letters: {why}")
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise NotSettledError(
                f"nothing more came within {SETTLE_S:.0f} s: is a serve with all roles at work on this log, and is "
                "there somebody to assign to?"
            ) from None

    def _is_done(self, sent: Sent, *, is_silent: bool) -> bool:
        if not is_silent and not self._seen.has_taken(sent.id):
            return False
        return self._seen.is_settled() or self._seen.state is None  # a patch of the record before the first message


def _in_order(record: StoredRecord) -> tuple[int, int, int]:
    """What causes something stands before it, also within a millisecond."""
    return record.time_ms, TOPICS.index(record.topic), record.offset
