"""Waiting in line: a bounded number go on at a time, the others follow in the order of their coming.

Like ``asyncio.Semaphore``, but leaving the line costs the same wherever one stands: a hundred thousand may have to
leave it in the same second, when their deadlines pass.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Slots:
    """At most ``count_max`` hold a slot. ``enter`` waits for one, ``leave`` gives it back."""

    __slots__ = ("_count_max", "_line", "taken")

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._line: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.taken = 0

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    async def enter(self) -> None:
        """Wait for a slot; raises nothing but the cancellation of the task."""
        if not self._line and self._may_enter():
            self._take()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[turn] = None
        self._advance()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._line:
                del self._line[turn]
            elif not turn.cancelled():  # its turn had come
                self.leave()
            raise

    def leave(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._advance()

    def _may_enter(self) -> bool:
        """Whether the next in line may go on now. Where it may not, something has to call ``_advance`` later."""
        return self.taken < self._count_max

    def _take(self) -> None:
        self.taken += 1

    def _advance(self) -> None:
        while self._line and self._may_enter():
            turn, _ = self._line.popitem(last=False)
            if not turn.done():
                self._take()
                turn.set_result(None)
