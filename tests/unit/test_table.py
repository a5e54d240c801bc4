"""The table says where a conversation goes: every rule of the card, for every retry limit."""

from __future__ import annotations

from itertools import pairwise
from types import new_class
from typing import Any

import pytest
from statemachine import State, StateMachine

from routing.errors import RoutingError, TransitionError
from routing.facts import Facts
from routing.machine import RETRIES_MAX, ConversationMachine, MachineClass, conversation_machine
from routing.table import Table, compile_table, table_for

TABLE = table_for(3)
ASKING = ["awaiting-email", "email-retry-1", "email-retry-2", "email-retry-3"]
ROUTED = ["routed-vip", "routed-regular", "escalated"]
LIVE = ["opened", *ASKING, "fetching-crm", *ROUTED]
EVERY_LIMIT = range(RETRIES_MAX + 1)


def asking(retries: int) -> list[str]:
    return ["awaiting-email", *(f"email-retry-{attempt}" for attempt in range(1, retries + 1))]


def test_the_states_are_those_of_the_contract() -> None:
    assert TABLE.states == (*LIVE, "closed")
    assert TABLE.initial == "opened"
    assert TABLE.final == {"closed"}


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_a_limit_of_n_has_n_retry_states(retries: int) -> None:
    states = table_for(retries).states
    assert states == ("opened", *asking(retries), "fetching-crm", *ROUTED, "closed")


@pytest.mark.parametrize(
    ("facts", "target"),
    [
        (Facts(), "awaiting-email"),
        (Facts(askable=False), "escalated"),
        (Facts(email_known=True), "fetching-crm"),
        (Facts(email_known=True, askable=False), "fetching-crm"),
        (Facts(owned=True), "escalated"),
        (Facts(owned=True, email_known=True), "escalated"),
    ],
)
def test_an_opening_is_owned_or_known_or_asked(facts: Facts, target: str) -> None:
    """An owner comes first, then a known address, then whether the channel can carry the question."""
    assert TABLE.step("opened", "open", facts) == target


@pytest.mark.parametrize(
    ("facts", "target"),
    [
        (Facts(), "opened"),
        (Facts(first_vip=True), "routed-vip"),
        (Facts(first_regular=True), "routed-regular"),
        (Facts(first_escalated=True), "escalated"),
    ],
)
def test_a_joined_conversation_goes_where_the_first_went_or_waits_for_it(facts: Facts, target: str) -> None:
    assert TABLE.step("opened", "join", facts) == target


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_the_last_invalid_answer_escalates(retries: int) -> None:
    """A limit of n retries means n + 1 questions and n + 1 invalid answers."""
    table, state, path = table_for(retries), "awaiting-email", []
    while state != "escalated":
        state = table.step(state, "answer", Facts())
        path.append(state)
    assert path == [*asking(retries)[1:], "escalated"]


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_an_address_is_taken_and_a_stop_word_escalates_at_every_attempt(retries: int) -> None:
    table = table_for(retries)
    for state in asking(retries):
        assert table.step(state, "answer", Facts(address=True)) == "fetching-crm"
        assert table.step(state, "answer", Facts(stop_word=True)) == "escalated"
        assert table.step(state, "answer", Facts(address=True, stop_word=True)) == "fetching-crm"


@pytest.mark.parametrize("state", ASKING)
@pytest.mark.parametrize(
    ("event", "target"),
    [("email_known", "fetching-crm"), ("time_out", "escalated"), ("unreachable", "escalated"), ("take", "escalated")],
)
def test_asking_ends_without_an_answer_too(state: str, event: str, target: str) -> None:
    assert TABLE.step(state, event, Facts()) == target


def test_the_crm_decides_or_its_failure_does() -> None:
    assert TABLE.step("fetching-crm", "crm_answered", Facts(vip=True)) == "routed-vip"
    assert TABLE.step("fetching-crm", "crm_answered", Facts()) == "routed-regular"
    assert TABLE.step("fetching-crm", "crm_failed", Facts(failure_escalates=True)) == "escalated"
    assert TABLE.step("fetching-crm", "crm_failed", Facts()) == "routed-regular"


def test_a_late_answer_only_ever_makes_a_vip_of_somebody_regular() -> None:
    assert TABLE.step("routed-regular", "crm_late", Facts(vip=True)) == "routed-vip"
    assert TABLE.step("routed-regular", "crm_late", Facts()) == "routed-regular"
    for state in ("fetching-crm", "routed-vip", "escalated", "closed"):
        with pytest.raises(TransitionError):
            TABLE.step(state, "crm_late", Facts(vip=True))


@pytest.mark.parametrize("state", ROUTED)
def test_taking_a_routed_conversation_leaves_it_where_it_is(state: str) -> None:
    assert TABLE.step(state, "take", Facts()) == state


@pytest.mark.parametrize("state", ["opened", "fetching-crm"])
def test_taking_an_unrouted_conversation_escalates_it(state: str) -> None:
    assert TABLE.step(state, "take", Facts()) == "escalated"


@pytest.mark.parametrize("event", ["close", "forget"])
@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_every_live_state_has_a_way_out(retries: int, event: str) -> None:
    table = table_for(retries)
    assert {table.step(state, event, Facts()) for state in table.states if state != "closed"} == {"closed"}


