"""What a check of ``verify`` is, and what it is told of the partition that it looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from consumers.audit.reading import LogEnd, Seen
from consumers.audit.report import BrokenError
from events.chain import Link
from events.outputs import Origin


@dataclass(slots=True, kw_only=True)
class Partition:
    """One partition of a log, as it is when the audit begins."""

    at: LogEnd
    log_id: str
    cluster_id: str
    count: int  #: partitions of its topic
    origin: Origin
    input_ends: dict[str, int]  #: per input topic, asked for after the log's own end
    policies: dict[str, int] = field(default_factory=dict)  #: retries by version; shared by all partitions of the audit

    @property
    def topic(self) -> str:
        """The log's topic."""
        return self.at.place.topic


class Check(Protocol):
    """Looks at the records of one partition in order; raises ``BrokenError`` at the first that breaks its rule."""

    name: str

    def see(self, found: Seen, link: Link) -> None:
        """Look at one record."""

    def finish(self) -> None:
        """The partition has no more records."""


class Rule:
    """A ``Check`` that has nothing to say at the end."""

    name = ""

    def finish(self) -> None:
        """Nothing."""


def require(holds: bool, sentence: str, **more: Any) -> None:  # noqa: FBT001  # reads as a sentence
    """Raise ``BrokenError`` unless it holds."""
    if not holds:
        raise BrokenError(sentence, **more)


def expect(field: str, expected: Any, found: Any, sentence: str) -> None:
    """Raise ``BrokenError`` unless what was found is what was expected."""
    if expected != found:
        raise BrokenError(sentence, field=field, expected=expected, found=found)
