"""What a lane needs of a decider: the shapes that both of ours (conversations and workspaces) share.

A decider is pure. ``decide`` turns an input into at most one log record, ``follow_up`` into the further ones that the
same input causes (one at a time, until None), ``evolve`` folds a record into the state.
Building the stored record around a ``Decision`` is ``events``' business, storing it the lane's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from routing.inputs import Event
from routing.policy import Policy

DECIDER_VERSION = 1  #: in every record; rises when the same input may lead to another decision


class Decision(Struct, frozen=True, kw_only=True):
    """One record to append.

    ``data`` is what the transition adds to the record beside the fields that every record has (``run``, ``seq``,
    ``prev``, ``cause``, ``input``, ``policy``, ``at``, ``decider``). ``pii`` holds what is personal of it.
    """

    type: str
    contact: str  #: empty in records of agents
    subject: str | None  #: the conversation's id; in records of agents the agent's; None: the contact itself
    run: int = 0
    seq: int  #: 1, 2, 3 ... per subject
    prev: str | None  #: ``sha256:<hex>`` of the subject's previous record as stored
    policy: str | None  #: the policy's version
    data: dict[str, Any]
    pii: dict[str, Any] = {}
    more: bool = False  #: True: ask ``follow_up``, the input may cause more records


class LogRecord(Struct, frozen=True, kw_only=True):
    """A record as ``evolve`` sees it: freshly decided or read back, there is no difference."""

    type: str
    workspace: str
    contact: str
    subject: str | None
    data: dict[str, Any]  #: the stored ``data``, whole, JSON values
    hash: str  #: ``sha256:<hex>`` of the stored bytes
    offset: int
    at_ms: int  #: ``now_ms`` of the decision


class Policies(Protocol):
    """The policies that a decider may use."""

    def current(self, workspace: str) -> Policy:
        """The policy that new conversations of ``workspace`` start with."""

    def pinned(self, version: str) -> Policy:
        """A policy that the log has recorded, by its version."""


class LaneState(Protocol):
    """The state of one partition and the decider over it, as the lane drives them.

    Changes made by ``evolve`` are provisional until ``confirm``; ``discard`` takes them back.
    """

    def read(self, event: Event, policies: Policies) -> Event:
        """The event with everything in it understood (``MessageReceived.answer``) and nothing kept that need not be."""

    def decide(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:
        """What ``event`` leads to; None: nothing (a duplicate, an answer that nobody waits for ...)."""

    def follow_up(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:
        """The next record that the same event causes, once the one before it was evolved; None: no further one."""

    def evolve(self, record: LogRecord) -> None:
        """Fold one record."""

    def confirm(self) -> Mapping[str, Struct | None]:
        """Make the changes final; returns the parts that changed by key (None: the part is gone)."""

    def discard(self) -> None:
        """Forget all changes since the last ``confirm``."""

    def next_due_ms(self) -> int | None:
        """When the earliest deadline passes; None: there is none. Cheap."""

    def due(self, now_ms: int, limit: int) -> list[Event]:
        """The deadlines that have passed at ``now_ms``, earliest first, at most ``limit``. Asking changes nothing."""

    def taken_over(self, now_ms: int) -> None:
        """A lane took over at this moment: no look-up's deadline fires before its full length from here."""

    def parts(self) -> Iterator[tuple[str, Struct]]:
        """Every part of the confirmed state, for a snapshot."""

    def load(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Put parts back that ``dump`` made, into an empty state."""

    def dump(self, part: Struct) -> bytes:
        """A part as snapshot bytes."""


PartT = TypeVar("PartT", bound=Struct)


class Parts(Generic[PartT]):
    """A dictionary of immutable parts whose changes stay provisional until they are confirmed.

    The changes are made in place and the values before them are kept, so that reading costs a plain look-up.
    """

    __slots__ = ("_before", "values")

    def __init__(self) -> None:
        self.values: dict[str, PartT] = {}
        self._before: dict[str, PartT | None] = {}

    def get(self, key: str) -> PartT | None:
        """The part as of now, provisional changes included."""
        return self.values.get(key)

    def put(self, key: str, part: PartT | None) -> None:
        """Set a part; None removes it."""
        if key not in self._before:
            self._before[key] = self.values.get(key)
        if part is None:
            self.values.pop(key, None)
        else:
            self.values[key] = part

    def confirm(self) -> dict[str, PartT | None]:
        """Make the changes final and return them."""
        changed = {key: self.values.get(key) for key in self._before}
        self._before.clear()
        return changed

    def discard(self) -> list[str]:
        """Put the values before the changes back; returns the keys concerned."""
        keys = list(self._before)
        for key, part in self._before.items():
            if part is None:
                self.values.pop(key, None)
            else:
                self.values[key] = part
        self._before.clear()
        return keys
