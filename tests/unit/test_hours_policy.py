"""``[hours.*]`` is read whole; what is wrong with it is named with key and line, what is odd is warned about."""

from __future__ import annotations

import pytest

from routing.errors import PolicyError
from routing.hours import DAY_MS
from routing.inputs import PoolTarget
from routing.policy import Policy
from routing.policy_checks import warnings
from routing.policy_file import parse_policy
from routing.policy_template import template_text
from routing.texts import DEFAULTS

HOUR_MS = 3_600_000
HOURS = """\
[workflow]
languages = ["en", "pt-BR"]
[hours.office]
teams = ["support"]
zone = "Europe/Berlin"
monday = ["09:00-12:30", "13:30-18:00"]
friday = ["22:00-06:00"]
sunday = ["00:00-24:00"]
holidays = ["2026-12-25"]
dates = { "2026-12-24" = ["09:00-12:00"] }
outside = { team = "night", strategy = "least-open" }
message = { en = "Back soon, {name}!" }
[hours.night]
teams = ["night"]
zone = "UTC"
monday = ["18:00-09:00"]
[crm]
url = "https://crm.example.com/{email}"
[branch.vip]
conditions = [{ variable = "crm_status", operator = "is equal to", value = 200 }]
[route]
vip.agent = "anna"
regular.team = "support"
escalated.workspace = true
"""


def policy_with(*changes: tuple[str, str]) -> Policy:
    text = HOURS
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_policy(text, source="test.toml", is_new=True)


