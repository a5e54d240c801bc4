"""Two orders over things that come and go: who waits for a pool, and which deadline is next.

Both are heaps with a dictionary that says what is current: removing costs a dictionary look-up, what it leaves in the
heap is dropped when it reaches the top, or all at once when it outweighs the rest.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from routing.inputs import DeadlineKind
from routing.workspace_parts import ConversationId

_SLACK: Final = 64  #: entries that may be out of date before a heap is built anew

Place = tuple[int, int, int]


class WaitingQueue:
    """The conversations that wait for one pool, first come first served inside a class."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[Place, ConversationId]] = []
        self._live: dict[ConversationId, Place] = {}

    def __len__(self) -> int:
        return len(self._live)

    def add(self, conversation: ConversationId, place: Place) -> None:
        """Put a conversation at its place, or move it there."""
        if self._live.get(conversation) != place:
            self._live[conversation] = place
            heappush(self._heap, (place, conversation))
            self._tidy()

    def remove(self, conversation: ConversationId) -> None:
        """Take a conversation out; nothing happens if it is not there."""
        if self._live.pop(conversation, None) is not None:
            self._tidy()

    def head(self) -> tuple[Place, ConversationId] | None:
        """Who is next, with the place; None: nobody waits."""
        return self._heap[0] if self._heap else None

    def _tidy(self) -> None:
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        if len(heap) > 2 * len(live) + _SLACK:
            heap[:] = [(place, conversation) for conversation, place in live.items()]
            heapify(heap)


class Due(NamedTuple):
    """A deadline of a waiting conversation; ordered by time."""

    due_ms: int
    workspace: str
    conversation: ConversationId
    kind: DeadlineKind
    seq: int  #: the record that armed it


class DeadlineQueue:
    """The deadlines of all waiting conversations of a partition."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[Due] = []
        self._live: dict[tuple[str, ConversationId], tuple[Due, ...]] = {}

    def arm(self, workspace: str, conversation: ConversationId, deadlines: tuple[Due, ...]) -> None:
        """Replace a conversation's deadlines; an empty tuple takes them away."""
        key = (workspace, conversation)
        before = self._live.get(key, ())
        if before == deadlines:
            return
        if deadlines:
            self._live[key] = deadlines
        else:
            del self._live[key]
        for due in deadlines:
            heappush(self._heap, due)
        self._tidy()

    def next_due_ms(self) -> int | None:
        """When the earliest passes; None: there is none."""
        return self._heap[0].due_ms if self._heap else None

    def passed(self, now_ms: int, limit: int) -> list[Due]:
        """At most ``limit`` that have passed, earliest first; they stay where they are."""
        found: list[Due] = []
        while self._heap and self._heap[0].due_ms <= now_ms and len(found) < limit:
            due = heappop(self._heap)
            if self._current(due) and (not found or found[-1] != due):
                found.append(due)
        for due in found:
            heappush(self._heap, due)
        return found

    def _current(self, due: Due) -> bool:
        return due in self._live.get((due.workspace, due.conversation), ())

    def _tidy(self) -> None:
        heap = self._heap
        while heap and not self._current(heap[0]):
            heappop(heap)
        if len(heap) > 4 * len(self._live) + _SLACK:
            heap[:] = [due for deadlines in self._live.values() for due in deadlines]
            heapify(heap)
