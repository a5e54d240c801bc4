"""What consumers see: every output of every record, with the same bytes each time, once and in order by the rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import orjson

from events.log import StoredRecord
from events.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS
from tests.simulation.kept import Kept
from tests.simulation.observer import OUTPUT_TOPICS, SPECS, ViolationError, outputs_of


def check_outputs(kept: Kept) -> None:
    """The topics hold exactly the outputs of the logs; a consumer that keeps the rule sees each once, in order."""
    expected: dict[str, list[bytes]] = {topic: [] for topic in OUTPUT_TOPICS}
    for log in kept.logs:
        for line in log.decided:
            for output in outputs_of(line.stored, SPECS[log.place.topic], log.origin):
                expected[output.topic].append(output.value or b"")
    for topic, values in expected.items():
        found = kept.topic(topic)
        _check_same(topic, values, found)
        _check_rule(topic, values, found)
    _check_owners(kept.topic(ASSIGNMENTS))


def _check_same(topic: str, values: list[bytes], found: list[StoredRecord]) -> None:
    out = {record.value for record in found}
    missing, extra = set(values) - out, out - set(values)
    if missing or extra:
        named = [orjson.loads(value or b"{}")["id"] for value in [*missing, *extra]]
        raise ViolationError(
            "outputs", f"{topic}: {len(missing)} outputs are missing, {len(extra)} belong to no record: {named}"
        )


def _check_rule(topic: str, values: list[bytes], found: list[StoredRecord]) -> None:
    """Apply ``(seq, n)`` per conversation; on the assigner's requests ``(offset, n)`` per log partition."""
    rule = _request_place if topic == ASSIGNMENT_REQUESTS else _public_place
    expected: dict[Hashable, list[bytes]] = {}
    for value in values:
        expected.setdefault(rule(orjson.loads(value))[0], []).append(value)
    seen: dict[Hashable, list[bytes]] = {}
    last: dict[Hashable, tuple[int, int]] = {}
    for record in found:
        key, place = rule(orjson.loads(record.value or b""))
        if place > last.get(key, (-1, -1)):
            last[key] = place
            seen.setdefault(key, []).append(record.value or b"")
    for key, outputs in expected.items():
        if seen.get(key) != outputs:
            raise ViolationError(
                "outputs", f"{topic}: a consumer that keeps the rule does not see all of {key} in order"
            )


def _public_place(event: dict[str, Any]) -> tuple[Hashable, tuple[int, int]]:
    data = event["data"]
    return (event["workspace"], data["contact"]["id"], event["subject"]), (data["seq"], data["n"])


def _request_place(event: dict[str, Any]) -> tuple[Hashable, tuple[int, int]]:
    data = event["data"]
    return (event["workspace"], data["log"]["partition"]), (data["log"]["offset"], data["n"])


def _check_owners(found: list[StoredRecord]) -> None:
    """Whoever follows ``assignments`` by the rule never hears of two owners at once."""
    last: dict[Hashable, tuple[int, int]] = {}
    owners: dict[Hashable, str] = {}
    for record in found:
        event = orjson.loads(record.value or b"")
        key, place = _public_place(event)
        if place <= last.get(key, (-1, -1)):
            continue
        last[key] = place
        if event["type"] == "conversation.assigned":
            if key in owners:
                raise ViolationError(
                    "outputs", f"assignments: {key} is given to {event['data']['agent']}, {owners[key]} has it"
                )
            owners[key] = event["data"]["agent"]
        elif event["type"] == "conversation.released" and owners.pop(key, None) != event["data"]["agent"]:
            raise ViolationError("outputs", f"assignments: {event['data']['agent']} releases {key} and has it not")


def check_no_repeats(kept: Kept) -> None:
    """Where nothing goes wrong and everybody stops cleanly, every output is there once."""
    if not kept.world.plan.calm or kept.world.plan.crash_at is not None:
        return
    for topic in OUTPUT_TOPICS:
        repeated = [
            value for value, times in Counter(record.value for record in kept.topic(topic)).items() if times > 1
        ]
        if repeated:
            raise ViolationError(
                "repeats", f"{topic}: {orjson.loads(repeated[0] or b'')['id']} is there more than once"
            )
