"""What can go wrong in pure code, and what the caller may do about it."""

from __future__ import annotations


class RoutingError(Exception):
    """The root of this package's errors; ``str()`` is a sentence for the user that says what to do."""


class PolicyError(RoutingError):
    """A policy that cannot be used. It never becomes usable by trying again: the file has to change.

    Names the key (dotted, as in the file) and the line (from 1) where they are known.
    """

    def __init__(
        self, problem: str, *, key: str | None = None, line: int | None = None, source: str = "policy"
    ) -> None:
        place = source if line is None else f"{source}:{line}"
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")
        self.problem = problem
        self.key = key
        self.line = line
        self.source = source


class TransitionError(RoutingError):
    """A record asks for a transition that the state machine does not have: the log or the code is at fault."""


class InputRefusedError(RoutingError):
    """An input that no record can be made of: it goes to the dead letters. ``reason`` is a code of the contract."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
