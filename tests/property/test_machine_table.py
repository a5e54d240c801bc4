"""The compiled table and the state machine are one: on every state, event and combination of facts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from statemachine.exceptions import TransitionNotAllowed

from routing.errors import TransitionError
from routing.facts import Facts
from routing.machine import MachineClass, conversation_machine
from routing.table import Row, Rows, Table, compile_table, table_for

REFUSED = "refused"

#: What the guards of an event read. An event is tried with all combinations of these, and of one fact that it should
#: not care for; ``test_no_event_reads_a_fact_that_is_not_varied`` holds the list complete.
READS = {
    "open": ("owned", "email_known", "askable"),
    "join": ("first_vip", "first_regular", "first_escalated"),
    "answer": ("address", "stop_word"),
    "crm_answered": ("vip",),
    "crm_late": ("vip",),
    "crm_failed": ("failure_escalates",),
}


def combinations(event: str) -> list[Facts]:
    """All facts that may matter to ``event``, over all-false and over all-true others."""
    reads = READS.get(event, ())
    found = []
    for others, values in product((False, True), product((False, True), repeat=len(reads))):
        facts = dict.fromkeys(Facts.__struct_fields__, others)
        found.append(Facts(**(facts | dict(zip(reads, values, strict=True)))))
    return found


def by_machine(machine: MachineClass, state: str, event: str, facts: Facts) -> str:
    """Where the real machine, restored in ``state``, goes. Restoring runs ``on_enter``; there is none."""
    running = machine(start_value=state)
    try:
        running.send(event, facts=facts)
    except TransitionNotAllowed:
        return REFUSED
    return str(running.current_state_value)


def by_table(table: Table, state: str, event: str, facts: Facts) -> str:
    try:
        return table.step(state, event, facts)
    except TransitionError:
        return REFUSED


def events_of(machine: MachineClass) -> list[str]:
    found = (event for state in machine.states for transition in state.transitions for event in transition.events)
    return list(dict.fromkeys(str(event) for event in found))


def differences(machine: MachineClass, table: Table) -> Iterator[tuple[str, str, Facts, str, str]]:
    """Every (state, event, facts) on which the two disagree, with what each says."""
    states = [str(state.value) for state in machine.states]
    for state, event in product(states, [*events_of(machine), "no_such_event"]):
        for facts in combinations(event):
            expected, found = by_machine(machine, state, event, facts), by_table(table, state, event, facts)
            if expected != found:
                yield state, event, facts, expected, found


@pytest.mark.parametrize("retries", range(6))
def test_machine_and_table_agree_on_every_state_event_and_guard(retries: int) -> None:
    assert list(differences(conversation_machine(retries), table_for(retries))) == []


def test_table_and_machine_agree_at_the_greatest_limit() -> None:
    assert list(differences(conversation_machine(10), table_for(10))) == []


@pytest.mark.parametrize("retries", range(11))
def test_no_event_reads_a_fact_that_is_not_varied(retries: int) -> None:
    """The combinations above are all that can matter, on the machine's own word."""
    for state in conversation_machine(retries).states:
        for transition in state.transitions:
            read = {spec.func.__name__ for spec in transition.cond}
            for event in transition.events:
                assert read <= set(READS.get(str(event), ()))


@pytest.mark.parametrize("retries", range(11))
def test_machine_and_table_know_the_same_states_and_events(retries: int) -> None:
    machine, table = conversation_machine(retries), table_for(retries)
    assert [str(state.value) for state in machine.states] == list(table.states)
    assert events_of(machine) == list(table.events)


# -- negative controls: the comparison finds every kind of mistake -----------------------------------------------------


def with_rows(table: Table, rows: Rows) -> Table:
    return Table(states=table.states, initial=table.initial, final=table.final, rows=rows)


def other_state(table: Table, state: str) -> str:
    return table.states[(table.states.index(state) + 1) % len(table.states)]


EDGES = [(key, place) for key, rows in table_for(1).rows.items() for place in range(len(rows))]


@pytest.mark.parametrize(("key", "place"), EDGES)
def test_one_altered_target_is_found(key: tuple[str, str], place: int) -> None:
    """Any one edge of the table that leads elsewhere turns the comparison red, at that edge."""
    table = compile_table(conversation_machine(1))
    rows = list(table.rows[key])
    rows[place] = Row(guards=rows[place].guards, target=other_state(table, rows[place].target))
    altered = with_rows(table, {**table.rows, key: tuple(rows)})
    found = list(differences_of(key, altered))
    assert found
    assert list(differences_of(key, table)) == []


def differences_of(key: tuple[str, str], table: Table) -> Iterator[Facts]:
    """The facts on which machine and table disagree for one state and event: the loop above would be slow 30 times."""
    for facts in combinations(key[1]):
        if by_machine(conversation_machine(1), *key, facts) != by_table(table, *key, facts):
            yield facts


def test_an_altered_edge_turns_the_whole_comparison_red() -> None:
    table = table_for(2)
    key = ("email-retry-2", "answer")
    *before, last = table.rows[key]
    altered = with_rows(table, {**table.rows, key: (*before, Row(guards=(), target="closed"))})
    found = list(differences(conversation_machine(2), altered))
    assert last.target == "escalated"
    assert {(state, event) for state, event, *_ in found} == {key}
    assert {(expected, said) for *_, expected, said in found} == {("escalated", "closed")}


def test_swapped_rows_a_dropped_row_and_an_inverted_guard_are_found() -> None:
    table = table_for(0)
    key = ("opened", "open")
    owned, known, mute, ask = table.rows[key]
    inverted = Row(guards=(known.guards[0]._replace(expected=False),), target=known.target)
    for rows in [
        (known, owned, mute, ask),
        (owned, known, ask, mute),
        (owned, known, ask),
        (owned, inverted, mute, ask),
    ]:
        assert list(differences(conversation_machine(0), with_rows(table, {**table.rows, key: rows})))


def test_an_edge_too_many_is_found() -> None:
    table = table_for(0)
    altered = with_rows(table, {**table.rows, ("closed", "open"): (Row(guards=(), target="opened"),)})
    found = list(differences(conversation_machine(0), altered))
    assert {(state, event, expected) for state, event, _, expected, _ in found} == {("closed", "open", REFUSED)}
