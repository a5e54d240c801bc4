"""Hours are what the clock on the wall says, minute by minute, in every zone and on every day of the year."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from routing import hours as hours_module
from routing.hours import AHEAD_DAYS, DAY_MS, Clock, closed_longest_ms
from routing.inputs import Span, TeamHours
from routing.zones import KNOWN_FROM, KNOWN_UNTIL, offsets_of

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
CLOSED: tuple[tuple[Span, ...], ...] = ((),) * 7
ZONES = (
    "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Africa/Casablanca", "Pacific/Chatham", "America/Santiago", "Asia/Gaza", "Pacific/Kiritimati", "UTC",
)  # fmt: skip


def span(text: str) -> Span:
    (start, end) = ((int(h) * 60 + int(m)) * MINUTE_MS for h, m in (time.split(":") for time in text.split("-")))
    return start, end if end > start else end + DAY_MS


def clock(zone: str, *spans: str, **dates: tuple[str, ...]) -> Clock:
    """The same spans on every day; ``d2026_12_24`` are dates that differ."""
    exceptions = tuple((day[1:].replace("_", "-"), tuple(map(span, said))) for day, said in dates.items())
    rules = TeamHours(zone=zone, week=(tuple(map(span, spans)),) * 7, dates=exceptions)
    return Clock(rules, offsets_of(zone))


def at(text: str) -> int:
    """An instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def openings(of: Clock, start: str, hours: int) -> list[str]:
    """When it opens and closes, in UTC, one after the other."""
    now_ms, end_ms, found = at(start), at(start) + hours * HOUR_MS, []
    while now_ms < end_ms:
        now_ms = of.standing(now_ms).until_ms
        if now_ms < end_ms:
            found.append(f"{datetime.fromtimestamp(now_ms / 1000, UTC):%H:%M} {'+' if of.is_open(now_ms) else '-'}")
    return found


# --- the days on which clocks change (Berlin: 2026-03-29 01:00 UTC, 2026-10-25 01:00 UTC) ---


def test_a_span_in_the_hour_that_clocks_skip_is_never_there() -> None:
    assert openings(clock("Europe/Berlin", "02:15-02:45"), "2026-03-28T12:00", 24) == []
    assert openings(clock("Europe/Berlin", "02:15-02:45"), "2026-03-29T12:00", 24) == ["00:15 +", "00:45 -"]


def test_a_span_that_begins_in_the_skipped_hour_begins_when_clocks_have_moved() -> None:
    assert openings(clock("Europe/Berlin", "02:30-04:00"), "2026-03-28T12:00", 24) == ["01:00 +", "02:00 -"]


def test_a_span_that_ends_in_the_skipped_hour_ends_when_clocks_move() -> None:
    assert openings(clock("Europe/Berlin", "01:00-02:30"), "2026-03-28T12:00", 24) == ["00:00 +", "01:00 -"]


def test_a_span_in_the_doubled_hour_is_there_twice() -> None:
    times = ["00:15 +", "00:45 -", "01:15 +", "01:45 -"]
    assert openings(clock("Europe/Berlin", "02:15-02:45"), "2026-10-24T12:00", 24) == times


def test_a_span_around_the_doubled_hour_is_an_hour_longer() -> None:
    assert openings(clock("Europe/Berlin", "01:00-04:00"), "2026-10-24T12:00", 24) == ["23:00 +", "03:00 -"]


def test_working_hours_stay_what_the_clock_says_on_both_sides_of_a_change() -> None:
    office = clock("Europe/Berlin", "09:00-17:00")
    assert openings(office, "2026-03-28T00:00", 24) == ["08:00 +", "16:00 -"]
    assert openings(office, "2026-03-29T00:00", 24) == ["07:00 +", "15:00 -"]
    assert openings(office, "2026-10-25T00:00", 24) == ["08:00 +", "16:00 -"]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_a_whole_day_has_23_24_or_25_hours(day: str, hours: int) -> None:
    rules = TeamHours(zone="Europe/Berlin", week=CLOSED, dates=((day, (span("00:00-24:00"),)),))
    of = Clock(rules, offsets_of("Europe/Berlin"))
    opens_ms = of.standing(at(day) - 12 * HOUR_MS).until_ms
    assert of.standing(opens_ms).until_ms - opens_ms == hours * HOUR_MS


