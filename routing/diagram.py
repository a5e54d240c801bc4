"""The state diagram as text, drawn from the state machine: Mermaid and Graphviz's DOT.

Turning DOT into a picture is the command line's business (it needs the program ``dot``).
"""

from __future__ import annotations

from collections.abc import Iterator

from routing.table import Row, Table, table_for


def mermaid(retries: int) -> str:
    """A Mermaid ``stateDiagram-v2`` of the machine for ``retries``; raises ValueError as ``table_for`` does.

    Mermaid's ids may hold no dash, so each state is declared with an id of its own and the contract's name as text.
    """
    table = table_for(retries)
    lines = ["stateDiagram-v2", "    direction TB"]
    lines += [f'    state "{state}" as {_identifier(state)}' for state in table.states]
    lines.append(f"    [*] --> {_identifier(table.initial)}")
    for source, target, labels in _edges(table):
        lines.append(f"    {_identifier(source)} --> {_identifier(target)}: {'<br/>'.join(labels)}")
    lines += [f"    {_identifier(state)} --> [*]" for state in table.states if state in table.final]
    return "\n".join(lines) + "\n"


def dot(retries: int) -> str:
    """A DOT digraph of the machine for ``retries``; raises ValueError as ``table_for`` does."""
    table = table_for(retries)
    lines = [
        "digraph conversation {",
        "    rankdir=TB;",
        '    node [shape=box, style=rounded, fontname="Helvetica"];',
        '    edge [fontname="Helvetica", fontsize=10];',
        '    "start" [shape=point, label=""];',
    ]
    lines += [f'    "{state}"{" [peripheries=2]" if state in table.final else ""};' for state in table.states]
    lines.append(f'    "start" -> "{table.initial}";')
    for source, target, labels in _edges(table):
        text = r"\n".join(labels)  # DOT's own escape for a line break
        lines.append(f'    "{source}" -> "{target}" [label="{text}"];')
    return "\n".join([*lines, "}"]) + "\n"


def _identifier(state: str) -> str:
    return state.replace("-", "_")


def _edges(table: Table) -> Iterator[tuple[str, str, list[str]]]:
    """(from, to, labels), one for each pair of states, in the order of the definition."""
    causes: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (state, event), rows in table.rows.items():
        for row in rows:
            causes.setdefault((state, row.target), {}).setdefault(event, []).append(_condition(row, rows))
    for (source, target), by_event in causes.items():
        yield source, target, _labels(by_event)


def _condition(row: Row, rows: tuple[Row, ...]) -> str:
    """When ``row`` is taken: its guards, ``else`` where it is what remains, nothing if it is the only one."""
    if row.guards:
        return " and ".join(str(guard) for guard in row.guards)
    return "else" if len(rows) > 1 else ""


def _labels(by_event: dict[str, list[str]]) -> list[str]:
    """One label for each guarded event, and one for all that need no guard."""
    guarded = [f"{event} [{' or '.join(found)}]" for event, found in by_event.items() if any(found)]
    free = [event for event, found in by_event.items() if not any(found)]
    return [*guarded, *([", ".join(free)] if free else [])]
