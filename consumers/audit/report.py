"""What an audit says: how much it has looked at, and the first thing that is not as it must be, with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct, to_builtins

VALUE_CHARS_MAX: Final = 300  #: of an expected or found value
HIDDEN: Final = "(personal, not shown)"
NOTHING_THERE: Final = "nothing there"  #: the check that finds a log without any record
UNTOLD: Final[Any] = object()  #: stands for a value that a report leaves out

OnProgress = Callable[[int, int], None]  #: how many records are done, of how many


class Place(Struct, frozen=True, kw_only=True):
    """Where something stands. ``offset`` None: nowhere, it is missing."""

    topic: str
    partition: int
    offset: int | None = None

    def __str__(self) -> str:
        at = "" if self.offset is None else f" at offset {self.offset}"
        return f"{self.topic}/{self.partition}{at}"


class Difference(Struct, frozen=True, kw_only=True):
    """What is not as it must be. Values that are personal are not told."""

    check: str  #: which check found it
    place: Place
    sentence: str
    conversation: str | None = None
    contact: str | None = None
    workspace: str | None = None
    field: str | None = None  #: the path of the value in the record
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.sentence}"]
        if self.conversation is not None:
            lines.append(f"conversation: {self.conversation} (contact {self.contact}, workspace {self.workspace})")
        for name in ("field", "expected", "found"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"{name}: {value}")
        return "\n".join([*lines, f"check: {self.check}"])

    def as_json(self) -> dict[str, Any]:
        """The difference as JSON values, without the values that are not told."""
        values: dict[str, Any] = to_builtins(self)
        untold = {name for name in ("expected", "found") if values[name] is None}
        return {name: value for name, value in values.items() if name not in untold}


class Report(Struct, frozen=True, kw_only=True):
    """What was checked, by kind, and the first difference; None: there is none."""

    checked: dict[str, int]
    first_difference: Difference | None = None
    not_checked: tuple[str, ...] = ()  #: what could be wrong all the same, a sentence each

    @property
    def passed(self) -> bool:
        """Whether all is as it must be."""
        return self.first_difference is None

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        told = None if self.first_difference is None else self.first_difference.as_json()
        return {
            "passed": self.passed,
            "checked": self.checked,
            "first_difference": told,
            "not_checked": list(self.not_checked),
        }


class BrokenError(Exception):
    """A check has found something. ``place`` and ``check`` are filled in by whoever runs the check, if it left them.

    ``expected`` and ``found`` are values as JSON has them; left out, the report does not tell them.
    """

    def __init__(
        self,
        sentence: str,
        *,
        field: str | None = None,
        expected: Any = UNTOLD,
        found: Any = UNTOLD,
        place: Place | None = None,
        check: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field
        self.expected = None if expected is UNTOLD else shown(expected)
        self.found = None if found is UNTOLD else shown(found)
        self.place = place
        self.check = check


class Counts:
    """Counts what is done, and tells how far an audit is."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.checked: Counter[str] = Counter()
        self.total = 0  #: records to look at
        self._done = 0
        self._on_progress = on_progress

    def step(self) -> None:
        """One more record was looked at."""
        self._done += 1
        if self._on_progress is not None and self._done % 100 == 0:
            self._on_progress(self._done, max(self.total, self._done))


def shown(value: Any) -> str:
    """A value as it is told: text as it is, anything else as JSON, cut where it is long."""
    import orjson  # noqa: PLC0415  # only where something is wrong

    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}... ({len(text):,} characters)"


class _Missing:
    """What stands where the other side has nothing."""


_MISSING: Final = _Missing()


def compare(expected: Any, found: Any, path: str = "") -> tuple[str, str, str] | None:
    """The first path at which two JSON values differ, and what stands there; None: they are equal, order included."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return _compare_objects(expected, found, path)
    if isinstance(expected, list) and isinstance(found, list):
        for index in range(max(len(expected), len(found))):
            wanted, there = (side[index] if index < len(side) else _MISSING for side in (expected, found))
            if (difference := compare(wanted, there, f"{path}[{index}]")) is not None:
                return difference
        return None
    if type(expected) is type(found) and expected == found:
        return None
    return path, _side(expected, path), _side(found, path)


def _compare_objects(expected: dict[str, Any], found: dict[str, Any], path: str) -> tuple[str, str, str] | None:
    for name in dict.fromkeys([*expected, *found]):
        below = f"{path}.{name}" if path else name
        if (difference := compare(expected.get(name, _MISSING), found.get(name, _MISSING), below)) is not None:
            return difference
    if list(expected) != list(found):
        return path, f"members in the order {', '.join(expected)}", f"in the order {', '.join(found)}"
    return None


def _side(value: Any, path: str) -> str:
    if isinstance(value, _Missing):
        return "nothing"
    return HIDDEN if path == "data.pii" or path.startswith("data.pii.") else shown(value)
