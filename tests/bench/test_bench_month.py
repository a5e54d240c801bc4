"""A small month: the lean desk chooses as the whole decider does, and the page tells all of it. Nothing is timed.

And a small past: what is restored is what was left.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from consumers.lane_spec import LaneLimits
from events.memory import MemoryLog
from events.topics import partition_counts
from tests.bench import bench_restore
from tests.bench.bench_month import main
from tests.bench.month_check import checked, hours
from tests.bench.month_loop import Given, LeanDesk, simulate
from tests.bench.month_model import HOUR_MS, ROUTES, START_MS, STRATEGIES, Setting, drawn, targets, teams_of
from tests.bench.month_page import duration, page
from tests.bench.month_results import result_of

SMALL = Setting(days=1, agents=40, conversations_a_day=2_520, contacts=2_000, work_ms=540_000)


@pytest.fixture(scope="module")
def month():
    return drawn(SMALL)


@pytest.fixture(scope="module")
def busy_hours(month):
    return hours(month, START_MS + 8 * HOUR_MS, START_MS + 14 * HOUR_MS)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_lean_desk_gives_each_conversation_to_whom_the_whole_decider_gives_it(month, busy_hours, strategy):
    found = checked(month, strategy, busy_hours)
    assert found.first_difference is None
    assert found.conversations > 500
    assert 100 < found.waited < 500
    assert {month.routes[number] for number in busy_hours} == {0, 1, 2}


class _Forgets(LeanDesk):
    """Does not note that somebody who ended something waits for work from now on."""

    def ends(self, conversation: int, now_ms: int) -> Sequence[Given]:
        agent = self._agents[self._owners[conversation]]
        idle_since = agent.idle_since
        given = super().ends(conversation, now_ms)
        if not given:
            agent.idle_since = idle_since
            self._tell(agent)
        return given


class _Waits(LeanDesk):
    """Lets fallbacks never open."""

    def next_due_ms(self) -> int | None:
        return None


@pytest.mark.parametrize(
    ("planted", "strategy"),
    [(_Forgets, "least-open"), (_Forgets, "longest-idle"), (_Forgets, "sticky"), (_Waits, "round-robin")],
)
def test_a_lean_desk_that_chooses_otherwise_is_found_out(month, busy_hours, planted, strategy):
    """The check's negative control."""
    found = checked(month, strategy, busy_hours, planted)
    assert found.first_difference is not None
    assert re.match(r"conversation \d+: agent-\d+ at \d+ ms by the lean desk, agent-\d+ at", found.first_difference)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_has_more_than_he_may_or_works_out_of_his_shift(month, strategy):
    """Counted from the outcome alone: owners, and from when to when they had what."""
    happened = simulate(month, LeanDesk(month, strategy))
    changes = [(at_ms, -1, number) for number, at_ms in enumerate(happened.ended_ms)]
    changes += [(at_ms, 1, number) for number, at_ms in enumerate(happened.given_ms)]
    shown = deque(month.shown)
    open_, status = dict.fromkeys(month.paces, 0), {}
    for at_ms, change, number in sorted(changes):
        while shown and shown[0].at_ms <= at_ms:
            _, agent, status[agent] = shown.popleft()
        agent = happened.owners[number]
        open_[agent] += change
        assert open_[agent] <= SMALL.max_open
        assert change < 0 or status[agent] == "online"
    assert not any(open_.values())


def test_a_vip_s_first_agent_is_of_the_vip_desk_and_after_a_minute_anybody(month):
    happened = simulate(month, LeanDesk(month, "longest-idle"))
    after_ms = targets("longest-idle")["vip"].fallback_after_ms
    vips = [number for number, route in enumerate(month.routes) if ROUTES[route] == "vip"]
    waited_ms = {number: happened.given_ms[number] - month.arrives_ms[number] for number in vips}
    soon = {number for number in vips if waited_ms[number] < after_ms}
    assert all("vip-desk" in teams_of(happened.owners[number]) for number in soon)
    assert any("vip-desk" not in teams_of(happened.owners[number]) for number in set(vips) - soon)


