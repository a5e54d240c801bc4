"""Whether a branch's conditions can hold at all, and whether they can fail.

Conditions are tried, with the code that evaluates them, on values chosen so that one of them would do: nothing at all,
each value that a condition names (and its other spelling), numbers between and beyond those, texts and lists that hold
them. Conditions on different variables never contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, TypeAlias

from routing.conditions import holds, number
from routing.crm_checks import RESERVED_VARIABLES
from routing.policy import Condition, Policy
from routing.policy_lines import Path
from routing.policy_reader import Document, suggestion

Known: TypeAlias = dict[str, tuple[Any, ...]]  #: all values that a variable can have

_UNHEARD_OF: Final = "\x01 nobody says this"
_KNOWN_VALUES: Final[Known] = {"email_source": ("record", "answer"), "crm_status": tuple(range(100, 600))}
_DECIDED_ON: Final = tuple(range(200, 300))  #: the statuses with which conditions are ever tried


def check(policy: Policy, document: Document, *, is_new: bool) -> None:
    """Raise ``PolicyError`` if a condition's variable is never set, or the branch is never or always taken.

    ``is_new``: a variable's values are narrowed to those that it can have under this policy; logs hold policies with
    conditions on others.
    """
    known = _values_under(policy) if is_new else _KNOWN_VALUES
    by_variable: dict[str, list[Condition]] = {}
    for index, condition in enumerate(policy.branch_vip.conditions):
        path = ("branch", "vip", "conditions", index)
        _check_variable(condition, policy, path, document)
        before = by_variable.setdefault(condition.variable, [])
        if condition in before:
            raise document.error(path, "the same condition stands here twice")
        if not _can_hold([condition], known):
            raise document.error(path, f"it can never hold: {_possible(condition.variable, policy)}")
        before.append(condition)
        if policy.branch_vip.match == "all" and not _can_hold(before, known):
            raise document.error(path, f"it contradicts another condition on {condition.variable}, so nobody is a VIP")
        if policy.branch_vip.match == "any" and not _can_fail(before):
            others = "with the others on the same variable " if len(before) > 1 else ""
            raise document.error(path, f"{others}it always holds, so everybody is a VIP")


def _check_variable(condition: Condition, policy: Policy, path: Path, document: Document) -> None:
    known = (*policy.crm.variables, *RESERVED_VARIABLES)
    if condition.variable not in known:
        hint = suggestion(condition.variable, known)
        problem = f"nobody sets {condition.variable[:64]!r}: add it to crm.variables{hint}"
        raise document.error((*path, "variable"), problem)


def _values_under(policy: Policy) -> Known:
    return {**_KNOWN_VALUES, "crm_status": _DECIDED_ON, "language": policy.workflow.languages}


def _possible(variable: str, policy: Policy) -> str:
    match variable:
        case "email_source":
            return "email_source is record or answer"
        case "crm_status":
            failures = "what a 404 means says crm.not_found, other statuses are failures"
            return f"crm_status is an HTTP status, a number, from 200 to 299 here; {failures}"
        case "language":
            return f"language is one of workflow.languages: {', '.join(policy.workflow.languages)}"
        case _:
            return "no value is like that"


def _can_hold(conditions: list[Condition], known: Known) -> bool:
    """Whether a value exists for which all of these, on one variable, hold."""
    values: Iterable[Any] | None = known.get(conditions[0].variable)
    if values is None:
        operators = {condition.operator for condition in conditions}
        if "contains" in operators and operators & {"is greater than", "is less than"}:
            return True  # texts of digits that contain others are not tried
        values = _worth_trying(conditions)
    return any(all(holds(condition, value) for condition in conditions) for value in values)


def _can_fail(conditions: list[Condition]) -> bool:
    """Whether a value exists for which none of these, on one variable, holds."""
    return any(not any(holds(condition, value) for condition in conditions) for value in _worth_trying(conditions))


def _worth_trying(conditions: list[Condition]) -> list[Any]:
    named: list[Any] = []
    for condition in conditions:
        named += condition.value if isinstance(condition.value, tuple) else [condition.value]
    named = [value for value in named if value is not None]
    contained = [condition.value for condition in conditions if condition.operator == "contains"]
    together = " ".join(value for value in contained if isinstance(value, str))
    tried = [None, _UNHEARD_OF, True, False, *named, *_as_texts(named), *_numbers_around(named)]
    return [*tried, together, contained] if contained else tried


def _as_texts(named: list[Any]) -> list[str]:
    """Numbers and booleans as the texts that are equal to them."""
    return [str(value).lower() for value in named if not isinstance(value, str)]


def _numbers_around(named: list[Any]) -> list[float]:
    """Numbers below, between and above those named."""
    found = sorted({value for value in map(number, named) if value is not None})
    if not found:
        return [0]
    between = [low + (high - low) / 2 for low, high in pairwise(found)]
    return [-2 * abs(found[0]) - 1, *between, 2 * abs(found[-1]) + 1]
