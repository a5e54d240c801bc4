"""Bugs for workers: each breaks one promise, and the chaos run has to turn red."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, Final
from unittest.mock import patch

import orjson

from events.kafka.log import KafkaLog
from events.log import NewRecord
from events.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, REPLIES
from tests.simulation.omitted_rules import RULE_OMISSIONS


def _publishing(change: Callable[[list[NewRecord]], list[NewRecord]]) -> AbstractContextManager[Any]:
    real = KafkaLog.publish

    async def publish(self: KafkaLog, records: Sequence[NewRecord]) -> None:
        await real(self, change(list(records)))

    return patch.object(KafkaLog, "publish", publish)


def new_ids() -> AbstractContextManager[Any]:
    """Every tenth output is published twice, the second time under another id."""
    turns = count(1)

    def change(records: list[NewRecord]) -> list[NewRecord]:
        found = []
        for record in records:
            found.append(record)
            if record.topic in {REPLIES, ASSIGNMENTS} and next(turns) % 10 == 0:
                event = orjson.loads(record.value or b"")
                found.append(record._replace(value=orjson.dumps({**event, "id": f"{event['id']}again"})))
        return found

    return _publishing(change)


def lost_outputs() -> AbstractContextManager[Any]:
    """Every tenth reply is not published."""
    turns = count(1)
    return _publishing(
        lambda records: [record for record in records if record.topic != REPLIES or next(turns) % 10 != 0]
    )


def no_requests() -> AbstractContextManager[Any]:
    """The assigner is asked for nobody."""
    return _publishing(lambda records: [record for record in records if record.topic != ASSIGNMENT_REQUESTS])


PLANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "new ids": new_ids,
    "lost outputs": lost_outputs,
    "no requests": no_requests,
    **{omission.rule: omission.plant for omission in RULE_OMISSIONS},
}
