"""What ``serve`` says of a log whose own settings are wrong: a problem a line, few lines, the last one why it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from consumers.serve import FLAWS_TOLD_MAX, refuse_flaws
from events.log import Flaw, LogError
from events.open_log import OwnedLog


class Flawed:
    """A log as far as its settings go."""

    def __init__(self, *flaws: Flaw) -> None:
        self._flaws = flaws

    async def flaws(self) -> Sequence[Flaw]:
        return self._flaws


def bad(number: int) -> Flaw:
    return Flaw(is_fatal=True, sentence=f"topic {number} is cut")


WEAK = Flaw(is_fatal=False, sentence="one copy only")


async def said(*flaws: Flaw) -> tuple[list[str], str | None]:
    """The lines, and what ended it."""
    told: list[str] = []
    try:
        await refuse_flaws(cast("OwnedLog", Flawed(*flaws)), told.append)
    except LogError as error:
        return told, str(error)
    return told, None


@pytest.mark.parametrize(
    ("flaws", "lines", "ended_by"),
    [
        ([], [], None),
        ([WEAK], ["warning: one copy only"], None),
        ([WEAK, bad(1)], ["warning: one copy only"], "topic 1 is cut; see vip-router topics check"),
        (
            [bad(1), WEAK, bad(2)],
            ["topic 1 is cut", "topic 2 is cut", "warning: one copy only"],
            "2 problems break what the log has to promise: see vip-router topics check",
        ),
        ([WEAK] * 12, [*["warning: one copy only"] * FLAWS_TOLD_MAX, "2 more: vip-router topics check"], None),
    ],
)
async def test_each_problem_has_its_line(flaws: list[Flaw], lines: list[str], ended_by: str | None) -> None:
    assert await said(*flaws) == (lines, ended_by)


async def test_however_many_there_are_the_lines_are_few_and_short() -> None:
    lines, ended_by = await said(*map(bad, range(77)))
    assert ended_by is not None
    assert len(lines) == FLAWS_TOLD_MAX + 1
    assert lines[-1] == "67 more: vip-router topics check"
    assert max(map(len, [*lines, ended_by])) < 200
