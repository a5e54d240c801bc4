"""A log that loses answers: the next write raises ``IndefiniteError``, before or after it took effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from events.log import Appended, FencedError, IndefiniteError, Log, NewRecord, TopicPartition
from tests.contract.sealing import sealed

Lost: TypeAlias = Literal["before", "after"]


class IndefiniteLog:
    """Passes writes on to ``log``; ``lose`` says what happens to the next one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lose: Lost | None = None

    def lose(self, when: Lost) -> None:
        """Lose the next write (before) or only its answer (after)."""
        self._lose = when

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        lose, self._lose = self._lose, None
        if lose == "before":
            raise IndefiniteError("the request was lost")
        appended = await self._log.append(place, records, expected=expected, outputs=outputs)
        if lose == "after":
            raise IndefiniteError("the answer was lost")
        return appended

    async def publish(self, records: Sequence[NewRecord]) -> None:
        lose, self._lose = self._lose, None
        if lose == "before":
            raise IndefiniteError("the request was lost")
        await self._log.publish(records)
        if lose == "after":
            raise IndefiniteError("the answer was lost")


async def append_found_out(
    writer: IndefiniteLog | Log, log: Log, place: TopicPartition, values: Sequence[bytes], *, expected: int
) -> int:
    """Append as a lane does: after an error fold to the end and see whether the records exist; returns the end.

    A real lane decides again where this one appends again; here the records are the decision.
    """
    while True:
        records = sealed(place, expected, *values)
        try:
            return (await writer.append(place, records, expected=expected)).offset_next
        except (IndefiniteError, FencedError):
            found = await log.read(place, expected, records_max=1_000)
            expected = found.offset_next
            if list(values) == [record.value for record in found.records[: len(values)]]:
                return expected


async def publish_until_confirmed(writer: IndefiniteLog | Log, records: Sequence[NewRecord]) -> None:
    """Publish as a lane does: a publish without an answer is repeated."""
    while True:
        try:
            return await writer.publish(records)
        except IndefiniteError:
            continue
