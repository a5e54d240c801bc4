"""The drawings show the machine: all of it, and nothing else."""

from __future__ import annotations

import re

import pytest

from routing.diagram import dot, mermaid
from routing.machine import RETRIES_MAX, conversation_machine
from routing.table import table_for

EVERY_LIMIT = range(RETRIES_MAX + 1)
EVENT = re.compile(r"([a-z_]+)(?: \[[^\]]*\])?(?:, |$)")


def events_in(labels: list[str]) -> set[str]:
    """The events of an edge's labels, without their conditions."""
    return {event for label in labels for event in EVENT.findall(label)}


def drawn_in_mermaid(text: str) -> set[tuple[str, str, str]]:
    names = {name: state for state, name in re.findall(r'^ {4}state "([a-z0-9-]+)" as (\w+)$', text, re.MULTILINE)}
    edges = re.findall(r"^ {4}(\w+) --> (\w+): (.+)$", text, re.MULTILINE)
    return {(names[a], event, names[b]) for a, b, label in edges for event in events_in(label.split("<br/>"))}


def drawn_in_dot(text: str) -> set[tuple[str, str, str]]:
    edges = re.findall(r'^ {4}"([a-z0-9-]+)" -> "([a-z0-9-]+)" \[label="(.+)"\];$', text, re.MULTILINE)
    return {(a, event, b) for a, b, label in edges for event in events_in(label.split(r"\n"))}


def defined(retries: int) -> set[tuple[str, str, str]]:
    """The transitions as the machine itself has them."""
    return {
        (str(state.value), str(event), str(transition.targets[0].value))
        for state in conversation_machine(retries).states
        for transition in state.transitions
        for event in transition.events
    }


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_mermaid_draws_every_transition_and_no_other(retries: int) -> None:
    assert drawn_in_mermaid(mermaid(retries)) == defined(retries)


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_dot_draws_every_transition_and_no_other(retries: int) -> None:
    assert drawn_in_dot(dot(retries)) == defined(retries)


def test_an_edge_left_out_or_added_would_be_seen() -> None:
    """The negative control of the two tests above."""
    for drawn, text in [(drawn_in_mermaid, mermaid(3)), (drawn_in_dot, dot(3))]:
        lines = text.splitlines(keepends=True)
        place = next(place for place, line in enumerate(lines) if "crm_answered [vip]" in line)
        assert drawn("".join(lines[:place] + lines[place + 1 :])) == defined(3) - {
            ("fetching-crm", "crm_answered", "routed-vip")
        }
        assert drawn(text.replace("open [else]", "open [else], join")) != defined(3)


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_mermaid_is_a_state_diagram_whose_ids_have_no_dash(retries: int) -> None:
    """Mermaid reads a dash in an id as the beginning of an arrow, and a semicolon in a label as the end of it."""
    first, *rest = mermaid(retries).splitlines()
    assert first == "stateDiagram-v2"
    arrow = r"(?:\[\*\]|\w+) --> (?:\[\*\]|\w+)(?:: [^:;]+)?"
    for line in rest:
        assert re.fullmatch(rf' {{4}}(?:direction TB|state "[a-z0-9-]+" as \w+|{arrow})', line), line


@pytest.mark.parametrize("retries", EVERY_LIMIT)
def test_dot_is_a_digraph_of_quoted_names(retries: int) -> None:
    lines = dot(retries).splitlines()
    assert (lines[0], lines[-1]) == ("digraph conversation {", "}")
    attributes = r'\[\w+=(?:\w+|"[^"]*")(?:, \w+=(?:\w+|"[^"]*"))*\]'
    for line in lines[1:-1]:
        assert re.fullmatch(rf'(?: {{4}})(?:\w+=\w+|(?:node|edge|"[^"]+"(?: -> "[^"]+")?)(?: {attributes})?);', line), (
            line
        )


def test_each_state_is_declared_once_and_the_ends_are_marked() -> None:
    states = table_for(3).states
    assert re.findall(r'state "([^"]+)"', mermaid(3)) == list(states)
    assert re.findall(r'^ {4}"([^"]+)"(?: \[peripheries=2\])?;$', dot(3), re.MULTILINE) == list(states)
    assert "    [*] --> opened\n" in mermaid(3)
    assert mermaid(3).endswith("    closed --> [*]\n")
    assert '    "start" -> "opened";\n' in dot(3)
    assert '    "closed" [peripheries=2];\n' in dot(3)


@pytest.mark.parametrize(
    "label",
    [
        "opened --> escalated: open [owned or not askable]<br/>join [first_escalated]<br/>take",
        "opened --> awaiting_email: open [else]",
        "awaiting_email --> fetching_crm: answer [address]<br/>email_known",
        "awaiting_email --> email_retry_1: answer [else]",
        "email_retry_3 --> escalated: answer [stop_word or else]<br/>time_out, unreachable, take",
        "fetching_crm --> routed_vip: crm_answered [vip]",
        "escalated --> closed: close, forget",
    ],
)
def test_a_label_says_event_and_guard(label: str) -> None:
    assert f"    {label}\n" in mermaid(3)


def test_without_retries_the_first_invalid_answer_leads_to_a_person() -> None:
    assert "awaiting_email --> escalated: answer [stop_word or else]" in mermaid(0)
    assert "email-retry" not in mermaid(0) + dot(0)


@pytest.mark.parametrize("draw", [mermaid, dot])
def test_a_drawing_is_the_same_every_time_and_refuses_odd_limits(draw: object) -> None:
    assert callable(draw)
    assert draw(3) == draw(3)
    with pytest.raises(ValueError, match="retries is 11: use 0 to 10"):
        draw(11)
