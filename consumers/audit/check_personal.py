"""The check that personal data stand in log records only under ``data.pii`` (DESIGN, "Personal data").

It looks for the values under ``data.pii`` elsewhere in the same record: addresses anywhere, names and texts as whole
values. What a producer put into an id of his own (an address as contact id) is his doing and not reported, and what the
policy does not mark as personal is not personal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from consumers.audit.checking import Partition, Rule, require
from consumers.audit.reading import Seen
from consumers.audit.report import BrokenError
from events.chain import Link

_TEXT_CHARS_MIN: Final = 3  #: shorter names are equal to too much
_ADDRESSES: Final = frozenset({"email", "answer_email"})
_OWN_WORDS: Final = frozenset({  # fields whose values are codes of ours, ids of agents, or the policy's choice
    "specversion", "type", "datacontenttype", "dataschema", "source", "time", "workspace", "policy", "prev", "at",
    "from", "to", "reason", "route", "route_reason", "strategy", "kind", "language", "email_source", "found", "sender",
    "opened_by", "agent", "team", "before", "after", "pool", "status",
})  # fmt: skip


class Personal(Rule):
    """E-mail addresses, names and answers stand in ``data.pii`` alone, and the text of an answer nowhere."""

    name = "personal data"

    def __init__(self, partition: Partition) -> None:
        del partition
        self.searched = 0  #: records that hold personal data

    def see(self, found: Seen, link: Link) -> None:
        """Search the record for what is personal in it."""
        del link
        told, personal = found.data.get("input"), found.data.get("pii")
        if isinstance(told, dict):
            self._check_input(told)
        if not personal:
            return
        self.searched += 1
        require("text" not in personal.get("input", {}), "the text of a message is kept", field="data.pii.input.text")
        addresses, texts = _values(personal)
        given = [text.casefold() for text in _given(found)]
        addresses = {value for value in addresses if not any(value in text for text in given)}
        for path, name, text in _leaves(found):
            folded = text.casefold()
            if name != "agent" and any(value in folded for value in addresses):
                raise BrokenError("an e-mail address of the contact stands outside data.pii", field=path)
            if text in texts and name not in _OWN_WORDS:
                raise BrokenError("a name or a text of the contact stands outside data.pii", field=path)
        self._check_variables(found.data, personal)

    def _check_input(self, told: dict[str, Any]) -> None:
        for name in ("text", "name", "email", "answer_email", "personal_variables"):
            if told.get("type") == "agent.updated" and name in {"name", "email"}:
                continue
            require(name not in told, "a personal field stands outside data.pii", field=f"data.input.{name}")
        opening = told.get("message")
        if isinstance(opening, dict):
            require("text" not in opening, "the text of a message is kept", field="data.input.message.text")

    def _check_variables(self, data: dict[str, Any], personal: dict[str, Any]) -> None:
        private = personal.get("input", {}).get("personal_variables", {})
        for place in ("input", "request"):
            leaked = sorted(set(private).intersection(data.get(place, {}).get("variables", {})))
            require(not leaked, "a personal CRM variable stands outside data.pii", field=f"data.{place}.variables")


def _values(personal: dict[str, Any]) -> tuple[set[str], set[str]]:
    """What is personal: addresses, in small letters, and whole texts."""
    addresses: set[str] = set()
    texts: set[str] = set()
    for path, name, text in _strings(personal, "pii"):
        if name in _ADDRESSES:
            addresses.add(text.casefold())
        elif len(text) >= _TEXT_CHARS_MIN and ".personal_variables." not in path:
            texts.add(text)
    return addresses, texts


def _given(found: Seen) -> Iterator[str]:
    """Ids and words that producers chose: they stand where the contract wants them."""
    record, told = found.record, found.data.get("input") or {}
    yield record.contact
    yield record.subject or ""
    yield str((found.data.get("cause") or {}).get("id"))
    for name in ("message_id", "source", "reply", "reason", "channel", "message"):
        yield from (text for _, _, text in _strings(told.get(name), name))
    yield from (text for _, _, text in _strings(found.data.get("channel"), "channel"))


def _leaves(found: Seen) -> Iterator[tuple[str, str, str]]:
    """Path, name and value of every text of a record outside ``data.pii``, its key included."""
    for name, value in found.event.items():
        if name != "data":
            yield from _strings(value, name)
    for name, value in found.data.items():
        if name != "pii":
            yield from _strings(value, f"data.{name}")
    yield "(key)", "", (found.stored.key or b"").decode(errors="replace")


def _strings(value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str):
        yield path, path.rpartition(".")[2], value
    elif isinstance(value, dict):
        for name, below in value.items():
            if name != "variables":  # the policy says which of them are personal
                yield from _strings(below, f"{path}.{name}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _strings(below, f"{path}[{index}]")