def test_a_night_shift_belongs_to_the_day_on_which_it_begins() -> None:
    """On a holiday it does not begin; what began the evening before goes on."""
    night = clock("UTC", "22:00-06:00", d2026_12_25=())
    assert openings(night, "2026-12-24T12:00", 60) == ["22:00 +", "06:00 -", "22:00 +"]


def test_spans_that_touch_are_one() -> None:
    assert openings(clock("UTC", "22:00-24:00", "00:00-06:00"), "2026-06-01T12:00", 24) == ["22:00 +", "06:00 -"]


def test_zones_may_be_half_an_hour_apart() -> None:
    assert openings(clock("Asia/Kolkata", "09:00-17:00"), "2026-06-01T00:00", 24) == ["03:30 +", "11:30 -"]
    assert openings(clock("Australia/Lord_Howe", "02:10-02:20"), "2026-10-03T12:00", 24) == []


def test_where_nothing_changes_one_looks_again_after_a_year() -> None:
    always = clock("UTC", "00:00-24:00")
    assert always.standing(at("2026-01-01")) == (True, at("2026-01-01") + AHEAD_DAYS * DAY_MS)
    never = Clock(TeamHours(zone="UTC", week=CLOSED), offsets_of("UTC"))
    assert never.standing(0) == (False, AHEAD_DAYS * DAY_MS)


def test_beyond_what_is_known_a_zone_stays_as_it_was() -> None:
    later = KNOWN_UNTIL + timedelta(days=200)
    office = clock("Europe/Berlin", "09:00-17:00")
    assert office.is_open(round(later.replace(hour=8, minute=30).timestamp() * 1000))
    assert not office.is_open(round(later.replace(hour=7, minute=30).timestamp() * 1000))


def test_the_longest_time_that_nobody_is_there() -> None:
    week = ((span("09:00-17:00"),),) * 5 + ((), ())
    assert closed_longest_ms(week) == 64 * HOUR_MS
    assert closed_longest_ms(((span("00:00-24:00"),),) * 7) == 0
    assert closed_longest_ms(((span("22:00-06:00"),), *CLOSED[1:])) == (6 * 24 + 16) * HOUR_MS


# --- zones ---


@pytest.mark.parametrize("zone", ZONES)
def test_offsets_are_those_of_the_zone(zone: str) -> None:
    of, known = Clock(TeamHours(zone=zone, week=CLOSED), offsets_of(zone)), ZoneInfo(zone)
    now = KNOWN_FROM + timedelta(minutes=3)
    while now < KNOWN_UNTIL:
        offset = now.astimezone(known).utcoffset()
        assert offset is not None
        assert of._offset_ms(round(now.timestamp() * 1000)) == offset // timedelta(milliseconds=1), now
        now += timedelta(hours=42, minutes=7)


