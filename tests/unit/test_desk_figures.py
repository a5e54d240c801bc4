"""The arithmetic of fairness and waiting, and the estimate, by hand-made examples and obvious recounts."""

from __future__ import annotations

import random

import pytest

from consumers.desk import figures
from consumers.desk.estimates import GIVEN_MIN, WINDOW_MS, Pace, PaceCounter, estimate_ms
from consumers.desk.figures import ERROR_MAX, Durations, Shares, Waits, jain, percentile, percentiles, shares
from consumers.desk.periods import DAY_MS, Span, period_of
from events.times import parse_time
from tests.desk_given import lines_of, random_desk
from tests.desk_recount import chosen


@pytest.mark.parametrize(
    ("counts", "weights", "index"),
    [
        ([5, 5, 5], None, 1),
        ([9, 0, 0], None, 1 / 3),
        ([1, 2, 3], None, 36 / 42),
        ([2, 4], [1, 2], 1),
        ([3, 3], [1, 2], (3 + 1.5) ** 2 / (2 * (9 + 2.25))),
        ([0, 0], None, None),
        ([], None, None),
    ],
)
def test_jains_index_is_1_where_all_have_the_same_for_their_weight(counts, weights, index):
    assert jain(counts, weights) == (None if index is None else pytest.approx(index))


def test_shares_say_how_far_apart_the_least_and_the_most_are():
    assert shares([4, 7, 5], [1, 2, 1]) == Shares(3, 16, 4, 7, 3, jain([4, 7, 5]), jain([4, 7, 5], [1, 2, 1]))
    assert shares([]) == Shares(0, 0, 0, 0, 0, None, None)


def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed():
    assert [percentile([10, 20, 30, 40], percent) for percent in (1, 25, 26, 50, 75, 76, 100)] == [
        10, 10, 20, 20, 30, 40, 40,
    ]  # fmt: skip
    assert percentiles([]) == Waits(0, None, None, None, None)
    assert percentiles([7]) == Waits(1, 7, 7, 7, 7)
    with pytest.raises(ValueError, match="no value"):
        percentile([], 50)
    with pytest.raises(ValueError, match="0 % percentile"):
        percentile([1], 0)


@pytest.mark.parametrize("exact_max", [0, 10, 2_000])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_in_bounded_memory_are_off_by_half_a_per_cent_at_most(seed, exact_max):
    dice = random.Random(seed)
    values = [dice.choice([0, 1, dice.randrange(100), int(dice.expovariate(1e-7))]) for _ in range(1_500)]
    durations = Durations(exact_max)
    for value in values:
        durations.add(value)
    found, exact = durations.waits(), percentiles(values)
    assert found.is_exact == (exact_max == 2_000)
    assert (found.number, found.longest) == (1_500, max(values))
    for mine, true in ((found.p50, exact.p50), (found.p95, exact.p95), (found.p99, exact.p99)):
        assert mine is not None
        assert true is not None
        assert abs(mine - true) <= (0 if found.is_exact else true * ERROR_MAX + 1)


def test_memory_is_bounded_whatever_the_durations():
    durations = Durations(exact_max=100)
    for power in range(12_000):
        durations.add(int(1.002**power) % (10 * 365 * DAY_MS))
    assert durations._values is None
    assert len(durations._buckets) < 3_000


def test_a_bucket_too_wide_turns_the_bound_red(monkeypatch):
    monkeypatch.setattr(figures, "_GROWTH", 1.05)
    monkeypatch.setattr(figures, "_PER_LOG", 1 / 0.04879)
    with pytest.raises(AssertionError):
        test_percentiles_in_bounded_memory_are_off_by_half_a_per_cent_at_most(1, 0)


def test_weeks_begin_on_monday_and_days_at_midnight_utc():
    sunday_ms = parse_time("2026-11-22T23:59:59.999Z")
    assert period_of(sunday_ms, "day").until_ms == parse_time("2026-11-23T00:00:00Z")
    assert period_of(sunday_ms, "week") == Span(parse_time("2026-11-16T00:00:00Z"), parse_time("2026-11-23T00:00:00Z"))
    assert period_of(sunday_ms + 1, "week").from_ms == parse_time("2026-11-23T00:00:00Z")
    assert period_of(-1, "day") == Span(-DAY_MS, 0)


# --- the estimate ---


def test_the_estimate_is_the_place_times_the_window_by_what_was_given():
    assert estimate_ms(1, 6, 3_600_000) == 600_000
    assert estimate_ms(4, 6, 3_600_000) == 2_400_000
    assert estimate_ms(2, 3, 100) == 67
    pace = Pace(WINDOW_MS, PaceCounter().by_pool, PaceCounter().by_agent)
    pace.by_pool["team/s"] = 12
    pace.by_agent["anna"] = 4
    assert pace.of_pool("team/s", 2) == WINDOW_MS // 6
    assert pace.of_agent("anna", 1) == WINDOW_MS // 4


def test_it_is_unknown_where_there_is_nothing_to_go_by():
    assert estimate_ms(1, GIVEN_MIN - 1, WINDOW_MS) is None
    assert estimate_ms(1, 0, WINDOW_MS) is None
    assert estimate_ms(1, 50, 0) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_pace_counts_what_was_given_from_each_pool_but_not_by_hand(seed):
    records = random_desk(seed).records
    counter = PaceCounter()
    for line in lines_of(records):
        counter.take(line)
    made = [index for index, record in enumerate(records) if record.type == "assignment.made"]
    given = [index for index in made if records[index].data["strategy"] != "by-hand"]
    names = [chosen(records, index)[0][0] for index in given]
    assert {name: names.count(name) for name in names} == counter.by_pool
    agents = [records[index].data["agent"] for index in given]
    assert {agent: agents.count(agent) for agent in agents} == counter.by_agent
