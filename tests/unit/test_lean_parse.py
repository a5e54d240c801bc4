"""A fold reads records without the candidates of an assignment, and everything else as it stands."""

import orjson
import pytest

from events.log import StoredRecord
from events.records import parse
from events.topics import ASSIGNMENTS_LOG

CANDIDATES = [{"agent": "anna", "open": 1}, {"agent": 'b],"candidates_total":9', "open": 2}]
TRICKY = {"note": '"candidates":[1],"candidates_total":1', "of": '\\"candidates":['}


def stored(data):
    event = {
        "id": "c/1/1/0", "type": "assignment.made", "subject": "1", "time": "2026-11-22T10:00:10.000Z",
        "partitionkey": "c", "workspace": "default", "data": data,
    }  # fmt: skip
    return StoredRecord(ASSIGNMENTS_LOG, 0, 7, None, orjson.dumps(event), (), 0)


@pytest.mark.parametrize("variables", [{}, TRICKY])
def test_candidates_are_left_out_and_nothing_else(variables):
    told = {"seq": 1, "input": {"variables": variables}, "agent": "anna"}
    record = stored({**told, "candidates": CANDIDATES, "candidates_total": 2, "turn": None})
    lean, whole = parse(record, whole=False), parse(record)
    assert lean.data == {**told, "candidates": [], "candidates_total": 2, "turn": None}
    assert whole.data["candidates"] == CANDIDATES
    assert lean.hash == whole.hash


@pytest.mark.parametrize(
    "variables",
    [
        {"candidates": [1, 2]},
        {"candidates": [1, 2], "candidates_total": 2},
        {"deep": [{"candidates": [1], "candidates_total": 1}]},
    ],
)
def test_candidates_of_somebody_else_stay(variables):
    told = {"seq": 1, "input": {"variables": variables}, "agent": "anna"}
    record = stored({**told, "candidates": CANDIDATES, "candidates_total": 2})
    lean = parse(record, whole=False).data
    assert {name: value for name, value in lean.items() if name not in {"input", "candidates"}} == {
        "seq": 1, "agent": "anna", "candidates_total": 2,
    }  # fmt: skip
    assert lean["candidates"] in ([], CANDIDATES)


@pytest.mark.parametrize("data", [{"seq": 1}, {"candidates": []}, {"candidates": [], "candidates_total": 0}])
def test_a_record_without_candidates_is_read_as_it_is(data):
    assert parse(stored(data), whole=False) == parse(stored(data))
