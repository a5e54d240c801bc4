"""How the benchmarks print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One line: what, how much, and beside what."""

    what: str
    value: str
    beside: str = ""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print to standard output."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row[: len(columns)])
    Console().print(table)
