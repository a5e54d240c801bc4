"""What producers write: random conversations of a few contacts, the coming and going of agents, and junk.

All input types of the contract come up, each contact's in their order; producers repeat themselves, late, and some of
them have a foreign partitioner. Which records these are is fixed by the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from random import Random
from typing import Any, Final, NamedTuple

WORKSPACES: Final = (None, None, None, "other")
OWNERS: Final = ("anna", "maya", "sam", "zoe", "stranger")
TEAMS: Final = ("support", "vip-desk", "managers")
NOT_ADDRESSES: Final = ("no thanks", "what?", "a@b.co and c@d.co", "ann at example dot com", "")


class Said(NamedTuple):
    """One event that a producer publishes ``after_s`` its previous one. ``value`` None: it is an event, else junk."""

    after_s: float
    type: str
    id: str
    contact: str  #: empty: it concerns agents
    workspace: str | None
    subject: str | None
    data: dict[str, Any]
    junk: bytes | None = None


class Script:
    """The life of one contact, written line by line."""

    def __init__(self, rng: Random, contact: str, gap_s: float) -> None:
        self.rng = rng
        self.contact = contact
        self.gap_s = gap_s
        self.workspace = rng.choice(WORKSPACES)
        self.lines: list[Said] = []
        self._ids = count(1)
        self._conversations = [f"{contact}v1"]

    def say(self, type: str, data: dict[str, Any], *, subject: str | None, after_s: float | None = None) -> None:
        """Add an event."""
        wait_s = self.rng.choice((0.0, 0.1, 1.0)) * self.gap_s * self.rng.random() if after_s is None else after_s
        name = f"{self.contact}e{next(self._ids)}"
        self.lines.append(Said(wait_s, type, name, self.contact, self.workspace, subject, data))

    def opened(self, conversation: str, **more: Any) -> None:
        rng = self.rng
        contact: dict[str, Any] = {"id": self.contact, "language": rng.choice(["en", "fr", "pt-BR", "xx"])}
        if rng.random() < 0.35:
            contact["email"] = f"{self.contact}@example.com"
        if rng.random() < 0.3:
            contact["name"] = "Ann"
        data: dict[str, Any] = {
            "contact": contact,
            "channel": {"id": "w", "type": rng.choice(["whatsapp"] * 9 + ["letter"])},
        }
        if rng.random() < 0.2:
            text = rng.choice(["hello", f"hi, I am {self.contact}@example.org"])
            data["message"] = {"id": f"{conversation}m0", "text": text}
        if rng.random() < 0.1:
            data["opened_by"] = rng.choice(["user", "workflow", "martian"])
        if rng.random() < 0.07:
            data["agent"] = rng.choice(OWNERS)
        self.say("conversation.opened", {**data, **more}, subject=conversation)

    def message(self, conversation: str | None, text: str | None, **more: Any) -> None:
        data: dict[str, Any] = {"message_id": f"{self.contact}m{len(self.lines)}", **more}
        if text is not None:
            data["text"] = text
        self.say("message.received", data, subject=conversation)

    def invalid_answers(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self.message(self.conversation(), self.rng.choice(NOT_ADDRESSES))

    def valid_answer(self) -> None:
        self.message(self.conversation(), f"sure, {self.contact}@example.net!")

    def stop_word(self) -> None:
        self.message(self.conversation(), " STOP ")

    def reaction(self) -> None:
        self.message(self.conversation(), "👍", kind="reaction")

    def voice_note(self) -> None:
        self.message(self.conversation(), None, kind="audio")

    def edit(self) -> None:
        text = self.rng.choice([*NOT_ADDRESSES, f"{self.contact}@example.com"])
        self.message(self.conversation(), text, message_id=f"{self.contact}m{self.rng.randint(0, len(self.lines))}")

    def agent_writes(self) -> None:
        sender = self.rng.choice(["agent", "agent", "bot", "system"])
        self.message(self.conversation(), "hello", sender=sender, agent=self.rng.choice(OWNERS))

    def contact_updated(self) -> None:
        patch: dict[str, Any] = {"id": self.contact}
        if self.rng.random() < 0.5:
            patch["email"] = self.rng.choice([f"{self.contact}@example.com", "x@example.org", None])
        if self.rng.random() < 0.5:
            patch["name"] = self.rng.choice(["Ann", "Bob", None])
        if self.rng.random() < 0.3:
            patch["language"] = self.rng.choice(["ar", "id", None])
        self.say("contact.updated", {"contact": patch}, subject=None)

    def assignee_changed(self) -> None:
        data = {"agent": self.rng.choice([*OWNERS, None, None])}
        self.say("assignee.changed", data, subject=self.conversation())

    def closed(self) -> None:
        self.say("conversation.closed", {"reason": "done"}, subject=self.conversation())

    def reopened(self) -> None:
        self.opened(self.conversation() or self._conversations[0])

    def second_conversation(self) -> None:
        self._conversations.append(f"{self.contact}v{len(self._conversations) + 1}")
        self.opened(self._conversations[-1])

    def reply_failed(self) -> None:
        conversation = self._conversations[-1]
        reply = f"{self.contact}/{conversation}/{self.rng.randint(1, 3)}/1"
        self.say("reply.failed", {"reply": reply, "reason": "no such number"}, subject=conversation)

    def unheard_of(self) -> None:
        self.message(f"{self.contact}v99", f"{self.contact}@example.com")

    def junk(self) -> None:
        rng = self.rng
        self.say(rng.choice(["message.sent", "conversation.opened"]), {}, subject=None)
        junk = rng.choice([b"{", b"", b"[1]", b'{"specversion":"1.0"}', b"\xff"])
        self.lines.append(self.lines[-1]._replace(junk=junk, id=f"{self.lines[-1].id}junk"))

    def unknown_workspace(self) -> None:
        self.message(self.conversation(), "hello")
        self.lines[-1] = self.lines[-1]._replace(workspace="nowhere", contact=f"{self.contact}n")

    def conversation(self) -> str | None:
        """One of the contact's conversations; sometimes not named."""
        latest = self._conversations[-1]
        return None if self.rng.random() < 0.1 else self.rng.choice([latest, latest, *self._conversations])

    def arc(self) -> None:
        """A conversation as most of them are: opened, answered in some way, and now and then closed."""
        rng = self.rng
        self.opened(self._conversations[-1])
        for step in rng.choice(ARCS):
            step(self)
        if rng.random() < 0.4:
            self.closed()


