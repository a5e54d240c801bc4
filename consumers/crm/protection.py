"""What keeps look-ups from knocking a CRM over: a gate before each host, with a rate, and a breaker for bad times.

Waiting at a gate is in order, costs memory only, and ends when whoever waits is cancelled by a deadline.

Rate and breaker are ours: the libraries' limiters let a burst through after a pause on top of the rate, and their
breakers raise where a look-up has to wait in order.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from consumers.crm.slots import Slots
from routing.policy import CrmRate

BURSTS_A_SECOND: Final = 20  #: a second's requests are spread over so many parts of it, or more
WINDOW: Final = 20  #: attempts that the breaker looks back on
FAILURES_MAX: Final = 10  #: of these may fail; one more opens it
OPEN_S: Final = 5.0  #: until it is tried again; doubles while that fails
OPEN_MAX_S: Final = 60.0
PAUSE_MAX_S: Final = 60.0  #: longer, one answer's Retry-After does not hold up the look-ups of all

logger = logging.getLogger(__name__)


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"  #: requests pass
    OPEN = "open"  #: the host does not answer: nothing passes for a while
    HALF_OPEN = "half-open"  #: one request tries whether it does again


class Breaker:
    """Opens when more than ``FAILURES_MAX`` of the last ``WINDOW`` attempts failed; times are the loop's, in seconds.

    ``epoch`` rises with every change: what an attempt of an earlier one tells is too old to count.
    """

    def __init__(self, on_change: Callable[[State], None]) -> None:
        self._on_change = on_change
        self._failures: deque[bool] = deque(maxlen=WINDOW)
        self._open_s = OPEN_S
        self._until_s = 0.0
        self._probing = False
        self.state = State.CLOSED
        self.epoch = 0

    def wait_s(self, now_s: float) -> float:
        """How long nothing may pass; infinity: until the attempt under way has ended."""
        if self.state is State.OPEN:
            return max(0.0, self._until_s - now_s)
        return math.inf if self._probing else 0.0

    def begin(self) -> None:
        """An attempt begins."""
        if self.state is State.OPEN:
            self._change(State.HALF_OPEN)
        self._probing = self.state is State.HALF_OPEN

    def end(self, epoch: int, now_s: float, *, good: bool | None) -> None:
        """An attempt that began in ``epoch`` has ended; None: it says nothing of the host."""
        if epoch != self.epoch:
            return
        self._probing = False
        if good is None:
            return
        if self.state is State.CLOSED:
            self._failures.append(not good)
            if sum(self._failures) > FAILURES_MAX:
                self._open(now_s, OPEN_S)
        elif good:
            self._failures.clear()
            self._change(State.CLOSED)
        else:
            self._open(now_s, min(OPEN_MAX_S, self._open_s * 2))

    def _open(self, now_s: float, open_s: float) -> None:
        self._open_s = open_s
        self._until_s = now_s + open_s
        self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self.state = state
        self.epoch += 1
        self._probing = False
        self._on_change(state)


class HostGate(Slots):
    """All requests to one host pass here: at most ``rate`` says, none while the host is down or asked for a pause."""

    __slots__ = ("_not_before_s", "_now_s", "_period_s", "_starts_s", "_timer", "breaker", "counts", "host")

    def __init__(self, host: str, rate: CrmRate, now_s: Callable[[], float]) -> None:
        super().__init__(rate.concurrency)
        self.host = host
        self.counts: Counter[str] = Counter()  #: changes of the breaker, by the state that it went to
        self.breaker = Breaker(self._tell)
        self._now_s = now_s
        self._not_before_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.limit(rate)

    @property
    def is_needed(self) -> bool:
        """Somebody is inside or in line, or the host is down: its state must not be forgotten."""
        return bool(self.taken or self.waiting) or self.breaker.state is not State.CLOSED

    def limit(self, rate: CrmRate) -> None:
        """From now on this rate counts: in any ``_period_s`` no more requests begin than ``_starts_s`` can hold."""
        self._count_max = rate.concurrency
        burst = 0 if rate.per_second is None else _burst(rate.per_second)
        self._period_s = burst / (rate.per_second or 1)
        self._starts_s: deque[float] = deque(maxlen=burst)

    def end(self, epoch: int, *, good: bool | None) -> None:
        """Leave, and say what became of the attempt; see ``Breaker.end``."""
        self.breaker.end(epoch, self._now_s(), good=good)
        self.leave()

    def pause(self, seconds: float) -> None:
        """Let nothing pass for so long, but never longer than ``PAUSE_MAX_S``."""
        self._not_before_s = max(self._not_before_s, self._now_s() + min(seconds, PAUSE_MAX_S))

    def _may_enter(self) -> bool:
        if not super()._may_enter():
            return False
        now_s = self._now_s()
        wait_s = max(self.breaker.wait_s(now_s), self._not_before_s - now_s, self._rate_wait_s(now_s))
        if wait_s <= 0:
            return True
        if wait_s < math.inf and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)
        return False

    def _rate_wait_s(self, now_s: float) -> float:
        starts_s = self._starts_s
        is_full = bool(starts_s) and len(starts_s) == starts_s.maxlen
        return starts_s[0] + self._period_s - now_s if is_full else 0.0

    def _take(self) -> None:
        super()._take()
        self.breaker.begin()
        self._starts_s.append(self._now_s())

    def _wake(self) -> None:
        self._timer = None
        self._advance()

    def _tell(self, state: State) -> None:
        self.counts[state.value] += 1
        level = logging.WARNING if state is State.OPEN else logging.INFO
        logger.log(level, "the CRM at %s: circuit breaker %s", self.host, state.value)


def _burst(per_second: int) -> int:
    """How many may begin at once: a whole part of the rate, so that no second gets more than the rate."""
    return next(burst for burst in range(max(1, per_second // BURSTS_A_SECOND), 0, -1) if per_second % burst == 0)
