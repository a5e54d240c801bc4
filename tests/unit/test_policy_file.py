"""A policy's text is read whole, and what is wrong in it is named with key and line."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.policies import load_policies
from routing.errors import PolicyError
from routing.inputs import ConfiguredAgent, PoolTarget
from routing.policy import Condition, CrmVariable, Policy, Route
from routing.policy_checks import warnings
from routing.policy_file import parse_policy
from routing.policy_reader import TEXT_BYTES_MAX
from routing.policy_template import template_text
from routing.texts import DEFAULTS

LEAST = """\
[crm]
url = "https://crm.example.com/{email}"
[branch.vip]
conditions = [{ variable = "crm_status", operator = "is equal to", value = 200 }]
[route]
vip.agent = "anna"
regular.workspace = true
escalated.agent = "maya"
"""


def parse(text: str) -> Policy:
    return parse_policy(text, source="test.toml")


def refused(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return caught.value


def test_the_template_is_the_designs_policy() -> None:
    policy = parse(template_text())
    assert policy.workflow.name == "vip-contacts"
    assert policy.workflow.languages == ("en", "fr", "pt", "id", "ar")
    assert policy.workflow.forget_after_ms == 30 * 86_400_000
    assert policy.trigger.opened_by == ("contact",)
    assert policy.trigger.once_per_contact is False
    assert policy.trigger.one_open_per_contact is True
    assert (policy.email.retries, policy.email.grace_ms, policy.email.answer_timeout_ms) == (3, 5000, 12 * 3_600_000)
    assert policy.email.stop_words == {"stop"}
    assert policy.email.skip_channels == frozenset()
    assert policy.crm.method == "GET"
    assert policy.crm.url == "https://crm.example.com/v1/contacts?email={email}"
    assert policy.crm.headers == {"Authorization": "Bearer ${CRM_TOKEN}"}
    assert policy.crm.body is None
    assert (policy.crm.timeout_ms, policy.crm.attempts, policy.crm.deadline_ms) == (3000, 3, 15_000)
    assert (policy.crm.on_failure, policy.crm.not_found) == ("regular", "regular")
    assert policy.crm.variables == {
        "customer_type": CrmVariable(path="$.customerType", personal=False),
        "account_manager": CrmVariable(path="$.accountManager", personal=False),
    }
    assert policy.branch_vip.match == "all"
    assert policy.branch_vip.conditions == (Condition(variable="customer_type", operator="is equal to", value="VIP"),)
    assert policy.routes.vip == Route(
        agent="anna",
        fallback=PoolTarget(team="vip-desk", strategy="least-open"),
        fallback_after_ms=120_000,
        wait_max_ms=900_000,
    )
    assert policy.routes.regular == Route(team="support", wait_max_ms=7 * 86_400_000)
    assert policy.routes.escalated == Route(
        agent="maya",
        fallback=PoolTarget(team="managers", strategy="least-open"),
        fallback_after_ms=0,
        wait_max_ms=3_600_000,
    )
    assert policy.agents.max_open == 20
    assert policy.agents.agents == {"anna": ConfiguredAgent(teams=("vip-desk",))}


def test_the_template_has_no_warning() -> None:
    assert warnings(parse(template_text())) == []


def test_the_templates_commented_keys_are_right_too() -> None:
    lines = template_text().splitlines()
    start = lines.index("# [email.messages.en]")
    for index in range(start, start + 5):
        lines[index] = lines[index].removeprefix("# ")
    text = "\n".join(lines).replace('method = "GET" ', 'method = "POST" ').replace("# body =", "body =")
    policy = parse(text)
    assert policy.email.messages["en"].retry[2] == "One last try, {name}?"
    assert policy.crm.body == '{"email":"{email}"}'
    assert warnings(policy) == []


def test_what_is_left_out_has_the_templates_value() -> None:
    least, template = parse(LEAST), parse(template_text())
    assert least.workflow == template.workflow
    assert least.trigger == template.trigger
    assert least.email == template.email
    assert least.agents.max_open == template.agents.max_open
    for field in ("method", "timeout_ms", "attempts", "deadline_ms", "on_failure", "not_found"):
        assert getattr(least.crm, field) == getattr(template.crm, field)
    for route in ("vip", "regular", "escalated"):
        assert least.routes.named(route).wait_max_ms == template.routes.named(route).wait_max_ms


def test_the_version_is_the_texts_hash() -> None:
    policy = parse(LEAST)
    assert policy.version == "sha256:" + sha256(LEAST.encode()).hexdigest()[:16]
    assert policy.text == LEAST
    assert parse(LEAST + "\n").version != policy.version


def test_durations_have_four_units() -> None:
    for text, ms in [("90s", 90_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000)]:
        assert parse(f'email.answer_timeout = "{text}"\n' + LEAST).email.answer_timeout_ms == ms


def test_an_own_text_takes_the_place_of_ours_and_the_others_stay() -> None:
    policy = parse(LEAST + '[email.messages.fr]\nask = ""\nretry = ["a", "b"]\n')
    french = policy.email.messages["fr"]
    assert (french.ask, french.retry, french.success) == ("", ("a", "b"), DEFAULTS["fr"].success)
    assert policy.message("ask", language="fr", attempt=1, name="x") == ""
    assert policy.email.messages["en"].ask == DEFAULTS["en"].ask


def test_a_regional_language_has_the_texts_of_its_language() -> None:
    policy = parse('workflow.languages = ["pt-BR", "de"]\n' + LEAST + "[email.messages.de]\n" + ALL_TEXTS)
    assert policy.email.messages["pt-BR"].ask == DEFAULTS["pt"].ask
    assert policy.language("pt-BR") == "pt-BR"
    assert policy.email.messages["de"].ask == "a"


ALL_TEXTS = 'ask = "a"\nretry = ["b"]\nsuccess = "c"\nescalated = "d"\n'


def test_a_variable_may_be_personal_and_a_list_a_table_each() -> None:
    text = LEAST.replace("conditions = [{ ", "[[branch.vip.conditions]]\n").replace(" }]", "")
    text = text.replace(", operator", "\noperator").replace(", value", "\nvalue")
    policy = parse(text + "[crm.variables]\nphone = { path = '$.p[0]', personal = true }\n")
    assert policy.crm.variables == {"phone": CrmVariable(path="$.p[0]", personal=True)}
    assert policy.branch_vip == parse(LEAST).branch_vip


def test_stop_words_are_folded() -> None:
    assert parse('email.stop_words = [" Stop ", "ARRÊT"]\n' + LEAST).email.stop_words == {"stop", "arrêt"}


BAD = [
    # what stands before LEAST, the key, a piece of the message
    ("workflw = {}", "workflw", "did you mean workflow?"),
    ("workflow.nam = 'x'", "workflow.nam", "did you mean name?"),
    ("email.retrys = 3", "email.retrys", "did you mean retries?"),
    ("email.zzz = 3", "email.zzz", "known here: answer_timeout, grace"),
    ("workflow = 3", "workflow", "has to be a table, not a number"),
    ("workflow.name = ''", "workflow.name", "empty"),
    ("workflow.name = 1", "workflow.name", "has to be a text, not a number"),
    ("workflow.languages = []", "workflow.languages", "empty"),
    ("workflow.languages = 'en'", "workflow.languages", "has to be a list, not 'en'"),
    ("workflow.languages = ['en', 1]", "workflow.languages[1]", "has to be a text"),
    ("workflow.languages = ['en', 'en']", "workflow.languages[1]", "twice"),
    ("workflow.languages = ['pt-BR', 'pt-br']", "workflow.languages[1]", "case"),
    ("workflow.languages = ['english!']", "workflow.languages[0]", "language tag"),
    ("workflow.languages = ['de']", "email.messages.de.ask", "no text of ours"),
    ("workflow.forget_after = '30'", "workflow.forget_after", 'duration such as "90s"'),
    ("workflow.forget_after = '1.5h'", "workflow.forget_after", "duration"),
    ("workflow.forget_after = '500ms'", "workflow.forget_after", "duration"),
    ("workflow.forget_after = '-1d'", "workflow.forget_after", "duration"),
    ("workflow.forget_after = '٣d'", "workflow.forget_after", "duration"),
    ("workflow.forget_after = 30", "workflow.forget_after", "not a number"),
    ("workflow.forget_after = 1979-05-27", "workflow.forget_after", "a date or time"),
    ("workflow.forget_after = '99999999d'", "workflow.forget_after", "from"),
    ("trigger.opened_by = []", "trigger.opened_by", "empty"),
    ("trigger.opened_by = ['bot']", "trigger.opened_by[0]", "contact, user, workflow, other"),
    ("trigger.once_per_contact = 'yes'", "trigger.once_per_contact", "true or false"),
    ("trigger.once_per_contact = 1", "trigger.once_per_contact", "true or false"),
    ("email.retries = 11", "email.retries", "from 0 to 10"),
    ("email.retries = -1", "email.retries", "from 0 to 10"),
    ("email.retries = true", "email.retries", "whole number"),
    ("email.retries = 1.0", "email.retries", "whole number"),
    ("email.stop_words = ['']", "email.stop_words[0]", "empty"),
    ("email.messages.de.ask = 'a'", "email.messages.de", "add the language to workflow.languages"),
    ("email.messages.fr.asks = 'a'", "email.messages.fr.asks", "did you mean ask?"),
    ("email.messages.fr.retry = []", "email.messages.fr.retry", "empty"),
    ("email.messages.fr.retry = 'x'", "email.messages.fr.retry", "list"),
    (f"email.messages.fr.ask = '{'x' * 4097}'", "email.messages.fr.ask", "at most 4096"),
    ("email.messages = 3", "email.messages", "table"),
    ("agents.max_open = 0", "agents.max_open", "from 1"),
    ("agents.max_opn = 3", "agents.max_opn", "did you mean max_open?"),
    ("agents.anna.team = 'x'", "agents.anna.team", "did you mean teams?"),
    ("agents.anna.teams = 'x'", "agents.anna.teams", "list"),
    ("agents.presence_ttl = '1s'", "agents.presence_ttl", 'from "5s"'),
    ("agents.wrap_up = 30", "agents.wrap_up", "duration"),
    ("agents.missed_offers_max = 0", "agents.missed_offers_max", "from 1"),
    ("agents.anna.weight = 0", "agents.anna.weight", "from 1"),
    ("agents.anna.languages = 'fr'", "agents.anna.languages", "list"),
    ("agents.anna.wrap_up = 'x'", "agents.anna.wrap_up", "duration"),
    ("hours = 3", "hours", "table"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "piece"), BAD)
def test_a_bad_value_is_named_with_key_and_line(line: int, key: str, piece: str) -> None:
    error = refused(f"# a comment\n{line}\n{LEAST}")
    assert error.key == key
    assert piece in error.problem
    assert error.line == (2 if "no text of ours" not in piece else None)
    assert str(error).startswith("test.toml")


BAD_CRM = [
    ("late = true", "crm.late", "it has to be a duration"),
    ("cache = '0s'", "crm.cache", 'it has to be from "1s" to "7d"'),
    ("allow_networks = '10.0.0.0/8'", "crm.allow_networks", "it has to be a list"),
    ("rate = 5", "crm.rate", "it has to be a table"),
    ("rate.per_second = 0", "crm.rate.per_second", "it has to be from 1 to 10000"),
    ("rate.burst = 5", "crm.rate.burst", "there is no such key"),
    ("repeat = 'never'", "crm.repeat", 'one of "safe", "always"'),
    ("method = 'get'", "crm.method", '"GET", "POST"'),
    ("timeout = '0s'", "crm.timeout", "from"),
    ("attempts = 0", "crm.attempts", "from 1 to 10"),
    ("on_failure = 'regulr'", "crm.on_failure", "did you mean regular?"),
    ("not_found = ['failed']", "crm.not_found", "not a list"),
    ("headers = 'x'", "crm.headers", "table"),
    ("headers.X-A = 1", "crm.headers.X-A", "text"),
    ("variables = { a = 1 }", "crm.variables.a", "text"),
    ("variables = { a = { pth = '$.a' } }", "crm.variables.a.pth", "did you mean path?"),
    ("variables = { a = { personal = true } }", "crm.variables.a.path", "missing"),
    ("variables = {" + ",".join(f"v{n} = '$.a'" for n in range(11)) + "}", "crm.variables", "at most 10"),
    ("headers = {" + ",".join(f"v{n} = 'a'" for n in range(11)) + "}", "crm.headers", "at most 10"),
]


@pytest.mark.parametrize(("line", "key", "piece"), BAD_CRM)
def test_a_bad_value_of_the_crm_is_named_with_key_and_line(line: int, key: str, piece: str) -> None:
    error = refused(LEAST.replace("[crm]\n", f"[crm]\n{line}\n"))
    assert (error.key, error.line) == (key, 2)
    assert piece in error.problem


def test_what_has_to_be_there_is_asked_for() -> None:
    for gone, key in [("url", "crm.url"), ("conditions", "branch.vip.conditions"), ("vip.agent", "route.vip")]:
        text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(gone))
        assert refused(text).key == key
    assert refused("").key == "crm.url"


def test_what_a_route_says_of_offers_waits_and_skills_is_read() -> None:
    """In milliseconds; what is left out does not apply."""
    policy = parse(
        LEAST
        + "regular.accept = '30s'\nregular.promote_after = '5m'\nregular.sticky = '7d'\n"
        + "regular.skills = ['tax']\nregular.match_language = true\nregular.relax_after = '2m'\n"
        + "regular.strategy = 'longest-idle'\n"
    )
    route = policy.routes.regular
    assert (route.accept_ms, route.promote_after_ms, route.sticky_ms) == (30_000, 300_000, 604_800_000)
    assert (route.skills, route.match_language, route.relax_after_ms) == (("tax",), True, 120_000)
    assert (route.strategy, policy.routes.vip.accept_ms) == ("longest-idle", None)


@pytest.mark.parametrize(
    ("line", "piece"),
    [
        ("vip.promote_after = '1m'", "no class comes before vip"),
        ("regular.relax_after = '1m'", "asks for no skills and no language"),
        ("regular.promote_after = '7d'", "shorter than wait_max"),
        ("vip.skills = ['tax']", "leave it out here"),
        ("vip.sticky = '7d'", "leave it out here"),
    ],
)
def test_what_a_route_says_in_vain_is_refused(line: str, piece: str) -> None:
    error = refused(LEAST + f"{line}\n")
    assert error.key == f"route.{line.partition(' ')[0]}"
    assert piece in error.problem


@pytest.mark.parametrize(
    ("text", "line", "piece"),
    [
        ("a = 1\nb = \n", 2, "Invalid value, column 5"),
        ("a = 1\na = 2\n", 2, "Cannot overwrite"),
        ("[a]\n[a]\n", 2, "Cannot declare"),
        ("a = 1\nb = '''\n\n", 4, "Expected"),
        ("\ufeffa = 1", 1, "byte order mark"),
        ("a = 1\nb = '\ud800'", 2, "UTF-8"),
        ("a = '\x00'", 1, "it is no TOML"),
        ("a = 1\rb = 2", 1, "it is no TOML"),
        ("\nx = " + "[" * 5000, 2, "nested"),
        ("x = " + "1" * 5000, None, "it is no TOML"),
        ("#" * (TEXT_BYTES_MAX + 1), None, "bytes"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text: str, line: int, piece: str) -> None:
    error = refused(text)
    assert (error.line, error.key) == (line, None)
    assert piece in error.problem


HOSTILE = [
    "a=1\n", "[a]\n", "[[a]]\n", "[a.b.c]\n", "a.b.c=1\n", "x={a=1}\n", '"', "'''", '"""', "[", "{a=", "=", ".", "a.",
    "a" * 60, "[agents.a]\n", "é", "\\", "\t", "0", "1979-", "[x]\ny=[[],[],{}]\n", "\x00", "[[email.messages]]\n",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_costs_a_bounded_time(unit: str) -> None:
    """256 KiB of the same thing over and over: seconds at the very most, and nothing but a PolicyError."""
    count = TEXT_BYTES_MAX // len(unit.encode()) - 8
    numbered = "".join(f"[agents.a{n}]\n" for n in range(9_000)) if unit == "[agents.a]\n" else unit * count
    for text in (numbered, "x = [" + unit * count):
        started = time.process_time()
        with pytest.raises(PolicyError):
            parse(text)
        assert time.process_time() - started < 20