def test_the_same_seed_gives_the_same_month_and_another_one_another(month):
    drawn.cache_clear()
    assert drawn(SMALL) == month
    assert drawn(Setting(**{**_fields(SMALL), "seed": 7})).arrives_ms != month.arrives_ms


def _fields(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in Setting.__slots__}


def test_the_page_is_one_whole_file_with_tables_and_plots_and_says_its_seed():
    results = [result_of(SMALL, strategy) for strategy in STRATEGIES]
    written = page(SMALL, results, took_s=3.2)
    assert "seed 6" in written
    assert "It gave each to the same agent at the same time." in written
    assert not re.search(r"<(script|link|img)|src=|@import", written)
    plots = re.findall(r"<svg.*?</svg>", written, flags=re.DOTALL)
    assert [ET.fromstring(plot)[0].text for plot in plots] == [
        "Time to assign by class",
        "Time to assign of regular conversations, p95",
        "Conversations that come in an hour for each agent online",
        "Conversations for each hour on shift, agent by agent",
    ]
    assert all(f"<td>{route}, {strategy}</td>" in written for route in ROUTES for strategy in STRATEGIES)


def test_the_page_says_so_where_the_decider_decided_otherwise():
    result = result_of(SMALL, "least-open")
    differs = result._replace(checked=result.checked._replace(first_difference="conversation 7: <nobody>"))
    assert "IT DECIDED OTHERWISE: conversation 7: &lt;nobody&gt;." in page(SMALL, [differs], took_s=3.2)


def test_the_command_prints_both_tables_and_writes_the_page(tmp_path, capsys):
    assert main(SMALL, tmp_path / "month.html", processes=1)
    printed = capsys.readouterr().out
    assert "Time to assign" in printed
    assert "Fairness" in printed
    assert (tmp_path / "month.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("value_ms", "text"), [(None, "-"), (0, "0 s"), (59_000, "59 s"), (90_000, "1.5 min"), (7_200_000, "2.0 h")]
)
def test_durations_are_told_as_people_read_them(value_ms, text):
    assert duration(value_ms) == text


async def _restored(*, with_snapshots: bool) -> tuple[int, list[str]]:
    log = MemoryLog(cluster_id="bench", clock_ms=lambda: 0, topics=partition_counts(1, 1))
    past = await bench_restore.make(log, conversations=300, agents=5)
    found = await bench_restore.restored(log, past.tail.log_id, with_snapshots=with_snapshots)
    return found.folded, bench_restore.differences(past.state, found.state)


@pytest.mark.parametrize("with_snapshots", [False, True])
def test_what_is_restored_is_what_was_left(monkeypatch, with_snapshots):
    monkeypatch.setattr(bench_restore, "LaneLimits", lambda: LaneLimits(snapshot_records=500))
    folded, differences = asyncio.run(_restored(with_snapshots=with_snapshots))
    assert differences == []
    assert folded < 500 if with_snapshots else folded > 600


async def _cut() -> list[str]:
    log = MemoryLog(cluster_id="bench", clock_ms=lambda: 0, topics=partition_counts(1, 1))
    past = await bench_restore.make(log, conversations=20, agents=5)
    missing = min(past.state.state.desk("default").agents)
    found = await bench_restore.restored(log, past.tail.log_id, with_snapshots=False)
    assert isinstance(found.state, type(past.state))
    found.state.state.desk("default").agents[missing].open += 1
    del found.state.state.parts.values["default/conversation/contact-0000007/conversation-0000007"]
    return bench_restore.differences(past.state, found.state)


def test_a_part_that_is_missing_and_a_count_that_is_wrong_are_found():
    """The comparison's negative control."""
    assert asyncio.run(_cut()) == ["default/conversation/contact-0000007/conversation-0000007", "agent-00"]


def test_the_bench_of_restores_prints_both_and_the_bare_loop(capsys):
    asyncio.run(bench_restore.main(conversations=50, agents=5))
    printed = capsys.readouterr().out
    assert all(row in printed for row in ("from the log", "with snapshots", "bare"))
