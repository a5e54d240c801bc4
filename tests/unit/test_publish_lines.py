"""Lines of a file as records: which lines there are, where each belongs, in which batches they go."""

from __future__ import annotations

import io
import json

import pytest

from consumers.opening import Counts
from consumers.publishing import (
    BATCH_RECORDS_MAX,
    LINE_BYTES_MAX,
    PROBLEMS_MAX,
    BadLineError,
    Line,
    batches,
    check,
    read_lines,
    ready,
    rewindable,
)
from events.adapter import check_publish
from events.cloudevents import BadInputError
from events.decode import decode_conversation
from events.log import StoredRecord
from events.topics import INPUT_BYTES_MAX, partition_of

COUNTS = Counts(contacts=8, workspaces=4)


def one(type: str = "conversation.opened", **changes: object) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/t",
        "type": type,
        "data": {"contact": {"id": "c1"}},
        **changes,
    }
    return json.dumps(event).encode()


def lines(content: bytes) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.content) for line in read_lines(io.BytesIO(content))]


def test_blank_lines_are_counted_and_left_out():
    assert lines(b"a\n\n  \r\n b \r\nc") == [(1, b"a"), (4, b"b"), (5, b"c")]
    assert lines(b"") == lines(b"\n\n") == []


def test_a_byte_order_mark_in_front_is_dropped():
    assert lines(b"\xef\xbb\xbfa\nb") == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize("extra", [-1, 0, 1, LINE_BYTES_MAX, 3 * LINE_BYTES_MAX + 7])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_line_that_is_too_long_is_not_held_and_hides_no_other(extra, mark):
    long = b"x" * (LINE_BYTES_MAX + extra)
    found = lines(mark + long + b"\nafter\n" + long)
    assert [number for number, _ in found] == [1, 2, 3]
    assert found[1] == (2, b"after")
    assert (found[0][1] is None) == (extra >= 0 or bool(mark)), "a line break that fits makes the difference"
    assert found[2][1] in {None, long}


def test_a_line_that_is_just_too_long_is_refused_all_the_same():
    with pytest.raises(BadLineError, match="too-large"):
        ready(Line(1, None), COUNTS)


@pytest.mark.parametrize(
    ("event", "topic", "key", "partition"),
    [
        (one(), "conversations.events", b"c1", partition_of("c1", 8)),
        (one(partitionkey="c1"), "conversations.events", b"c1", partition_of("c1", 8)),
        (one("agent.removed", subject="a", data={}), "agents.events", b"default", partition_of("default", 4)),
        (one("agent.removed", subject="a", data={}, workspace="w"), "agents.events", b"w", partition_of("w", 4)),
    ],
)
def test_an_event_goes_where_its_contact_or_workspace_belongs(event, topic, key, partition):
    record, doubt = ready(Line(1, event), COUNTS)
    assert (record.topic, record.key, record.partition, record.value) == (topic, key, partition, event)
    assert doubt is None


def test_the_largest_event_that_the_router_takes_is_published_and_one_byte_more_is_not():
    """Both have one limit, that of the value, and one sentence; the topics have room for key and headers besides."""
    padding = INPUT_BYTES_MAX - len(one(padding=""))
    found, doubt = ready(Line(1, one(padding="x" * padding)), COUNTS)
    assert (len(found.value or b""), doubt) == (INPUT_BYTES_MAX, None)
    check_publish([found])
    assert decode_conversation(StoredRecord(*found[:2], 0, found.key, found.value, found.headers, 0)).contact == "c1"
    larger = one(padding="x" * (padding + 1))
    with pytest.raises(BadLineError) as published:
        ready(Line(1, larger), COUNTS)
    with pytest.raises(BadInputError) as routed:
        decode_conversation(StoredRecord(*found[:2], 0, found.key, larger, found.headers, 0))
    assert published.value.problem == (1, routed.value.reason, routed.value.detail)
    assert routed.value.detail == "262,145 bytes; at most 262,144 are taken"


async def test_checking_counts_everything_and_keeps_only_the_first_problems():
    content = b"\n".join([one(), b"{", one("conversation.open")] * 500)
    steps: list[int] = []
    checked = await check(io.BytesIO(content), COUNTS, on_progress=steps.append)
    assert (checked.events, checked.refused.count, checked.doubtful.count) == (1000, 500, 500)
    assert sum(steps) == 1500
    assert len(checked.refused.first) == len(checked.doubtful.first) == PROBLEMS_MAX
    assert [problem.number for problem in checked.refused.first[:3]] == [2, 5, 8]


def test_batches_keep_the_order_and_are_bounded_in_records_and_bytes():
    small = [one(id=str(number)) for number in range(BATCH_RECORDS_MAX + 1)]
    assert [len(batch) for batch in batches(io.BytesIO(b"\n".join(small)), COUNTS)] == [BATCH_RECORDS_MAX, 1]
    large = [one(id=str(number), padding="x" * 200_000) for number in range(7)]
    found = list(batches(io.BytesIO(b"\n".join(large)), COUNTS))
    assert [len(batch) for batch in found] == [6, 1], "closed when it has a megabyte"
    assert [record.value for batch in found for record in batch] == large


def test_a_pipe_is_spooled_so_that_it_can_be_read_twice():
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with rewindable(Pipe(b"a\nb\n")) as stream:
        assert stream.read() == b"a\nb\n"
        stream.seek(0)
        assert stream.read() == b"a\nb\n"
