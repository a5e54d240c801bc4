"""What a look-up asks and how it can end: the words that the CRM role's parts share.

Addresses, secrets and what a CRM said stand in no error and no repr of this module.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

BODY_BYTES_MAX: Final = 1024 * 1024  #: of an answer

#: Every reason that a look-up can fail for, and what it means. ``http-<status>`` stands for each status but the 2xx
#: (a redirect is never followed) and but a 404 where the policy's ``crm.not_found`` says ``regular``.
REASONS: Final = {
    "time-out": "no whole answer within crm.timeout, in the last attempt",
    "deadline": "crm.deadline passed during an attempt, while waiting for one, or before the first",
    "dns": "the host name has no address",
    "refused": "nobody listens at the address",
    "tls": "no TLS connection: wrong certificate or host, or the handshake failed",
    "connection": "the connection could not be made or broke, or what came was not HTTP",
    "forbidden-address": "the host is at an address that must not be asked; crm.allow_networks lists those that may",
    "http-<status>": "the CRM answered with this status",
    "too-large": f"the answer has more than {BODY_BYTES_MAX:,} bytes",
    "encoded": "the answer is compressed, which was not asked for",
    "not-json": "the answer is not JSON (NaN and invalid UTF-8 included), or nested too deeply",
    "wrong-type": "the answer is neither an object nor an array",
    "unusable-request": "the request cannot be built from this contact's ids and address",
    "missing-secret": "a secret that the policy names is missing or unusable",
    "unusable-policy": "the policy that the conversation is pinned to cannot be read from the log",
    "overloaded": "too many look-ups of the workspace wait already",
    "fault": "a fault of ours; its kind and place are in the program log",
}


class LookUp(Struct, frozen=True, kw_only=True, gc=False):
    """A question to the CRM. ``deadline_ms`` is when nobody waits for the answer any more, Unix milliseconds."""

    workspace: str
    contact: str
    conversation: str
    lookup_id: str
    email: str
    deadline_ms: int

    def __repr__(self) -> str:
        return f"LookUp(deadline_ms={self.deadline_ms})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("deadline_ms", self.deadline_ms)]


class Answered(Struct, frozen=True, kw_only=True):
    """The CRM answered. A variable that the answer does not have, or not as a usable value, is absent."""

    status: int
    variables: dict[str, Any]
    personal: dict[str, Any]  #: the variables that the policy marks as personal
    notes: dict[str, str]  #: why a variable is absent, by its name
    attempts: int  #: 0: the cache had it
    latency_ms: int  #: the whole look-up, waits included
    age_ms: int | None = None  #: how long ago the CRM said so, if the cache had it

    def __repr__(self) -> str:
        return f"Answered(status={self.status}, attempts={self.attempts})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("attempts", self.attempts)]


class Failed(Struct, frozen=True, kw_only=True):
    """There is no answer. ``reason`` is one of ``REASONS``; ``status`` the last one that the CRM gave, if any."""

    reason: str
    status: int | None = None
    attempts: int


class TroubleError(Exception):
    """An attempt without an answer. Carries nothing of what was asked or answered but the status."""

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retriable: bool = False,
        unsent: bool = False,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason  #: one of ``REASONS``
        self.status = status
        self.retriable = retriable  #: it may pass by itself
        self.unsent = unsent  #: the CRM has certainly not worked on the request
        self.retry_after_s = retry_after_s  #: the CRM asked to be left alone for so long
