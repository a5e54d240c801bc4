"""Look-ups that failed and are kept trying while their conversations go on without the answer.

They are few at a time, so that they never take a place from one that somebody waits for, and cost little while they
wait: a heap, not a task each. When a new conversation is looked up, and what an answer leads to, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Final, NamedTuple

from consumers.crm.asks import Ask
from consumers.crm.outcomes import Answered, Failed

LATE_IN_FLIGHT_MAX: Final = 8
PAUSE_FIRST_MS: Final = 5_000  #: before the first new try; it doubles
PAUSE_MAX_MS: Final = 300_000
LOOK_MAX_S: Final = 1.0  #: so long until an ask that came meanwhile is seen

LookUpOnce = Callable[[Ask], Awaitable[Answered | Failed]]
Ended = Callable[[Ask, Answered | None], None]  #: called once for each ask; None: its time is over


class _Pending(NamedTuple):
    due_ms: int
    number: int  #: tells asks apart that are due at the same time
    tries: int
    ask: Ask


class LateLookUps:
    """Tries each ask again and again, with growing pauses, until it is answered or its deadline has passed.

    ``clock`` gives Unix milliseconds, ``sleep`` waits for seconds, ``random_fraction`` gives [0, 1) for the jitter.
    """

    def __init__(
        self,
        look_up: LookUpOnce,
        ended: Ended,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        random_fraction: Callable[[], float],
    ) -> None:
        self._look_up = look_up
        self._ended = ended
        self._clock = clock
        self._sleep = sleep
        self._random_fraction = random_fraction
        self._pending: list[_Pending] = []
        self._some = asyncio.Event()
        self._slots = asyncio.Semaphore(LATE_IN_FLIGHT_MAX)
        self._number = 0

    def __len__(self) -> int:
        """How many wait for their next try."""
        return len(self._pending)

    def add(self, ask: Ask) -> None:
        """Keep trying from now on: it has just failed."""
        self._put(ask, 0)

    async def run(self) -> None:
        """Try what is due; ends only by being cancelled, or with what a try raises."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._some.wait()
                wait_ms = self._pending[0].due_ms - self._clock()
                if wait_ms > 0:
                    await self._sleep(min(wait_ms / 1000, LOOK_MAX_S))
                    continue
                await self._slots.acquire()
                pending = heappop(self._pending)
                if not self._pending:
                    self._some.clear()
                tasks.create_task(self._try(pending))

    async def _try(self, pending: _Pending) -> None:
        ask = pending.ask
        try:
            outcome = None if self._is_over(ask) else await self._look_up(ask)
        finally:
            self._slots.release()
        if isinstance(outcome, Answered):
            self._ended(ask, outcome)
        elif self._is_over(ask):
            self._ended(ask, None)
        else:
            self._put(ask, pending.tries + 1)

    def _is_over(self, ask: Ask) -> bool:
        return ask.look_up.deadline_ms <= self._clock()

    def _put(self, ask: Ask, tries: int) -> None:
        longest_ms = min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** min(tries, 16))
        pause_ms = round(longest_ms * (1 + self._random_fraction()) / 2)
        due_ms = min(self._clock() + pause_ms, ask.look_up.deadline_ms)
        self._number += 1
        heappush(self._pending, _Pending(due_ms, self._number, tries, ask))
        self._some.set()
