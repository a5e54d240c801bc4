"""The state machine compiled to a table: what the lane runs, at about a microsecond a step.

The definition stays in ``routing/machine.py``; a property test holds both equal on every state, event and guard.
The table decides where a conversation goes, not whether an input is heard at all: that is the decider's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from statemachine.transition import Transition

from routing.errors import TransitionError
from routing.facts import Facts
from routing.machine import RETRIES_DEFAULT, RETRIES_MAX, MachineClass, conversation_machine

GuardFunction: TypeAlias = Callable[[Facts], bool]


class Guard(NamedTuple):
    """A condition on the facts: ``test`` has to return ``expected``."""

    test: GuardFunction
    expected: bool

    def __str__(self) -> str:
        """The guard as a person reads it: its name, with ``not`` where false is expected."""
        return self.test.__name__ if self.expected else f"not {self.test.__name__}"


class Row(NamedTuple):
    """One transition of a state for an event: taken if all ``guards`` agree and no row before it was taken."""

    guards: tuple[Guard, ...]
    target: str


Rows: TypeAlias = Mapping[tuple[str, str], tuple[Row, ...]]


class Table:
    """Where each event leads from each state.

    ``rows`` holds the transitions by (state, event), in the order in which they are tried; ``states`` and ``events``
    are in the order of the definition. Immutable by convention, shared by all conversations.
    """

    __slots__ = ("_pairs", "_transitions", "events", "final", "initial", "rows", "states")

    def __init__(self, *, states: tuple[str, ...], initial: str, final: frozenset[str], rows: Rows) -> None:
        self.states = states
        self.initial = initial
        self.final = final
        self.rows = dict(rows)
        self.events = tuple(dict.fromkeys(event for _, event in rows))
        self._transitions = frozenset(
            (state, event, row.target) for (state, event), found in rows.items() for row in found
        )
        self._pairs = frozenset((state, target) for state, _, target in self._transitions)

    def step(self, state: str, event: str, facts: Facts) -> str:
        """The state that ``event`` leads to; raises TransitionError if the machine has no such transition."""
        for guards, target in self.rows.get((state, event), ()):
            for test, expected in guards:
                if test(facts) is not expected:
                    break
            else:
                return target
        raise TransitionError(self._refusal(state, event))

    def transitions(self) -> frozenset[tuple[str, str, str]]:
        """Every (from, event, to) that some facts allow."""
        return self._transitions

    def allows(self, from_state: str, to_state: str) -> bool:
        """Whether some event leads from the one state to the other."""
        return (from_state, to_state) in self._pairs

    def _refusal(self, state: str, event: str) -> str:
        if state not in self.states:
            return f"{event} in state {state}: there is no such state; the states are {', '.join(self.states)}"
        possible = [known for known in self.events if (state, known) in self.rows]
        return f"{event} is not possible in state {state}; possible: {', '.join(possible) or 'nothing, it is final'}"


def compile_table(machine: MachineClass) -> Table:
    """The table of a machine definition; raises TypeError if it uses more than named guards on single targets."""
    rows: dict[tuple[str, str], tuple[Row, ...]] = {}
    for state in machine.states:
        for transition in state.transitions:
            row = _row(transition)
            for event in transition.events:
                key = (str(state.value), str(event))
                rows[key] = (*rows.get(key, ()), row)
    return Table(
        states=tuple(str(state.value) for state in machine.states),
        initial=next(str(state.value) for state in machine.states if state.initial),
        final=frozenset(str(state.value) for state in machine.states if state.final),
        rows=rows,
    )


def _row(transition: Transition) -> Row:
    if len(transition.targets) != 1:
        raise TypeError(f"{transition}: only transitions with one target can be compiled")
    guards = []
    for spec in transition.cond:
        if not callable(spec.func):
            raise TypeError(f"{transition}: guard {spec.func!r} is no function, only functions can be compiled")
        guards.append(Guard(test=spec.func, expected=spec.expected_value is True))
    return Row(guards=tuple(guards), target=str(transition.targets[0].value))


@lru_cache(maxsize=RETRIES_MAX + 1)
def table_for(retries: int) -> Table:
    """The table for ``retries`` re-asks after the first ask; raises ValueError outside 0..``RETRIES_MAX``."""
    return compile_table(conversation_machine(retries))


table_for(RETRIES_DEFAULT)  # compiled at import, so that the first conversation does not pay for it
