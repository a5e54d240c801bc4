"""Logs that were written once are read, verified and decided the same for ever."""

from pathlib import Path

import orjson
import pytest

from consumers.audit.replay import replay
from consumers.audit.verify import verify
from events.records import RECORD_TYPES
from tests.golden import stored
from tests.golden.make import PARTITIONS, make
from tests.simulation.virtual_loop import run_virtual

FILES = sorted(Path(__file__).parent.glob("*.jsonl"))


def lines_of(path):
    return path.read_bytes().splitlines()


async def report_of(check, lines):
    return await check(await stored.load(lines, PARTITIONS))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("check", [verify, replay])
async def test_a_golden_log_verifies_and_replays(path, check):
    report = await report_of(check, lines_of(path))
    assert report.first_difference is None
    assert report.passed
    assert report.checked["records"] > 50


@pytest.mark.parametrize("check", [verify, replay])
async def test_a_golden_log_with_one_word_changed_does_not(check):
    """The check's negative control."""
    lines = lines_of(Path(__file__).with_name("log-3.jsonl"))
    changed = [line.replace(b"offer-missed", b"declined") for line in lines]
    assert changed != lines
    assert not (await report_of(check, changed)).passed


def test_the_newest_golden_log_is_what_is_written_today():
    """A new form of a record wants a new golden log beside the old ones (``python -m tests.golden.make N``)."""
    assert run_virtual(make(len(FILES))) == lines_of(FILES[-1])


def test_golden_logs_hold_every_type_of_record():
    types = {orjson.loads(orjson.loads(line)["value"])["type"] for path in FILES for line in lines_of(path)}
    assert set(RECORD_TYPES) <= types