def test_hours_are_read() -> None:
    policy = policy_with()
    office = policy.hours["office"]
    assert (office.rules.teams, office.rules.workspace, office.rules.zone) == (("support",), False, "Europe/Berlin")
    assert office.rules.week[0] == (
        (9 * HOUR_MS, 12 * HOUR_MS + HOUR_MS // 2),
        (13 * HOUR_MS + HOUR_MS // 2, 18 * HOUR_MS),
    )
    assert office.rules.week[1] == ()
    assert office.rules.week[4] == ((22 * HOUR_MS, 30 * HOUR_MS),)
    assert office.rules.week[6] == ((0, DAY_MS),)
    assert office.rules.dates == (("2026-12-24", ((9 * HOUR_MS, 12 * HOUR_MS),)), ("2026-12-25", ()))
    assert office.rules.outside == PoolTarget(team="night", strategy="least-open")
    assert len(office.offsets) > 40
    assert warnings(policy) == []


def test_a_text_is_the_files_or_ours_and_none_unless_it_is_asked_for() -> None:
    assert policy_with().hours["office"].messages == {"en": "Back soon, {name}!", "pt-BR": DEFAULTS["pt"].closed}
    assert policy_with().hours["night"].messages == {}
    ours = policy_with(('message = { en = "Back soon, {name}!" }', "message = true")).hours["office"].messages
    assert ours == {"en": DEFAULTS["en"].closed, "pt-BR": DEFAULTS["pt"].closed}


def test_a_date_may_be_written_as_toml_has_dates() -> None:
    dates = policy_with(('holidays = ["2026-12-25"]', "holidays = [2026-12-25]")).hours["office"].rules.dates
    assert dates[1] == ("2026-12-25", ())


def test_two_teams_may_stand_in_for_each_other() -> None:
    """Follow the sun: where both are closed, it waits for who opens first."""
    policy = policy_with(('monday = ["18:00-09:00"]', 'monday = ["18:00-09:00"]\noutside = { team = "support" }'))
    assert policy.hours["night"].rules.outside == PoolTarget(team="support")


OVERLAP = 'monday = ["09:00-12:30", "12:00-18:00"]'
MESSAGE = 'message = { en = "Back soon, {name}!" }'
OUTSIDE = 'outside = { team = "night", strategy = "least-open" }'
CASES = [
    # old, new, key, a piece of the message
    ('"Europe/Berlin"', '"Europe/Berlni"', "hours.office.zone", 'did you mean "Europe/Berlin"?'),
    ('zone = "Europe/Berlin"', "", "hours.office.zone", "missing"),
    ('"13:30-18:00"', '"13:30-18"', "hours.office.monday[1]", 'write it as "09:00-17:30"'),
    ('"13:30-18:00"', '"13:30-24:30"', "hours.office.monday[1]", "from 00:00 to 24:00"),
    ('"13:30-18:00"', '"24:00-18:00"', "hours.office.monday[1]", "from 00:00 to 24:00"),
    ('"13:30-18:00"', '"18:00-18:00"', "hours.office.monday[1]", "it begins when it ends"),
    ('"13:30-18:00"', "1330", "hours.office.monday[1]", "it has to be a text"),
    ('"13:30-18:00"', '"12:00-18:00"', "hours.office.monday[1]", "it overlaps another one of the same day"),
    ('"09:00-12:30", "13:30-18:00"', '"23:00-08:00", "22:00-23:30"', "hours.office.monday[1]", "it overlaps"),
    (
        'sunday = ["00:00-24:00"]',
        'saturday = ["05:00-09:00"]',
        "hours.office.saturday",
        "what has begun the day before",
    ),
    ('sunday = ["00:00-24:00"]', 'sunday = ["20:00-09:30"]', "hours.office.monday", "what has begun the day before"),
    ('monday = ["09:00-12:30", "13:30-18:00"]', 'monday = "09:00-18:00"', "hours.office.monday", "it has to be a list"),
    ('monday = ["18:00-09:00"]', "", "hours.night", "it never opens"),
    ('["2026-12-25"]', '["2026-12-25", "2026-12-25"]', "hours.office.holidays[1]", "stands in the list twice"),
    ('["2026-12-25"]', '["2026-12-24"]', "hours.office.dates.2026-12-24", "is a holiday already"),
    ('["2026-12-25"]', '["2026-02-30"]', "hours.office.holidays[0]", 'a day such as "2026-12-25"'),
    ('["2026-12-25"]', '["20261225"]', "hours.office.holidays[0]", 'a day such as "2026-12-25"'),
    ('["2026-12-25"]', "[2026-12-25T00:00:00]", "hours.office.holidays[0]", "it has to be a text"),
    ('{ "2026-12-24" =', '{ "xmas" =', "hours.office.dates.xmas", 'a day such as "2026-12-25"'),
    ('["09:00-12:00"]', '["x"]', "hours.office.dates.2026-12-24[0]", "write it as"),
    ('teams = ["support"]', "", "hours.office", "they hold for nobody"),
    ('teams = ["support"]', 'teams = ["suport"]', "hours.office.teams[0]", "did you mean support?"),
    ('teams = ["night"]', 'teams = ["night", "support"]', "hours.night.teams[1]", "has the hours of this team already"),
    (OUTSIDE, 'outside = "night"', "hours.office.outside", 'it has to be "queue", or a target'),
    (OUTSIDE, "outside = {}", "hours.office.outside", "it names nobody"),
    (OUTSIDE, 'outside = { team = "a", agent = "b" }', "hours.office.outside.team", "it names agent and team"),
    (OUTSIDE, 'outside = { agent = "b", skills = ["x"] }', "hours.office.outside.skills", "leave it out here"),
    (OUTSIDE, 'outside = { team = "support" }', "hours.office.outside", "it leads back to who is closed then"),
    (MESSAGE, 'message = "closed"', "hours.office.message", "a table of texts by language"),
    (MESSAGE, 'message = { fr = "x" }', "hours.office.message.fr", "add the language to workflow.languages"),
    (MESSAGE, 'message = { en = "{opens}" }', "hours.office.message.en", "{name} is the only one"),
    ("[hours.office]", "[hours.office]\nmonay = []", "hours.office.monay", "did you mean monday?"),
    ("[hours.office]", '[hours]\nteams = ["support"]\n[hours.office]', "hours.teams", "write a table such as"),
]


@pytest.mark.parametrize(("old", "new", "key", "piece"), CASES)
def test_what_is_wrong_is_named_with_key_and_line(old: str, new: str, key: str, piece: str) -> None:
    text = HOURS.replace(old, new, 1)
    assert text != HOURS
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, source="test.toml", is_new=True)
    error = caught.value
    assert (error.key, piece in error.problem) == (key, True), error
    assert error.line is not None
    name = key.rpartition(".")[2].partition("[")[0]
    assert name in text.splitlines()[error.line - 1] or "missing" in piece or "no text of ours" in piece


def test_a_language_without_a_text_of_ours_needs_one() -> None:
    texts = "email.messages.de = { ask = 'a', retry = ['r'], success = 's', escalated = 'e' }\n[workflow]"
    german = [('"pt-BR"', '"de"'), ("[workflow]", texts)]
    for message, key in (("message = true", "hours.office.message"), (MESSAGE, "hours.office.message.de")):
        with pytest.raises(PolicyError, match=f'{key}: there is no text of ours in "de"'):
            policy_with(*german, (MESSAGE, message))


WORKSPACE = ('teams = ["night"]', "workspace = true")


def test_hours_of_the_workspace_need_a_route_to_it() -> None:
    outside = (OUTSIDE, "")
    assert policy_with(WORKSPACE, outside).hours["night"].rules.workspace
    with pytest.raises(PolicyError, match=r"hours\.night\.workspace.*no route leads to the workspace"):
        policy_with(WORKSPACE, outside, ("escalated.workspace = true", 'escalated.team = "x"'))


def test_two_hours_of_the_workspace_are_refused() -> None:
    with pytest.raises(
        PolicyError, match=r"hours\.office\.workspace|hours\.night\.workspace.*of the workspace already"
    ):
        policy_with(WORKSPACE, (OUTSIDE, ""), ('teams = ["support"]', "workspace = true"))


def test_standing_in_for_oneself_by_the_workspace_is_refused() -> None:
    with pytest.raises(PolicyError, match="it leads back"):
        policy_with(
            WORKSPACE, (OUTSIDE, ""), ('monday = ["18:00-09:00"]', 'monday = ["18:00-09:00"]\noutside.workspace = true')
        )


def test_who_waits_less_long_than_the_team_is_closed_is_warned_about() -> None:
    policy = policy_with(
        (OUTSIDE, ""),
        ('[hours.night]\nteams = ["night"]\nzone = "UTC"\nmonday = ["18:00-09:00"]', ""),
        ('regular.team = "support"', 'regular.team = "support"\nregular.wait_max = "2h"'),
    )
    assert [finding.key for finding in warnings(policy)] == ["route.regular.wait_max"]
    assert "hours.office is closed for up to 100 hours" in warnings(policy)[0].problem


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
NINE_TO_FIVE = "\n".join(f'{day} = ["09:00-17:00"]' for day in WEEKDAYS)


def each_for_the_other(zone: str = "Europe/Berlin", days: str = NINE_TO_FIVE, wait_max: str = "7d") -> Policy:
    """Two teams that stand in for each other; ``zone`` and ``days`` are those of the second."""
    start, end = HOURS.index("[hours.office]"), HOURS.index("[crm]")
    text = HOURS[:start]
    text += f'[hours.office]\nteams = ["support"]\nzone = "Europe/Berlin"\noutside.team = "night"\n{NINE_TO_FIVE}\n'
    text += f'[hours.night]\nteams = ["night"]\nzone = "{zone}"\noutside.team = "support"\n{days}\n'
    text += HOURS[end:] + f'regular.wait_max = "{wait_max}"\n'
    return parse_policy(text, source="test.toml", is_new=True)


def test_who_stands_in_but_is_closed_just_then_is_warned_about_with_the_wait_that_follows() -> None:
    policy = each_for_the_other(wait_max="2h")
    found = warnings(policy)
    keys = ["hours.office.outside", "hours.night.outside", "route.regular.wait_max"]
    assert [finding.key for finding in found] == keys
    assert "nobody ever stands in" in found[0].problem
    assert "closed for up to 64 hours" in found[2].problem
    lines = policy.text.splitlines()
    assert [lines[(finding.line or 0) - 1].split(" =")[0] for finding in found] == [
        "outside.team", "outside.team", "regular.wait_max",
    ]  # fmt: skip


def test_who_is_there_for_part_of_the_others_hours_never_stands_in_and_the_other_does() -> None:
    """Also where the longer hours are written in pieces or pass midnight."""
    shorter = each_for_the_other(days='monday = ["10:00-16:00"]')
    assert [finding.key for finding in warnings(shorter)] == ["hours.office.outside"]
    longer = each_for_the_other(
        days='sunday = ["20:00-12:00"]\nmonday = ["12:00-17:00"]\n' + NINE_TO_FIVE.partition("\n")[2]
    )
    assert [finding.key for finding in warnings(longer)] == ["hours.night.outside"]


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("America/New_York", NINE_TO_FIVE),
        ("Europe/Berlin", NINE_TO_FIVE.replace("17:00", "18:00", 1)),
        ("Europe/Berlin", 'sunday = ["23:00-10:00"]'),
        ("Europe/Berlin", NINE_TO_FIVE + '\nholidays = ["2026-12-25"]'),
    ],
)
def test_who_is_there_at_another_time_stands_in_without_a_warning(zone: str, days: str) -> None:
    """Follow the sun, another closing time, a night that passes into the week, holidays of one's own."""
    found = [finding.key for finding in warnings(each_for_the_other(zone, days, wait_max="2h"))]
    assert "hours.office.outside" not in found
    assert "route.regular.wait_max" not in found


