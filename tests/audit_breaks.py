"""Meddling with a log, and where verifying must find it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from consumers.audit.report import Difference
from consumers.audit.verify import verify
from events.sqlite.log import SqliteLog
from tests.audit_support import Tampered


class Found(NamedTuple):
    """Where a break must be found, and by which check."""

    check: str
    topic: str
    partition: int
    offset: int


def verified(tampered: Tampered) -> Difference | None:
    async def run() -> Difference | None:
        async with SqliteLog(tampered.path) as log:
            return (await verify(log)).first_difference

    return asyncio.run(run())


def check_found(tampered: Tampered, expected: Found) -> None:
    """Verifying finds what was broken, by this check and there."""
    difference = verified(tampered)
    assert difference is not None
    place = difference.place
    assert (difference.check, place.topic, place.partition, place.offset) == expected, difference


def forged(
    topic: str, type: str, check: str, change: Callable[[dict[str, Any]], None], **data: Any
) -> Callable[..., Found]:
    """A record is exchanged for another, and every hash behind it is made right again."""

    def plant(t: Tampered) -> Found:
        place = t.find(topic, type, **data)
        event = t.event(topic, *place)
        change(event)
        t.forge(topic, *place, event)
        return Found(check, topic, *place)

    return plant


def set_data(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda event: event["data"].update({name.rstrip("_"): value for name, value in fields.items()})