TOKENS = st.sampled_from([
    "crm", "url", "route", "vip", "agents", "email", "messages", "retry", "conditions", "branch", "anna", "=", ".", "[",
    "]", "[[", "]]", "{", "}", ",", "\n", " ", '"', "'", '"""', "'''", "#", "1", "true", "3.5", "nan", "'$.a'", '"90s"',
    '"https://[x"', "\\", "\\u00e9", "é", "\r\n", "1979-05-27", "operator", "value", "variables", "headers", "team",
])  # fmt: skip


@given(st.lists(TOKENS, max_size=60).map("".join))
def test_no_text_raises_anything_but_a_policy_error(text: str) -> None:
    for whole in (text, LEAST + text, text + "\n" + LEAST):
        try:
            policy = parse(whole)
        except PolicyError as error:
            line = error.line or 1
        else:
            warnings(policy)
            line = 1
        assert 1 <= line <= whole.count("\n") + 1


def test_a_policy_of_very_many_agents_is_read_in_bounded_time() -> None:
    agents = "".join(f"[agents.a{n}]\nemail = 'a{n}@example.com'\n" for n in range(5_000))
    started = time.process_time()
    policy = parse(LEAST + agents)
    assert (len(policy.agents.agents), warnings(policy)) == (5_000, [])
    assert time.process_time() - started < 20


