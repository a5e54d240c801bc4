"""The oracles of the process tests see what was planted for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.output_checks import check_log, check_outputs, owners_of


def output(seq: int, *, n: int = 1, contact: str = "c1", **data: Any) -> dict[str, Any]:
    return {
        "id": f"{contact}/v/{seq}/{n}",
        "type": "conversation.assigned",
        "partitionkey": contact,
        "subject": "v",
        "data": {"seq": seq, "n": n, "agent": "anna", **data},
    }


def test_sound_outputs_pass():
    sound = [output(1), output(1, contact="c2"), output(3), output(3, n=2)]
    check_outputs(sound, copies=False)
    check_outputs([*sound, *sound], copies=True)
    check_log([output(1), output(1, contact="c2"), output(2), {"id": "lane", "data": {}}])
    assert owners_of([output(1), output(1, contact="c2"), output(1)]) == {"c1": "anna", "c2": "anna"}


@pytest.mark.parametrize(
    ("outputs", "copies"),
    [
        ([output(1), output(1)], False),
        ([output(1), output(1, agent="berta")], True),
        ([output(2), output(1)], True),
        ([output(1), {**output(1), "id": "another"}], True),
    ],
    ids=["a copy", "one id, two contents", "out of order", "one place, two ids"],
)
def test_contradicting_outputs_are_found(outputs, copies):
    with pytest.raises(AssertionError):
        check_outputs(outputs, copies=copies)


@pytest.mark.parametrize("records", [[output(1), output(3)], [output(2)], [output(1), output(1)]])
def test_gaps_and_doubles_in_a_log_are_found(records):
    with pytest.raises(AssertionError):
        check_log(records)


def test_a_second_assignment_is_found():
    with pytest.raises(AssertionError):
        owners_of([output(1), output(2, agent="berta")])
