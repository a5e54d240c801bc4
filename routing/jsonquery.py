r"""RFC 9535 paths that may name several places of a JSON document: wildcards, slices and filters.

They are evaluated by ``jsonpath-rfc9535``. What could cost more than the document is large is refused when the path is
read: descendants, regular expressions, ``$`` and filters inside a filter, several selectors in one pair of brackets.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import jsonpath_rfc9535
from jsonpath_rfc9535 import JSONPathError, JSONPathQuery
from jsonpath_rfc9535.filter_expressions import (
    ComparisonExpression,
    Expression,
    FilterExpression,
    FilterQuery,
    FunctionExtension,
    LogicalExpression,
    PrefixExpression,
    RootFilterQuery,
)
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import FilterSelector

FOUND_MAX: Final = 64  #: places looked at; a variable takes no list that is as long
_REGULAR: Final = frozenset({"match", "search"})


class Query:
    """A path that was read and may be asked of any document."""

    def __init__(self, query: JSONPathQuery) -> None:
        self._query = query
        self.segments_count = len(query.segments)

    def find(self, document: Any) -> list[Any]:
        """The values at the places that the path names, in their order, at most ``FOUND_MAX``. Never raises."""
        try:
            return [node.value for node in islice(self._query.finditer(document), FOUND_MAX)]
        except (JSONPathError, RecursionError):  # two deep values were compared
            return []


def parse_query(text: str) -> Query:
    """Read a path; raises ``ValueError`` with a sentence if it is none, or one that is refused."""
    try:
        query = jsonpath_rfc9535.compile(text)
    except (JSONPathError, RecursionError) as error:
        raise ValueError(f"{text!r} is no path of RFC 9535: {str(error).splitlines()[0]}") from None
    refusal = _refusal(query, inside=False)
    if refusal is not None:
        raise ValueError(f"{text!r}: {refusal}")
    return Query(query)


def _refusal(query: JSONPathQuery, *, inside: bool) -> str | None:
    """Why a path is not taken; ``inside``: it stands in a filter."""
    for segment in query.segments:
        if isinstance(segment, JSONPathRecursiveDescentSegment):
            return "descendants (..) are not taken: say where the value stands"
        if len(segment.selectors) > 1:
            return "several selectors in one pair of brackets are not taken: use a variable for each"
        (selector,) = segment.selectors
        if isinstance(selector, FilterSelector):
            if inside:
                return "a filter inside a filter is not taken"
            refusal = _refusal_of_filter(selector.expression)
            if refusal is not None:
                return refusal
    return None


def _refusal_of_filter(expression: Expression) -> str | None:
    if isinstance(expression, RootFilterQuery):
        return "$ inside a filter is not taken: begin with @"
    if isinstance(expression, FilterQuery):
        return _refusal(expression.query, inside=True)
    if isinstance(expression, FunctionExtension) and expression.name in _REGULAR:
        return f"{expression.name}() is not taken: a regular expression may run for ever; compare with =="
    return next((refusal for part in _parts(expression) if (refusal := _refusal_of_filter(part))), None)


def _parts(expression: Expression) -> list[Expression]:
    if isinstance(expression, FilterExpression):
        return [expression.expression]
    if isinstance(expression, PrefixExpression):
        return [expression.right]
    if isinstance(expression, LogicalExpression | ComparisonExpression):
        return [expression.left, expression.right]
    return list(expression.args) if isinstance(expression, FunctionExtension) else []