ARCS: Final = (
    (), (Script.valid_answer,), (Script.invalid_answers,), (Script.invalid_answers, Script.valid_answer),
    (Script.voice_note, Script.reaction, Script.valid_answer), (Script.stop_word,), (Script.contact_updated,),
    (Script.invalid_answers, Script.edit), (Script.agent_writes,), (Script.second_conversation, Script.valid_answer),
)  # fmt: skip
STEPS: Final = (
    (Script.invalid_answers, 6), (Script.valid_answer, 5), (Script.closed, 5), (Script.second_conversation, 2),
    (Script.reopened, 3), (Script.assignee_changed, 3), (Script.contact_updated, 3), (Script.stop_word, 1),
    (Script.reaction, 1), (Script.voice_note, 1), (Script.edit, 2), (Script.agent_writes, 1), (Script.reply_failed, 1),
    (Script.unheard_of, 1), (Script.junk, 1), (Script.unknown_workspace, 1),
)  # fmt: skip


def contact_script(rng: Random, contact: str, *, steps: int, gap_s: float) -> list[Said]:
    """What becomes of one contact."""
    script = Script(rng, contact, gap_s)
    if rng.random() < 0.9:
        script.arc()
    kinds, weights = zip(*STEPS, strict=True)
    for step in rng.choices(kinds, weights, k=steps):
        step(script)
    return script.lines


def _more_of(rng: Random) -> dict[str, Any]:
    """What an agent's record may say beside teams and room."""
    more: dict[str, Any] = {"weight": rng.choice([1, 1, 2])}
    if rng.random() < 0.5:
        more["languages"] = rng.choice([["en"], ["fr", "pt"], ["pt-BR", "EN"]])
    if rng.random() < 0.2:
        more["wrap_up_s"] = rng.choice([0, 10])
    return more


def agents_script(rng: Random, *, agents: int, steps: int, gap_s: float) -> list[Said]:
    """The first ``agents`` of ``OWNERS`` come, change, go away and leave."""
    return list(islice(_agents(rng, agents, gap_s), agents + steps))


def _agents(rng: Random, agents: int, gap_s: float) -> Iterator[Said]:
    for number in count(1):
        first = number <= agents
        agent = OWNERS[number - 1] if first else rng.choice(OWNERS[:agents])
        kind = "updated" if first else rng.choices(["updated", "presence", "removed", "accepted"], [4, 6, 1, 1])[0]
        data: dict[str, Any] = {}
        type_ = f"agent.{kind}"
        if kind == "updated":
            data = {"teams": rng.sample(TEAMS, rng.randint(1, 3)), "email": f"{agent}@firm.example"}
            if rng.random() < 0.6:
                data["max_open"] = rng.choice([0, 1, 1, 2, 3])
            data |= _more_of(Random(f"{agent} {number} {len(data)}"))
        elif kind == "presence":
            data = {"status": rng.choice(["online", "online", "away", "offline", "asleep"])}
        elif kind == "accepted":
            type_ = "assignment.accepted"
            data = {"conversation": "k1v1", "contact": {"id": "k1"}, "token": "t"}
        wait_s = 0.0 if first else rng.random() * gap_s
        yield Said(wait_s, type_, f"a{number}", "", rng.choice(WORKSPACES), agent, data)
