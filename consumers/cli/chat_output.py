"""How a chat looks: who says it in front, what is said behind; a text that reads from right to left on its own line.

A terminal takes the direction of a line from its first letter: a label before an Arabic text would turn it round.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import Final

from consumers.cli.output import out, visible

STYLES: Final = {"bot": "bold green", "state": "dim", "crm": "dim", "desk": "bold cyan", "help": "yellow", "you": ""}
LABEL_CHARS: Final = 7


def say(kind: str, text: str) -> None:
    """Print one sentence of the chat, and see that it is out."""
    console, label = out(), f"{kind:{LABEL_CHARS}}"
    shown = visible(text)
    parts = [label, shown] if reads_from_right(shown) else [label + shown]
    for part in parts:
        if console.is_terminal:
            console.print(part.rstrip(), style=STYLES.get(kind, ""))
        else:
            sys.stdout.write(f"{part.rstrip()}\n")
    sys.stdout.flush()


def reads_from_right(text: str) -> bool:
    """Whether the first letter that has a direction has that one (Unicode's rule P2)."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in {"L", "R", "AL"}:
            return direction != "L"
    return False