VALUES = st.recursive(
    st.sampled_from(
        ['""', '"x"', '"{email}"', '"${"', '"http://["', "0", "-1", "1e400", "nan", "true", "1979-05-27", '"5s"']
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda xs: "[" + ",".join(xs) + "]")
        | st.lists(inner, max_size=3).map(lambda xs: "{" + ",".join(f"k{n}={x}" for n, x in enumerate(xs)) + "}")
    ),
    max_leaves=5,
)


def assignments(values: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from assignments(value, (*before, key))


PATHS = list(assignments(tomllib.loads(template_text())))


class Raw:
    """TOML to stand in a document as it is."""

    def __init__(self, literal: str) -> None:
        self.literal = literal


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}={toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(toml, value)) + "]"
    if isinstance(value, Raw):
        return value.literal
    return str(value).lower() if isinstance(value, bool) else repr(value)


@given(st.sampled_from(PATHS), VALUES)
def test_any_value_at_any_key_is_taken_or_refused(path: tuple[str, ...], value: Any) -> None:
    document = tomllib.loads(template_text())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = Raw(value)
    text = "\n".join(f"{key} = {toml(values)}" for key, values in document.items())
    tomllib.loads(text)
    at_fault: str | None = "none"
    try:
        warnings(parse(text))
    except PolicyError as error:
        at_fault = error.key
    assert at_fault


def test_a_file_is_the_policy_of_one_workspace(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(LEAST, encoding="utf-8")
    assert load_policies(file) == {"default": parse(LEAST)}
    assert list(load_policies(file, workspace="w")) == ["w"]


def test_a_folder_has_one_policy_for_each_workspace(tmp_path: Path) -> None:
    for name in ("b.toml", "a.toml", ".hidden.toml", "notes.txt"):
        (tmp_path / name).write_text(LEAST if name[1:] == ".toml" else "no policy", encoding="utf-8")
    assert list(load_policies(tmp_path)) == ["a", "b"]


def test_files_that_cannot_be_used_are_policy_errors(tmp_path: Path) -> None:
    for data, piece in [(b"\n\n\xff", "not UTF-8"), (b"#" * (TEXT_BYTES_MAX + 1), "bytes"), (b"x", "no TOML")]:
        file = tmp_path / "p.toml"
        file.write_bytes(data)
        with pytest.raises(PolicyError, match=piece) as caught:
            load_policies(tmp_path)
        assert caught.value.source == str(file)


def test_what_is_not_there_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy: add"):
        load_policies(tmp_path)
    with pytest.raises(PolicyError, match="policy new"):
        load_policies(tmp_path / "no.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policies(tmp_path)
