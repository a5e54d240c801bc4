"""Deterministic names of what we write: event ids and sources.

Every part is percent-encoded as RFC 3986 has it for data (all but letters, digits and ``-._~``), so that ``/`` only
ever separates and a name can be taken apart again. Which parts an id gets is decided by whoever writes the event.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

_plain: Final = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_number: Final = re.compile(r"0|[1-9][0-9]{0,18}").fullmatch
_EVENT_ID_PARTS: Final = 4


class EventId(NamedTuple):
    """The parts of an id of ours. ``contact`` is empty in records of agents, ``subject`` in those of a contact."""

    contact: str
    subject: str
    seq: int
    n: int  #: 0 is the log record itself, 1, 2, 3 ... its outputs


@lru_cache(maxsize=65_536)  # a contact and a conversation are written many times in a row
def encode_part(text: str) -> str:
    """One part of a name, percent-encoded; plain text comes back as it is."""
    return text if _plain(text) is not None else quote(text, safe="")


def decode_part(part: str) -> str:
    """What ``encode_part`` made ``part`` of; ``ValueError`` if it makes nothing into that."""
    text = unquote(part, errors="strict") if "%" in part else part
    if encode_part(text) != part:
        raise ValueError("not percent-encoded as our ids are")
    return text


def event_id(contact: str, subject: str | None, seq: int, n: int) -> str:
    """``<contact>/<subject>/<seq>/<n>``: the id of a log record (``n`` 0) or of its ``n``-th output."""
    return f"{encode_part(contact)}/{encode_part(subject or '')}/{seq}/{n}"


def parse_event_id(text: str) -> EventId:
    """Take an id apart that ``event_id`` made; ``ValueError`` for any other."""
    parts = text.split("/")
    if len(parts) != _EVENT_ID_PARTS or _number(parts[2]) is None or _number(parts[3]) is None:
        raise ValueError("no id of ours: <contact>/<conversation>/<seq>/<n>, each part percent-encoded")
    return EventId(decode_part(parts[0]), decode_part(parts[1]), int(parts[2]), int(parts[3]))


def crm_answer_id(contact: str, conversation: str, seq: int) -> str:
    """``<contact>/<conversation>/<seq>/crm``: the answer to the look-up that record ``seq`` asked for."""
    return f"{encode_part(contact)}/{encode_part(conversation)}/{seq}/crm"


def dead_letter_id(topic: str, partition: int, offset: int) -> str:
    """``<topic>/<partition>/<offset>``: where the record stands that could not be used."""
    return f"{encode_part(topic)}/{partition}/{offset}"


def routing_source(workspace: str) -> str:
    """CloudEvents ``source`` of what the router writes."""
    return f"/vip-router/{encode_part(workspace)}/routing"


def assignments_source(workspace: str) -> str:
    """CloudEvents ``source`` of what the assigner writes."""
    return f"/vip-router/{encode_part(workspace)}/assignments"


def crm_source(workspace: str) -> str:
    """CloudEvents ``source`` of what the CRM consumer writes."""
    return f"/vip-router/{encode_part(workspace)}/crm"


DEAD_LETTERS_SOURCE: Final = "/vip-router/dead-letters"  #: a dead letter's workspace is not always known