def test_who_is_always_there_stands_in() -> None:
    for outside in ('{ team = "always" }', '{ agent = "ina" }', "{ workspace = true }"):
        policy = policy_with((OUTSIDE, f"outside = {outside}"), ('teams = ["night"]', 'teams = ["support2"]'),
                             ('vip.agent = "anna"', 'vip.team = "support2"'))  # fmt: skip
        assert "hours.office.outside" not in [finding.key for finding in warnings(policy)]


def test_a_text_of_blanks_out_of_hours_is_refused() -> None:
    with pytest.raises(PolicyError, match=r'hours\.office\.message\.en: it is blank: write a text, "" sends nothing'):
        policy_with((MESSAGE, 'message = { en = " " }'))
    assert policy_with((MESSAGE, 'message = { en = "" }')).hours["office"].messages["en"] == ""


def test_agents_of_a_team_that_stands_in_are_not_idle() -> None:
    policy = policy_with(("escalated.workspace = true", 'escalated.team = "support"\n[agents.ina]\nteams = ["night"]'))
    assert warnings(policy) == []


def test_the_templates_hours_are_right() -> None:
    lines = template_text().splitlines()
    start = lines.index("# [hours.office]")
    end = next(index for index in range(start, len(lines)) if not lines[index].startswith("# "))
    for index in range(start, end):
        lines[index] = lines[index].removeprefix("# ")
    policy = parse_policy("\n".join(lines), source="template")
    assert policy.hours["office"].rules.teams == ("support",)
    assert policy.hours["office"].messages["fr"] == DEFAULTS["fr"].closed
    assert warnings(policy) == []
