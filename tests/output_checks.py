"""Oracles over what a log holds: lists of events in the order of their topic. They fail by ``AssertionError``.

``tests/unit/test_output_checks.py`` plants what each of them has to find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Event = Mapping[str, Any]


def owners_of(assignments: Iterable[Event]) -> dict[str, str]:
    """Who got which contact, out of ``assignments``; fails if a contact was assigned twice by different events."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for one in assignments:
        if one["type"] == "conversation.assigned" and one["id"] not in seen:
            seen.add(one["id"])
            assert one["partitionkey"] not in found, f"assigned twice: {one['partitionkey']}"
            found[one["partitionkey"]] = one["data"]["agent"]
    return found


def check_outputs(outputs: Iterable[Event], *, copies: bool) -> None:
    """Of one output topic: the same id has the same content, the same (seq, n) the same id, and both rise.

    ``copies``: an event may stand there again, as after a crash.
    """
    by_id: dict[str, Event] = {}
    last: dict[str, tuple[int, int]] = {}
    for one in outputs:
        if one["id"] in by_id:
            assert by_id[one["id"]] == one, f"one id, two contents: {one['id']}"
            assert copies, f"stands there twice: {one['id']}"
            continue
        by_id[one["id"]] = one
        conversation, place = f"{one['partitionkey']}/{one['subject']}", (one["data"]["seq"], one["data"]["n"])
        assert place > last.get(conversation, (0, 0)), f"out of order, or two for one place: {one['id']}"
        last[conversation] = place


def check_log(records: Iterable[Event]) -> None:
    """Of one log topic: ids are unique, and each conversation's records are numbered 1, 2, 3 ..."""
    seqs: Counter[str] = Counter()
    ids: set[str] = set()
    for one in records:
        assert one["id"] not in ids, f"stands there twice: {one['id']}"
        ids.add(one["id"])
        if "seq" in one["data"]:
            key = f"{one.get('partitionkey')}/{one.get('subject')}"
            seqs[key] += 1
            assert one["data"]["seq"] == seqs[key], f"a gap before {one['id']}"
