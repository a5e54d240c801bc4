"""The states of a conversation and the transitions between them: the one definition.

``conversation_machine`` builds it with python-statemachine for a retry limit. It is compiled to a table
(``routing/table.py``), which is what runs, and drawn (``routing/diagram.py``). Nothing happens on a transition: what
one leads to is the decider's business (``routing/conversation.py``).

For one state and event the transitions are tried in the order in which they stand here; the first whose guard agrees
is taken. It is a ``StateMachine``, not a ``StateChart``: the latter swallows unknown events and errors of guards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import new_class
from typing import TypeAlias

from statemachine import State, StateMachine
from statemachine.transition_list import TransitionList

from routing.facts import Facts

RETRIES_DEFAULT = 3  #: the policy's default: four asks in all
RETRIES_MAX = 10  #: no contact is asked more than eleven times

MachineClass: TypeAlias = type[StateMachine]


def owned(facts: Facts) -> bool:
    """Somebody owns the conversation already."""
    return facts.owned


def email_known(facts: Facts) -> bool:
    """A valid address is known."""
    return facts.email_known


def askable(facts: Facts) -> bool:
    """The contact can be asked on this channel."""
    return facts.askable


def first_vip(facts: Facts) -> bool:
    """The conversation that this one joins was routed as VIP."""
    return facts.first_vip


def first_regular(facts: Facts) -> bool:
    """The conversation that this one joins was routed as regular."""
    return facts.first_regular


def first_escalated(facts: Facts) -> bool:
    """The conversation that this one joins was escalated."""
    return facts.first_escalated


def address(facts: Facts) -> bool:
    """The answer holds exactly one valid address."""
    return facts.address


def stop_word(facts: Facts) -> bool:
    """The answer is exactly a stop word."""
    return facts.stop_word


def vip(facts: Facts) -> bool:
    """The policy's branch says VIP."""
    return facts.vip


def failure_escalates(facts: Facts) -> bool:
    """A failed look-up goes to a person."""
    return facts.failure_escalates


@lru_cache(maxsize=RETRIES_MAX + 1)
def conversation_machine(retries: int) -> MachineClass:
    """The machine for ``retries`` re-asks after the first ask; the same class for the same number.

    Raises ValueError unless 0 <= ``retries`` <= ``RETRIES_MAX``.
    """
    if not 0 <= retries <= RETRIES_MAX:
        raise ValueError(f"retries is {retries}: use 0 to {RETRIES_MAX}")
    opened = _state("opened", initial=True)
    awaiting_email = _state("awaiting-email")
    email_retries = [_state(f"email-retry-{attempt}") for attempt in range(1, retries + 1)]
    fetching_crm = _state("fetching-crm")
    routed_vip = _state("routed-vip")
    routed_regular = _state("routed-regular")
    escalated = _state("escalated")
    closed = _state("closed", final=True)

    asking = [awaiting_email, *email_retries]
    routed = [routed_vip, routed_regular, escalated]
    live = [opened, *asking, fetching_crm, *routed]
    events = {
        "open": opened.to(escalated, cond=owned)
        | opened.to(fetching_crm, cond=email_known)
        | opened.to(escalated, unless=askable)
        | opened.to(awaiting_email),
        "join": opened.to(routed_vip, cond=first_vip)
        | opened.to(routed_regular, cond=first_regular)
        | opened.to(escalated, cond=first_escalated)
        | opened.to(opened),  # waits for the first
        "answer": _answers(asking, accepted=fetching_crm, escalated=escalated),
        "email_known": fetching_crm.from_(*asking),
        "time_out": escalated.from_(*asking),
        "unreachable": escalated.from_(*asking),
        "crm_answered": fetching_crm.to(routed_vip, cond=vip) | fetching_crm.to(routed_regular),
        "crm_failed": fetching_crm.to(escalated, cond=failure_escalates) | fetching_crm.to(routed_regular),
        "crm_late": routed_regular.to(routed_vip, cond=vip) | routed_regular.to(routed_regular),
        "take": escalated.from_(opened, *asking, fetching_crm) | _stay(routed),
        "close": closed.from_(*live),
        "forget": closed.from_(*live),
    }
    return _build(f"ConversationMachine{retries}", [*live, closed], events)


def _state(value: str, *, initial: bool = False, final: bool = False) -> State:
    return State(name=value, value=value, initial=initial, final=final)


def _answers(asking: Sequence[State], *, accepted: State, escalated: State) -> TransitionList:
    """An address goes on, a stop word to a person, anything else to the next retry or, after the last, to a person."""
    transitions = TransitionList()
    for state, invalid in zip(asking, [*asking[1:], escalated], strict=True):
        transitions |= state.to(accepted, cond=address) | state.to(escalated, cond=stop_word) | state.to(invalid)
    return transitions


def _stay(states: Sequence[State]) -> TransitionList:
    transitions = TransitionList()
    for state in states:
        transitions |= state.to(state)
    return transitions


def _build(name: str, states: Sequence[State], events: dict[str, TransitionList]) -> MachineClass:
    """The class; ``name`` has to be unique, the library shares a cache of signatures between classes of one name.

    The library wants identifiers as ids: dashes become underscores there, ``value`` keeps the contract's string.
    """
    body = {
        "__module__": __name__,
        "__doc__": "A conversation's way from its opening to its end.",
        **{state.value.replace("-", "_"): state for state in states},
        **events,
    }
    machine: MachineClass = new_class(name, (StateMachine,), exec_body=lambda namespace: namespace.update(body))
    return machine


ConversationMachine = conversation_machine(RETRIES_DEFAULT)