def test_nothing_leads_out_of_closed() -> None:
    assert not [edge for edge in TABLE.transitions() if edge[0] == "closed"]
    for event in TABLE.events:
        with pytest.raises(TransitionError):
            TABLE.step("closed", event, Facts())


def test_a_transition_that_is_not_there_names_state_event_and_what_is_possible() -> None:
    with pytest.raises(
        TransitionError, match=r"crm_answered is not possible in state opened; possible: open, join, take"
    ):
        TABLE.step("opened", "crm_answered", Facts())
    with pytest.raises(TransitionError, match="close is not possible in state closed; possible: nothing, it is final"):
        TABLE.step("closed", "close", Facts())
    with pytest.raises(TransitionError, match="answer in state email-retry-4: there is no such state; the states are "):
        TABLE.step("email-retry-4", "answer", Facts())
    assert issubclass(TransitionError, RoutingError)


def test_transitions_are_exactly_those_of_the_card() -> None:
    expected = {
        *{("opened", "open", to) for to in ("escalated", "fetching-crm", "awaiting-email")},
        *{("opened", "join", to) for to in ("opened", "routed-vip", "routed-regular", "escalated")},
        *{(state, "answer", to) for state in ASKING for to in ("fetching-crm", "escalated")},
        *{(state, "answer", following) for state, following in pairwise(ASKING)},
        *{(state, "email_known", "fetching-crm") for state in ASKING},
        *{(state, event, "escalated") for state in ASKING for event in ("time_out", "unreachable")},
        *{("fetching-crm", "crm_answered", to) for to in ("routed-vip", "routed-regular")},
        *{("fetching-crm", "crm_failed", to) for to in ("escalated", "routed-regular")},
        *{("routed-regular", "crm_late", to) for to in ("routed-vip", "routed-regular")},
        *{(state, "take", "escalated") for state in ("opened", *ASKING, "fetching-crm")},
        *{(state, "take", state) for state in ROUTED},
        *{(state, event, "closed") for state in LIVE for event in ("close", "forget")},
    }
    assert TABLE.transitions() == expected


def test_allows_is_true_exactly_where_a_transition_is() -> None:
    pairs = {(start, end) for start, _, end in TABLE.transitions()}
    asked = {(start, end) for start in TABLE.states for end in TABLE.states if TABLE.allows(start, end)}
    assert asked == pairs
    assert not TABLE.allows("awaiting-email", "routed-vip")
    assert TABLE.allows("routed-regular", "routed-vip")
    assert not TABLE.allows("routed-vip", "routed-regular")
    assert not TABLE.allows("nowhere", "closed")


def test_a_limit_has_one_table_and_one_machine_of_its_own_name() -> None:
    """Classes of one name would share the library's cache of signatures."""
    assert table_for(3) is TABLE
    assert conversation_machine(3) is ConversationMachine
    assert len({conversation_machine(retries).__name__ for retries in EVERY_LIMIT}) == len(EVERY_LIMIT)


@pytest.mark.parametrize("retries", [-1, RETRIES_MAX + 1])
def test_a_limit_out_of_range_is_refused(retries: int) -> None:
    with pytest.raises(ValueError, match=f"retries is {retries}: use 0 to 10"):
        table_for(retries)


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_the_machine_does_nothing_but_change_its_state(retries: int) -> None:
    """Its only callbacks are guards: no action, no validator, no listener."""
    machine = conversation_machine(retries)
    for state in machine.states:
        assert all(spec.is_convention for spec in state._specs)
        for transition in state.transitions:
            guards = list(transition.cond)
            assert all(spec.is_convention or spec in guards for spec in transition._specs)
    assert not [name for name in dir(machine) if name.startswith(("on_", "before_", "after_", "prepare_event"))]


def test_every_fact_is_read_by_one_guard_of_its_name() -> None:
    guards = {guard.test for rows in TABLE.rows.values() for row in rows for guard in row.guards}
    assert sorted(guard.__name__ for guard in guards) == sorted(Facts.__struct_fields__)
    for guard in guards:
        for name in Facts.__struct_fields__:
            facts = Facts(**{field: field == name for field in Facts.__struct_fields__})
            assert guard(facts) is (guard.__name__ == name)


def odd_machine(name: str, **options: Any) -> MachineClass:
    start, end = State(initial=True), State(final=True)
    body = {"start": start, "end": end, "go": start.to(end, **options), "is_ready": lambda _: True}
    return new_class(name, (StateMachine,), exec_body=lambda namespace: namespace.update(body))


def test_a_guard_that_is_no_function_cannot_be_compiled() -> None:
    with pytest.raises(TypeError, match="guard 'is_ready' is no function"):
        compile_table(odd_machine("GuardByName", cond="is_ready"))


def test_a_guard_that_expects_false_is_compiled_so() -> None:
    table: Table = compile_table(odd_machine("GuardExpectsFalse", unless=lambda facts: facts.vip))
    assert table.step("start", "go", Facts(vip=False)) == "end"
    with pytest.raises(TransitionError):
        table.step("start", "go", Facts(vip=True))
