"""``publish``: JSON Lines become records of the two public input topics, checked before the first is sent.

Memory stays bounded whatever the file: it is read twice, once to check and once to publish; what cannot be read twice
goes through a temporary file. Lines and batches have limits. Words and exit codes are the command line's.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from consumers.opening import Counts
from consumers.publisher import publish_all
from events.adapter import record_bytes
from events.cloudevents import STRUCTURED_HEADERS, BadInputError
from events.log import Log, NewRecord
from events.schema import check_publishable
from events.topics import AGENT_EVENTS, INPUT_BYTES_MAX, partition_of

LINE_BYTES_MAX: Final = 2 * INPUT_BYTES_MAX  #: longer lines are not even held
BATCH_RECORDS_MAX: Final = 2000
BATCH_BYTES_MAX: Final = 1024 * 1024
CHECK_LINES: Final = 500  #: between two breaths of the event loop
PROBLEMS_MAX: Final = 10  #: told one by one; the rest is counted
SPOOL_MEMORY_BYTES: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line that is not blank. ``content`` None: it was too long to be held."""

    number: int  #: from 1, blank lines counted
    content: bytes | None


class Problem(NamedTuple):
    """What is wrong with a line; ``detail`` says what to do and does not quote the line."""

    number: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}: {self.detail}"


@dataclass(slots=True)
class Problems:
    """The first few problems, and how many there are."""

    first: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Take one in."""
        self.count += 1
        if len(self.first) < PROBLEMS_MAX:
            self.first.append(problem)


@dataclass(slots=True)
class Checked:
    """What the lines of a file are."""

    events: int = 0
    refused: Problems = field(default_factory=Problems)  #: no events
    doubtful: Problems = field(default_factory=Problems)  #: events that will be dead letters


class BadLineError(Exception):
    """A line that is no event."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Ready(NamedTuple):
    """A line as a record; ``doubt`` says why the router will put it among the dead letters."""

    record: NewRecord
    doubt: Problem | None


def rewindable(stream: BinaryIO) -> BinaryIO:
    """``stream`` itself if it can be read twice, else a temporary copy of all that it has. Blocks."""
    if stream.seekable():
        return stream
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115  # the caller reads it
    shutil.copyfileobj(stream, spool)
    spool.seek(0)
    return spool  # type: ignore[return-value]  # it has all that a BinaryIO is used for here


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines that are not blank, without blanks and line breaks around; a byte order mark in front is dropped."""
    number = 0
    while piece := stream.readline(LINE_BYTES_MAX):
        number += 1
        is_whole = len(piece) < LINE_BYTES_MAX or piece.endswith(b"\n")
        content: bytes | None = (piece.removeprefix(_BOM) if number == 1 else piece).strip()
        while not is_whole:  # read past what is too long, without holding it
            piece = stream.readline(LINE_BYTES_MAX)
            is_whole = len(piece) < LINE_BYTES_MAX or piece.endswith(b"\n")
            content = None
        if content is None or content:
            yield Line(number, content)


def ready(line: Line, counts: Counts) -> Ready:
    """The record that a line becomes; raises ``BadLineError`` if it is no event."""
    if line.content is None:
        raise BadLineError(Problem(line.number, "too-large", f"at most {INPUT_BYTES_MAX:,} bytes are taken"))
    try:
        found = check_publishable(line.content)
    except BadInputError as error:
        raise BadLineError(Problem(line.number, error.reason, error.detail)) from None
    partitions = counts.workspaces if found.topic == AGENT_EVENTS else counts.contacts
    partition = partition_of(found.partition_key, partitions)
    record = NewRecord(found.topic, partition, found.key, line.content, STRUCTURED_HEADERS)
    doubt = None if found.problem is None else Problem(line.number, found.problem.reason, found.problem.detail)
    return Ready(record, doubt)


async def check(stream: BinaryIO, counts: Counts, *, on_progress: Callable[[int], None]) -> Checked:
    """Look at every line; keeps the first few problems only. Can be cancelled."""
    checked = Checked()
    for seen, line in enumerate(read_lines(stream), start=1):
        try:
            found = ready(line, counts)
        except BadLineError as error:
            checked.refused.add(error.problem)
        else:
            checked.events += 1
            if found.doubt is not None:
                checked.doubtful.add(found.doubt)
        if seen % CHECK_LINES == 0:
            on_progress(CHECK_LINES)
            await asyncio.sleep(0)
    return checked


def batches(stream: BinaryIO, counts: Counts) -> Iterator[list[NewRecord]]:
    """The events of a stream in batches of bounded size; lines that are no events are left out."""
    batch: list[NewRecord] = []
    size_bytes = 0
    for line in read_lines(stream):
        try:
            record = ready(line, counts).record
        except BadLineError:
            continue
        batch.append(record)
        size_bytes += record_bytes(record)
        if len(batch) >= BATCH_RECORDS_MAX or size_bytes >= BATCH_BYTES_MAX:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


async def publish(
    log: Log,
    stream: BinaryIO,
    counts: Counts,
    *,
    stop: asyncio.Event,
    acknowledged: Counter[str],
    on_progress: Callable[[int], None],
) -> None:
    """Publish the events of a stream in order, batch after batch, until its end or until ``stop``.

    ``acknowledged`` counts by topic what is durable, also when an error ends it (``LogError``).
    """
    for batch in batches(stream, counts):
        if stop.is_set():
            return
        await publish_all(log, batch)
        acknowledged.update(record.topic for record in batch)
        on_progress(len(batch))
