"""Whether the lean desk gives every conversation to the agent to whom the whole decider gives it.

``DecidedDesk`` drives the assigner's decider as a lane does: requests, ends and presence are decided, recorded and
folded, and deadlines fire from its state. That takes too long for a month, so that it is done for some hours of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from routing.decider import LogRecord
from tests.bench.month_loop import Desk, Given, Happened, LeanDesk, simulate
from tests.bench.month_model import ROUTES, Month, Shown, StrategyName, targets, teams_of
from tests.workspace_given import Lane, given_to


class DecidedDesk:
    """The assigner's whole decider, with its records."""

    def __init__(self, month: Month, strategy: StrategyName) -> None:
        self._month = month
        self._targets = targets(strategy)
        self.lane = Lane(now_ms=0)
        self.lane.rules(max_open=month.setting.max_open)
        for agent in month.paces:
            self.lane.has(agent, *teams_of(agent))

    def shows(self, shown: Shown) -> Sequence[Given]:
        """See ``Desk``."""
        self.lane.now_ms = shown.at_ms
        return _given(self.lane.sees(shown.agent, shown.status))

    def asks(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        self.lane.now_ms = now_ms
        route = ROUTES[self._month.routes[conversation]]
        contact = self._contact(conversation)
        return _given(self.lane.asks(str(conversation), self._targets[route], route=route, contact=contact))

    def ends(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        self.lane.now_ms = now_ms
        return _given(self.lane.ends(str(conversation), contact=self._contact(conversation)))

    def next_due_ms(self) -> int | None:
        """See ``Desk``."""
        return self.lane.workspaces.next_due_ms()

    def passes(self, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        return _given(self.lane.passes(now_ms - self.lane.now_ms))

    def _contact(self, conversation: int) -> str:
        return f"contact-{self._month.contacts[conversation]}"


def _given(records: Sequence[LogRecord]) -> list[Given]:
    return [(int(str(conversation)), agent) for conversation, agent in given_to(list(records))]


class Checked(NamedTuple):
    """What a comparison found."""

    conversations: int
    waited: int  #: of them were not given to anybody at once
    first_difference: str | None  #: None: both desks gave every one to the same agent at the same time


def checked(
    month: Month,
    strategy: StrategyName,
    conversations: range,
    lean: Callable[[Month, StrategyName], Desk] = LeanDesk,
) -> Checked:
    """Let these conversations come to both desks."""
    one = simulate(month, lean(month, strategy), conversations)
    other = simulate(month, DecidedDesk(month, strategy), conversations)
    waited = sum(one.given_ms[number] > month.arrives_ms[number] for number in conversations)
    return Checked(len(conversations), waited, _difference(one, other, conversations))


def _difference(one: Happened, other: Happened, conversations: range) -> str | None:
    for number in conversations:
        lean, decided = ((each.owners[number], each.given_ms[number]) for each in (one, other))
        if lean != decided:
            return (
                f"conversation {number}: {lean[0]} at {lean[1]} ms by the lean desk, "
                f"{decided[0]} at {decided[1]} ms by the decider"
            )
    return None


def hours(month: Month, first_ms: int, last_ms: int) -> range:
    """The conversations that come from ``first_ms`` on and before ``last_ms``."""
    numbers = [number for number, at_ms in enumerate(month.arrives_ms) if first_ms <= at_ms < last_ms]
    return range(numbers[0], numbers[-1] + 1) if numbers else range(0)