@pytest.mark.parametrize(
    "zone", ["Europe", "Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "localtime", "a\0b"]
)
def test_what_is_no_zone_is_refused_in_a_sentence(zone: str) -> None:
    with pytest.raises(ValueError, match="there is no such time zone: write a name of the IANA database"):
        offsets_of(zone)


def test_without_zone_data_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.zones.available_timezones", set)
    with pytest.raises(ValueError, match="install its package"):
        offsets_of("Nowhere/At_All")


def test_a_slip_in_a_zones_name_is_noticed() -> None:
    with pytest.raises(ValueError, match='did you mean "Europe/Berlin"'):
        offsets_of("Europe/Berlni")


# --- against the obvious ---

minutes = st.integers(0, 24 * 60 - 1)
spans = st.tuples(minutes, st.sampled_from([1, 15, 60, 150, 400, 24 * 60])).map(
    lambda s: (s[0] * MINUTE_MS, (s[0] + s[1]) * MINUTE_MS)
)
days = st.lists(spans, max_size=3).map(tuple)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, TeamHours, datetime]:
    """Hours in a zone, and an instant that is often near a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    changes = [change_ms for change_ms, _ in offsets_of(zone)[1:]]
    anything = st.integers(0, 20 * 365 * 24 * 60).map(lambda n: KNOWN_FROM + timedelta(minutes=n))
    near = st.tuples(st.sampled_from(changes or [0]), st.integers(-30 * 60, 6 * 60)).map(
        lambda c: datetime.fromtimestamp(c[0] / 1000, UTC) + timedelta(minutes=c[1])
    )
    now = draw(st.one_of(near, near, anything) if changes else anything).replace(second=0, microsecond=0)
    here = now.astimezone(ZoneInfo(zone)).date()
    exceptions = draw(st.dictionaries(st.integers(-1, 3), days, max_size=2))
    dates = tuple(((here + timedelta(days=n)).isoformat(), said) for n, said in sorted(exceptions.items()))
    return zone, TeamHours(zone=zone, week=tuple(draw(days) for _ in range(7)), dates=dates), now


def obviously_open(rules: TeamHours, zone: ZoneInfo, now: datetime) -> bool:
    """Look at the wall: between the times of today, or of what began yesterday."""
    wall = now.astimezone(zone)
    today_ms = (wall.hour * 60 + wall.minute) * MINUTE_MS
    yesterday = wall.date() - timedelta(days=1)
    return any(start <= today_ms < end for start, end in said_of(rules, wall.date())) or any(
        start <= today_ms + DAY_MS < end for start, end in said_of(rules, yesterday)
    )


def said_of(rules: TeamHours, day: date) -> tuple[Span, ...]:
    special = [said for date_, said in rules.dates if date_ == day.isoformat()]
    return special[0] if special else rules.week[day.weekday()]


def agrees_with_the_wall(case: tuple[str, TeamHours, datetime]) -> None:
    """For a day and a half, minute by minute: open or not, and until when."""
    name, rules, start = case
    zone, of = ZoneInfo(name), Clock(rules, offsets_of(name))
    wall = [obviously_open(rules, zone, start + timedelta(minutes=n)) for n in range(36 * 60)]
    start_ms = round(start.timestamp() * 1000)
    until_ms = start_ms
    for n, is_open in enumerate(wall):
        now_ms = start_ms + n * MINUTE_MS
        assert of.is_open(now_ms) == is_open, now_ms
        if now_ms == until_ms:  # what was said to change changes, and nothing has before
            assert n == 0 or wall[n - 1] != is_open, now_ms
            until_ms = of.standing(now_ms).until_ms
        else:
            assert wall[n - 1] == is_open, now_ms


@settings(derandomize=True, max_examples=60, deadline=None)
@given(cases())
def test_hours_are_what_the_clock_on_the_wall_says(case: tuple[str, TeamHours, datetime]) -> None:
    agrees_with_the_wall(case)


search = settings(
    derandomize=True,
    max_examples=1_000,  # it ends at the first one that shows the bug
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@search
@given(cases())
def search_for_a_difference(case: tuple[str, TeamHours, datetime]) -> None:
    agrees_with_the_wall(case)


PLANTED = {
    "clocks never change": ("_offset_ms", lambda self, _at: self._offsets_ms[0]),
    "a change of clocks is not looked for": ("_next_offset_ms", lambda _self, _at: None),
    "nothing passes midnight": ("_open_on", lambda self, day: hours_module.joined(self._begin_on(day))),
    "dates are as the week": ("_begin_on", lambda self, day: self._week[(day + 3) % 7]),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_wall_sees_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, *PLANTED[bug])
    with pytest.raises(AssertionError):
        search_for_a_difference()


def test_every_zone_of_the_system_can_be_read() -> None:
    names = sorted(available_timezones() - {"localtime"})
    for name in names[:: max(len(names) // 25, 1)]:
        assert offsets_of(name)
