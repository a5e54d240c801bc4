"""Each operator on each kind of value; match all and any."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.conditions import holds, matches, number
from routing.policy import Branch, Condition, Operator

ABSENT = object()
CASES: list[tuple[Operator, Any, list[Any], list[Any]]] = [
    # operator, value in the policy, [values for which it holds], [values for which it does not]
    ("is equal to", "VIP", ["VIP", "vip", " Vip\n"], ["VIPs", "", 1, True, ["VIP"], {"VIP": 1}, None, ABSENT]),
    ("is equal to", "straße", ["STRASSE", "Straße"], ["strase"]),
    ("is equal to", "é", ["e\u0301", "É"], ["e"]),
    ("is equal to", 5, [5, 5.0, "5", " 5.0 "], ["five", 6, True, [5], None, ABSENT]),
    ("is equal to", "5", [5, "5"], ["5.0", "05"]),
    ("is equal to", 0.1, [0.1, "0.1"], [0.2]),
    ("is equal to", 1, [1], [True, "true"]),
    ("is equal to", True, [True, "true", "TRUE "], [False, "yes", 1, "1", None, ABSENT]),
    ("is equal to", "false", [False, "False"], [True, 0, "", None]),
    ("is equal to", "", ["", "  "], [None, ABSENT, 0, False, []]),
    ("is exactly", "VIP", ["VIP"], ["vip", "VIP ", ["VIP"], None, ABSENT]),
    ("is exactly", 5, [5, 5.0], ["5", True, None, ABSENT, [5]]),
    ("is exactly", 1, [1], [True]),
    ("is exactly", True, [True], ["true", 1, None, ABSENT]),
    ("is not equal to", "VIP", ["regular", 1, True, [], ["VIP"], {}, None, ABSENT], ["VIP", " vip "]),
    ("is not equal to", 5, [6, "six", None, ABSENT], [5, "5"]),
    ("exists", None, ["", "x", 0, False, [], {}], [None, ABSENT]),
    ("does not exist", None, [None, ABSENT], ["", "x", 0, False, [], {}]),
    ("contains", "gold", ["Gold plan", "old GOLD", ["silver", "Gold "]], ["silver", ["golden"], 1, True, {"gold": 1}]),
    ("contains", "gold", [], [None, ABSENT, []]),
    ("contains", 5, [[4, 5], ["5"]], ["5", 5, [45], None]),
    ("contains", True, [[True], ["true"]], [[1], "true"]),
    ("is one of", ("gold", 5, True), ["GOLD", 5, "5", True, "true"], ["silver", 6, False, ["gold"], None, ABSENT]),
    ("is greater than", 10, [11, 10.5, "11", " 1e2 "], [10, 9, "ten", "", True, [11], {}, None, ABSENT, "nan", "inf"]),
    ("is greater than", 0.5, [1, "0.6"], [0.5, True, "1_0", "0x10", "1e999"]),
    ("is less than", 10, [9, 9.5, "9", "-1", -1], [10, 11, "", "nine", False, [1], None, ABSENT]),
]


def variables(actual: Any) -> dict[str, Any]:
    return {} if actual is ABSENT else {"x": actual}


def branch(*conditions: Condition, match: Literal["all", "any"] = "all") -> Branch:
    return Branch(match=match, conditions=conditions)


@pytest.mark.parametrize(("operator", "value", "actual"), [(o, v, a) for o, v, yes, _ in CASES for a in yes])
def test_the_condition_holds(operator: Operator, value: Any, actual: Any) -> None:
    assert matches(branch(Condition(variable="x", operator=operator, value=value)), variables(actual)) is True


@pytest.mark.parametrize(("operator", "value", "actual"), [(o, v, a) for o, v, _, no in CASES for a in no])
def test_the_condition_does_not_hold(operator: Operator, value: Any, actual: Any) -> None:
    assert matches(branch(Condition(variable="x", operator=operator, value=value)), variables(actual)) is False


YES = Condition(variable="x", operator="exists")
NO = Condition(variable="x", operator="does not exist")


@pytest.mark.parametrize(
    ("match", "conditions", "expected"),
    [
        ("all", (YES, YES), True),
        ("all", (YES, NO), False),
        ("any", (NO, YES), True),
        ("any", (NO, NO), False),
    ],
)
def test_all_conditions_must_hold_or_any(
    match: Literal["all", "any"], conditions: tuple[Condition, ...], *, expected: bool
) -> None:
    assert matches(branch(*conditions, match=match), {"x": 1}) is expected


def test_texts_of_any_length_cost_little() -> None:
    """Composing accents is quadratic in combining marks, so long texts go without."""
    marks = "a" + "\u0316\u0301" * 200_000
    assert not matches(branch(Condition(variable="x", operator="is equal to", value="é")), {"x": marks})


def test_numbers_beyond_floats_compare() -> None:
    condition = Condition(variable="x", operator="is greater than", value=1.5)
    assert holds(condition, 10**400)
    assert number("9" * 41) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SCALARS = st.booleans() | st.integers(-20, 20) | st.sampled_from(["vip", "VIP", "5", "true", ""])


@given(JSON, SCALARS)
def test_no_value_raises_and_opposites_are_opposite(actual: Any, value: Any) -> None:
    def holding(operator: Operator, operand: Any = None) -> bool:
        return holds(Condition(variable="x", operator=operator, value=operand), actual)

    assert holding("exists") is not holding("does not exist")
    assert holding("is equal to", value) is not holding("is not equal to", value)
    assert holding("is one of", (value,)) is holding("is equal to", value)
    assert not (holding("is exactly", value) and not holding("is equal to", value))
    assert not (holding("is greater than", 3) and holding("is less than", 3))
    assert holding("contains", value) in (True, False)
