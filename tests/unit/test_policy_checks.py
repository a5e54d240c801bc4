"""Set-ups that cannot do what they say are refused; what is only odd is warned about."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.policies import load_policies
from consumers.policy_book import LanePolicies, PolicyBook
from routing.answers import read_answer
from routing.errors import PolicyError
from routing.policy import Policy
from routing.policy_checks import warnings
from routing.policy_file import parse_policy

SOUND = """\
[workflow]
forget_after = "30d"
[email]
answer_timeout = "12h"
[crm]
url = "https://crm.example.com/{email}"
timeout = "3s"
deadline = "15s"
[crm.variables]
tier = "$.tier"
owner = "$.owner"
[route.vip]
agent = "anna"
fallback = { team = "desk" }
fallback_after = "2m"
wait_max = "15m"
[route.regular]
team = "support"
[route.escalated]
team = "managers"
[branch.vip]
conditions = [{ variable = "tier", operator = "exists" }]
"""


def policy_with(*changes: tuple[str, str]) -> Policy:
    text = SOUND
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_policy(text, source="test.toml", is_new=True)


def refused(*changes: tuple[str, str]) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        policy_with(*changes)
    return caught.value


def line_of(piece: str, *changes: tuple[str, str]) -> int:
    text = SOUND
    for old, new in changes:
        text = text.replace(old, new, 1)
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(piece))


def test_the_sound_policy_is_taken_without_a_warning() -> None:
    """The control: each case below changes this one thing."""
    assert warnings(policy_with()) == []


URL = 'url = "https://crm.example.com/{email}"'
GET = "[crm]\n"
CASES = [
    # old, new, key, a piece of the message
    ('answer_timeout = "12h"', 'grace = "12h"\nanswer_timeout = "12h"', "email.grace", "shorter than answer_timeout"),
    ('answer_timeout = "12h"', 'answer_timeout = "5s"', "email.answer_timeout", "shorter than answer_timeout"),
    ('forget_after = "30d"', 'forget_after = "12h"', "workflow.forget_after", "longer than email.answer_timeout"),
    ("[email]", "[email]\nmessages.fr.ask = 'Hi {nom}'", "email.messages.fr.ask", "{name} is the only one"),
    ("[email]", "[email]\nmessages.fr.retry = ['a', 'b }']", "email.messages.fr.retry[1]", "for a brace"),
    # the request
    (URL, 'url = "/contacts/{email}"', "crm.url", "absolute"),
    (URL, 'url = "ftp://crm.example.com/{email}"', "crm.url", "absolute"),
    (URL, 'url = "https:///{email}"', "crm.url", "absolute"),
    (URL, 'url = "crm.example.com/{email}"', "crm.url", "absolute"),
    (URL, 'url = "https://crm.example.com/${TOKEN}/{email}"', "crm.url", "headers and body only"),
    (URL, 'url = "https://crm.example.com/{mail}"', "crm.url", "no placeholder {mail}"),
    (URL, 'url = "https://crm.example.com/{{email}}"', "crm.url", "brace"),
    (URL, 'url = "https://crm.example.com/{email"', "crm.url", "brace"),
    (URL, 'url = "https://crm.example.com/a b{email}"', "crm.url", "percent-encoded"),
    (URL, 'url = "https://crm.example.com/é{email}"', "crm.url", "percent-encoded"),
    (URL, 'url = "https://crm.example.com/\\n{email}"', "crm.url", "percent-encoded"),
    (URL, 'url = "https://crm.example.com:99999/{email}"', "crm.url", "no URL"),
    (URL, 'url = "https://[::1/{email}"', "crm.url", "no URL"),
    (URL, 'url = "https://me:secret@crm.example.com/{email}"', "crm.url", "names a user"),
    (URL, 'url = "https://crm.example.com/#{email}"', "crm.url", "never sent"),
    (URL, 'url = "https://{email}.example.com/"', "crm.url", "choose the host"),
    (GET, "[crm]\nheaders.Authorization = 'Bearer abc'\n", "crm.headers.Authorization", "secret"),
    (GET, "[crm]\nheaders.authorization = 'abc'\n", "crm.headers.authorization", "secret"),
    (GET, "[crm]\nheaders.X-Api-Key = 'abc'\n", "crm.headers.X-Api-Key", "secret"),
    (GET, "[crm]\nheaders.X-Auth-Token = ''\n", "crm.headers.X-Auth-Token", "secret"),
    (GET, "[crm]\nheaders.X-Api-Key = '${a b}'\n", "crm.headers.X-Api-Key", "${NAME}"),
    (GET, "[crm]\nheaders.X-A = 'a\\nb'\n".replace("'", '"'), "crm.headers.X-A", "one line"),
    (GET, "[crm]\nheaders.X-A = 'é'\n", "crm.headers.X-A", "ASCII"),
    (GET, "[crm]\nheaders.'X A' = 'a'\n", 'crm.headers."X A"', "no header name"),
    (GET, "[crm]\nheaders = { X-A = 'a', x-a = 'b' }\n", "crm.headers.x-a", "twice"),
    (GET, "[crm]\nheaders.Host = 'a'\n", "crm.headers.Host", "client's to set"),
    (GET, "[crm]\nheaders.X-A = '{mail}'\n", "crm.headers.X-A", "no placeholder {mail}"),
    (GET, "[crm]\nlate = '30m'\non_failure = 'escalated'\n", "crm.late", "on_failure"),
    (GET, "[crm]\nallow_networks = ['10.0.0.1/8']\n", "crm.allow_networks[0]", "without host bits"),
    (GET, "[crm]\nallow_networks = ['crm.example.com']\n", "crm.allow_networks[0]", "write a network"),
    (GET, "[crm]\nallow_networks = ['10.0.0.0/8', '169.254.169.254']\n", "crm.allow_networks[1]", "never asked"),
    (GET, "[crm]\nbody = '{}'\n", "crm.body", "GET has no body"),
    (GET, "[crm]\nmethod = 'POST'\nbody = '{\"a\": \"{mail}\"}'\n", "crm.body", "no placeholder {mail}"),
    (GET, "[crm]\nmethod = 'POST'\nbody = '{\"a\": {email}}'\n", "crm.body", "double quotes"),
    (GET, "[crm]\nmethod = 'POST'\nbody = '{\"a\": \"${A B}\"}'\n", "crm.body", "${NAME}"),
    (GET, "[crm]\nmethod = 'POST'\nbody = 'email={email}'\n", "crm.body", "no JSON"),
    (GET, f"[crm]\nmethod = 'POST'\nbody = '{'[' * 9000}'\n", "crm.body", "no JSON"),
    ('deadline = "15s"', 'deadline = "8s"', "crm.deadline", '"9s" at least'),
    ('timeout = "3s"', 'timeout = "6s"', "crm.deadline", '"18s" at least'),
    ('deadline = "15s"', "attempts = 6", "crm.attempts", '"18s" at least'),
    ('tier = "$.tier"', 'tier = "$..tier"', "crm.variables.tier.path", "descendants"),
    ('tier = "$.tier"', 'tier = "tier"', "crm.variables.tier.path", "begin with $"),
    ('owner = "$.owner"', 'language = "$.l"', "crm.variables.language", "set by the router"),
    ('owner = "$.owner"', '"a-b" = "$.l"', "crm.variables.a-b", "letters, digits"),
    # the routes
    ('agent = "anna"', "only_online = true", "route.vip", "names nobody"),
    ('agent = "anna"', "workspace = false", "route.vip", "names nobody"),
    ('agent = "anna"', 'agent = "anna"\nteam = "x"', "route.vip.team", "agent and team"),
    ('agent = "anna"', 'agent = "anna"\nworkspace = true', "route.vip.workspace", "agent and workspace"),
    ('agent = "anna"', 'agent = "anna"\nagent_from = "owner"', "route.vip.agent_from", "agent and agent_from"),
    ('agent = "anna"', 'agent = "anna"\nstrategy = "least-open"', "route.vip.strategy", "leave it out"),
    ('agent = "anna"', 'agent_from = "ownr"', "route.vip.agent_from", "did you mean owner?"),
    ('agent = "anna"', 'agent_from = "crm_status"', "route.vip.agent_from", "sets no 'crm_status'"),
    ('team = "managers"', 'agent_from = "owner"', "route.escalated.agent_from", "add a fallback"),
    ('fallback = { team = "desk" }', "fallback = {}", "route.vip.fallback", "names nobody"),
    ('fallback = { team = "desk" }', "fallback = 'desk'", "route.vip.fallback", "a table"),
    ('fallback = { team = "desk" }', 'fallback.agent_from = "owner"', "route.vip.fallback.agent_from", "no such key"),
    ('fallback = { team = "desk" }', 'fallback = { agent = "anna" }', "route.vip.fallback", "add nobody"),
    ('fallback = { team = "desk" }\n', "", "route.vip.fallback_after", "there is no fallback"),
    ('fallback_after = "2m"', 'fallback_after = "15m"', "route.vip.fallback_after", "shorter than wait_max"),
    ('team = "support"', 'team = "a"\nfallback = { team = "a" }', "route.regular.fallback", "add nobody"),
    ("[email]", "[agents]\na.email = 'x@y.z'\nb.email = 'X@Y.z'\n[email]", "agents.b.email", "another agent"),
    ("[email]", "[agents]\na.email = 'x'\n[email]", "agents.a.email", "no e-mail address"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "piece"), CASES)
def test_a_set_up_that_cannot_work_is_refused(old: str, new: str, key: str, piece: str) -> None:
    error = refused((old, new))
    assert error.key == key
    assert piece in error.problem
    last_key = key.replace('"', "").split(".")[-1].split("[")[0]
    line = (SOUND.replace(old, new, 1)).splitlines()[(error.line or 0) - 1]
    assert last_key in line or last_key in ("path", "fallback_after", "wait_max", "vip"), line


@pytest.mark.parametrize(
    "changes",
    [
        [(URL, 'url = "http://127.0.0.1:8080/v1?e={email}&c={contact_id}&x={conversation_id}"')],
        [(URL, 'url = "https://[::1]/{email}"')],
        [(GET, "[crm]\nheaders = { Authorization = 'Bearer ${A_1}', X-Api-Key = '${K}' }\n")],
        [(GET, '[crm]\nmethod = \'POST\'\nbody = \'{"e": "{email}", "n": {"t": "${T}", "i": ${N}}}\'\n')],
        [(GET, "[crm]\nmethod = 'POST'\nheaders.Content-Type = 'text/plain'\nbody = 'email={email}'\n")],
        [('agent = "anna"', 'agent_from = "owner"')],
        [('fallback_after = "2m"\n', "")],
        [('fallback_after = "2m"', 'fallback_after = "0s"')],
        [('team = "support"', 'team = "a"\nfallback = { team = "a", only_online = false }')],
        [('team = "support"', 'team = "a"\nonly_online = false\nstrategy = "least-open"\nfallback.workspace = true')],
        [('team = "managers"', 'agent_from = "owner"\nfallback.team = "managers"')],
        [('deadline = "15s"', 'deadline = "9s"')],
        [("[email]", "[email]\nmessages.fr.ask = '{{ {name} }}'")],
    ],
)
def test_a_set_up_that_works_is_taken_without_a_warning(changes: list[tuple[str, str]]) -> None:
    assert warnings(policy_with(*changes)) == []


BRANCH = 'conditions = [{ variable = "tier", operator = "exists" }]'


def branch(match: str, *conditions: tuple[str, ...]) -> tuple[str, str]:
    shown = ", ".join(
        f'{{ variable = "{variable}", operator = "{operator}"' + (f", value = {value[0]}" if value else "") + " }"
        for variable, operator, *value in conditions
    )
    return (BRANCH, f'match = "{match}"\nconditions = [{shown}]')


NEVER_TOGETHER = [
    (("is exactly", '"a"'), ("is exactly", '"b"')),
    (("is exactly", '"a"'), ("is exactly", '"A"')),
    (("is exactly", '"a"'), ("is equal to", '"b"')),
    (("is equal to", '"a"'), ("is equal to", '"b"')),
    (("is equal to", '"a"'), ("is not equal to", '"A "')),
    (("exists",), ("does not exist",)),
    (("does not exist",), ("is equal to", '"a"')),
    (("does not exist",), ("contains", '"a"')),
    (("is one of", '["a", "b"]'), ("is equal to", '"c"')),
    (("is one of", '["a", "b"]'), ("is one of", '["c", "d"]')),
    (("is greater than", "5"), ("is less than", "5")),
    (("is greater than", "5"), ("is equal to", "5")),
    (("is less than", "5"), ("is one of", '[5, "6", "x"]')),
    (("is equal to", '"gold"'), ("contains", '"silver"')),
    (("is exactly", "5"), ("is exactly", '"5"')),
    (("is exactly", "true"), ("is equal to", "false")),
]
TOGETHER = [
    (("is exactly", '"VIP"'), ("is equal to", '"vip"')),
    (("is equal to", '"vip gold"'), ("contains", '"gold"')),
    (("contains", '"a"'), ("contains", '"b"')),
    (("contains", '"a"'), ("contains", "5")),
    (("contains", '"5"'), ("is greater than", "3")),
    (("contains", '"5"'), ("is equal to", "15")),
    (("contains", '"ru"'), ("is equal to", "true")),
    (("is greater than", "5"), ("is less than", "6")),
    (("is greater than", "-9007199254740992"), ("is less than", "-9007199254740990")),
    (("is greater than", "9007199254740992"), ("exists",)),
    (("is greater than", "3"), ("is not equal to", "4")),
    (("is one of", '["a", "b"]'), ("is not equal to", '"a"')),
    (("is exactly", '"5"'), ("is greater than", "4")),
    (("is exactly", "true"), ("is equal to", '"true"')),
    (("does not exist",), ("is not equal to", '"a"')),
    (("exists",), ("is not equal to", '"a"')),
    (("is not equal to", '"a"'), ("is not equal to", '"b"')),
]


@pytest.mark.parametrize(("first", "second"), NEVER_TOGETHER)
def test_conditions_that_contradict_each_other_are_refused(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    for one, other in [(first, second), (second, first)]:
        change = branch("all", ("tier", *one), ("tier", *other))
        error = refused(change)
        assert error.key == "branch.vip.conditions[1]"
        assert "contradicts" in error.problem
        assert error.line == line_of("conditions", change)
    policy_with(branch("all", ("tier", *first), ("owner", *second)))


@pytest.mark.parametrize(("first", "second"), TOGETHER)
def test_conditions_that_can_hold_together_are_taken(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    policy_with(branch("all", ("tier", *first), ("tier", *second)))


def test_ten_excluded_values_leave_others() -> None:
    between = [("tier", "is not equal to", str(5 + step / 13)) for step in range(1, 9)]
    policy_with(branch("all", ("tier", "is greater than", "5"), ("tier", "is less than", "6"), *between))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("exists",), ("does not exist",)),
        (("is equal to", '"a"'), ("is not equal to", '"A"')),
        (("is not equal to", '"a"'), ("is not equal to", '"b"')),
        (("is not equal to", '"a"'), ("exists",)),
    ],
)
def test_a_branch_that_everybody_takes_is_refused(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    error = refused(branch("any", ("tier", *first), ("tier", *second)))
    assert "everybody is a VIP" in error.problem
    policy_with(branch("any", ("tier", *first), ("owner", *second)))


@pytest.mark.parametrize(
    ("condition", "piece"),
    [
        (("teir", "exists"), "did you mean tier?"),
        (("email_source", "is equal to", '"phone"'), "record or answer"),
        (("email_source", "does not exist"), "record or answer"),
        (("crm_status", "is exactly", '"200"'), "HTTP status"),
        (("crm_status", "is greater than", "600"), "HTTP status"),
        (("crm_status", "is equal to", "404"), "a 404 means says crm.not_found"),
        (("crm_status", "is less than", "200"), "from 200 to 299"),
        (("crm_status", "is one of", "[404, 500]"), "other statuses are failures"),
        (("language", "is equal to", '"de"'), "workflow.languages: en, fr, pt, id, ar"),
        (("language", "is equal to", '"pt-BR"'), "workflow.languages"),
        (("language", "is exactly", '"PT"'), "workflow.languages"),
        (("language", "is one of", '["de", "it"]'), "workflow.languages"),
        (("language", "does not exist"), "workflow.languages"),
        (("tier", "is same"), "has to be one of"),
        (("tier", "is equal"), "did you mean is equal to?"),
        (("tier", "is equal to"), "missing"),
        (("tier", "exists", "1"), "takes no value"),
        (("tier", "is greater than", '"5"'), "without quotes"),
        (("tier", "is less than", "true"), "compares numbers"),
        (("tier", "is less than", "nan"), "compares numbers"),
        (("tier", "is less than", "1e300"), "2^53"),
        (("tier", "is equal to", "inf"), "a text, a number"),
        (("tier", "is equal to", '["a"]'), '"is one of" takes a list'),
        (("tier", "is one of", '"a"'), "has to be a list"),
        (("tier", "is one of", "[]"), "could never hold"),
        (("tier", "is one of", "[[1]]"), "a text, a number"),
        (("tier", "contains", '""'), "empty"),
        (("tier", "contains", "{}"), "a text, a number"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(condition: tuple[str, ...], piece: str) -> None:
    error = refused(branch("all", condition))
    assert error.key is not None
    assert error.key.startswith("branch.vip.conditions[0]")
    assert piece in error.problem


def test_at_most_ten_different_conditions() -> None:
    policy_with(branch("any", *[("tier", "is equal to", str(n)) for n in range(10)]))
    assert "at most 10" in refused(branch("any", *[("tier", "is equal to", str(n)) for n in range(11)])).problem
    assert "twice" in refused(branch("any", ("tier", "exists"), ("tier", "exists"))).problem
    assert "nobody ever" in refused((BRANCH, "conditions = []")).problem


def test_a_personal_variable_names_no_agent() -> None:
    change = ('owner = "$.owner"', 'owner = { path = "$.owner", personal = true }')
    policy_with(change)
    assert "personal" in refused(change, ('agent = "anna"', 'agent_from = "owner"')).problem


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (URL, 'url = "https://crm.example.com/"', "crm.url: the look-up is the same for everybody"),
        (URL, 'url = "https://crm.example.com/{email}?api_key=abc"', "crm.url: api_key looks like a secret"),
        (URL, 'url = "http://crm.example.com/{email}"\nheaders.X-Key = "${K}"', "crm.url: http sends the secrets"),
        ("[email]", "[email]\nmessages.fr.retry = ['a', 'b', 'c', 'd']", "email.messages.fr.retry: it has 4 texts"),
        ('team = "support"', 'team = "support"\nwait_max = "30d"', "route.regular.wait_max: workflow.forget_after"),
        ('team = "support"', "workspace = true\nfallback.team = 'desk'", "route.regular.fallback: the route has"),
        ("[email]", "[agents]\nann.teams = ['desk']\n[email]", "route.vip.agent: [agents] has 'ann' but no 'anna'"),
        ("[email]", "[agents]\nbob.teams = ['suport', 'desk']\n[email]", "route.regular.team: [agents] has 'suport'"),
        ("[email]", "[agents]\nbob.teams = ['sales']\n[email]", "agents.bob: no route names this agent"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_warned_about(old: str, new: str, warning: str) -> None:
    found = warnings(policy_with((old, new)))
    assert any(str(finding).startswith(warning) for finding in found), found


def test_a_warning_names_its_key_and_the_line_of_it() -> None:
    changes = [(URL, 'url = "https://crm.example.com/"'), ('team = "support"', 'team = "support"\nwait_max = "30d"')]
    found = warnings(policy_with(*changes))
    assert [(finding.key, finding.line) for finding in found] == [
        ("crm.url", line_of("url", *changes)),
        ("route.regular.wait_max", line_of('wait_max = "30d"', *changes)),
    ]
    assert str(found[1]) == f"route.regular.wait_max: {found[1].problem}"


VARIES = [
    (("language", "is equal to", '"PT "'),),
    (("language", "is one of", '["de", "fr"]'),),
    (("language", "contains", '"p"'),),
    (("crm_status", "is greater than", "200"), ("crm_status", "is less than", "299")),
    (("crm_status", "is not equal to", "404"),),
]


@pytest.mark.parametrize("conditions", VARIES)
def test_a_condition_that_some_language_or_status_meets_is_taken(conditions: tuple[tuple[str, ...], ...]) -> None:
    assert warnings(policy_with(branch("all", *conditions))) == []


AGENT_FROM = ('agent = "anna"\nfallback = { team = "desk" }\nfallback_after = "2m"', 'agent_from = "owner"')
NEWLY_REFUSED = [
    # old, new, key, a piece of the message
    (*AGENT_FROM, "route.vip.agent_from", "anybody of the workspace would get the conversation: add a fallback"),
    ('team = "support"', 'agent_from = "owner"', "route.regular.agent_from", "add a fallback"),
    ('wait_max = "15m"', 'wait_max = "15m"\naccept = "15m"', "route.vip.accept", "shorter than wait_max"),
    ('team = "managers"', 'team = "managers"\naccept = "1h"', "route.escalated.accept", "accept has to be shorter"),
    ("[email]", "[email]\nmessages.fr.ask = '   '", "email.messages.fr.ask", 'write a text, "" sends nothing'),
    ("[email]", "[email]\nmessages.fr.retry = ['a', ' ']", "email.messages.fr.retry[1]", "it is blank"),
    ("[email]", '[email]\nmessages.en.success = "\\n"', "email.messages.en.success", "it is blank"),
    ("[email]", "[agents]\na.languages = ['en', 'english!']\n[email]", "agents.a.languages[1]", "no language tag"),
    ("[email]", "[agents]\na.languages = ['pt_BR']\n[email]", "agents.a.languages[0]", 'such as "pt" or "pt-BR"'),
    (BRANCH, branch("any", ("tier", "exists"), ("crm_status", "is equal to", "404"))[1],
     "branch.vip.conditions[1]", "it can never hold"),
    (BRANCH, branch("any", ("tier", "exists"), ("language", "is equal to", '"de"'))[1],
     "branch.vip.conditions[1]", "it can never hold"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "piece"), NEWLY_REFUSED)
def test_what_logs_may_hold_is_refused_where_somebody_begins_with_it(old: str, new: str, key: str, piece: str) -> None:
    """A log's policy with it is parsed as before: its conversations go on, and its decisions replay."""
    error = refused((old, new))
    assert (error.key, piece in error.problem) == (key, True), error
    text = SOUND.replace(old, new, 1)
    assert last_part(key) in text.splitlines()[(error.line or 0) - 1]
    assert parse_policy(text, source="policy in the log").text == text


def test_a_log_keeps_its_policy_that_would_be_refused_today() -> None:
    text = SOUND.replace(*AGENT_FROM, 1)
    policies = LanePolicies(PolicyBook({}))
    policies.record("v", text, "default", 0)
    assert policies.pinned("v").routes.vip.agent_from == "owner"


def test_a_file_is_refused_for_what_a_log_may_hold(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text(SOUND.replace(*AGENT_FROM, 1), encoding="utf-8")
    with pytest.raises(PolicyError, match=r"default\.toml:\d+: route\.vip\.agent_from: .* add a fallback"):
        load_policies(tmp_path)


AGENTS = """[agents]
anna = { email = "Anna@Example.com", teams = ["desk", "support"], skills = ["tax", "billing"] }
[email]"""
STAND_IN = """[hours.a]
teams = ["support"]
zone = "UTC"
monday = ["09:00-17:00"]
outside = {{ team = "Desk", {} }}
[email]"""
SLIPS = [
    ('team = "support"', 'team = "support"\nskills = ["Tax"]', "route.regular.skills[0]", "has 'tax' but no 'Tax'"),
    ('team = "support"', 'team = "support"\nskills = ["tax", "biling"]', "route.regular.skills[1]", "has 'billing'"),
    ('team = "support"', 'team = "support"\nfallback = { team = "desk", skills = ["TAX"] }',
     "route.regular.fallback.skills[0]", "has 'tax'"),
    ('team = "support"', 'team = "SUPPORT"', "route.regular.team", "has 'support'"),
    ('agent = "anna"', 'agent = "aana"', "route.vip.agent", "has 'anna' but no 'aana': is it a slip?"),
    ('agent = "anna"', 'agent = "ANNA"', "route.vip.agent", "has 'anna'"),
    ('agent = "anna"', 'agent = "ana@example.com"', "route.vip.agent", "has 'anna@example.com'"),
    ("[email]", STAND_IN.format("skills = ['TAX']"), "hours.a.outside.skills[0]", "has 'tax'"),
    ("[email]", STAND_IN.format("skills = []"), "hours.a.outside.team", "has 'desk'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "piece"), SLIPS)
def test_a_name_that_is_nearly_one_of_the_file_is_asked_about(old: str, new: str, key: str, piece: str) -> None:
    policy = policy_with(("[email]", AGENTS), (old, new))
    found = {finding.key: finding for finding in warnings(policy)}
    assert piece in found[key].problem
    assert last_part(key) in policy.text.splitlines()[(found[key].line or 0) - 1]


def last_part(key: str) -> str:
    return key.rpartition(".")[2].partition("[")[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('team = "support"', 'team = "support"\nskills = ["tax"]'),
        ('team = "support"', 'team = "support"\nskills = ["law"]'),
        ('agent = "anna"', 'agent = "zoe"'),
        ('agent = "anna"', 'agent = "ANNA@example.com"'),
    ],
)
def test_names_that_are_known_or_like_none_are_not_asked_about(old: str, new: str) -> None:
    """Whoever is not in the file may come by ``agents.events``."""
    assert warnings(policy_with(("[email]", AGENTS), (old, new))) == []


def test_offers_that_nobody_gets_cannot_be_missed() -> None:
    limit = ("[email]", "[agents]\nmissed_offers_max = 3\n[email]")
    assert [str(found) for found in warnings(policy_with(limit))] == [
        "agents.missed_offers_max: no route has accept, so nobody is offered anything that he could miss"
    ]
    assert warnings(policy_with(limit, ('team = "support"', 'team = "support"\naccept = "30s"'))) == []


@pytest.mark.parametrize(
    ("word", "piece"),
    [
        ("No Thanks!", "'No Thanks' is found with any and without"),
        ("/stop", "'stop' is found with any"),
        ("_stop_", "'stop' is found with any"),
        ("arrêt d\u2019urgence", "no message is ever read as this"),
        ("\uff33top", "no message is ever read as this"),
        ("sto\u200bp", "no message is ever read as this"),
    ],
)
def test_a_stop_word_that_its_writer_would_miss_is_warned_about(word: str, piece: str) -> None:
    """As answers are read: what stands around a message's words is left out, curly and wide characters are plain."""
    change = ("[email]", f"[email]\nstop_words = ['stop', '{word}']")
    (found,) = warnings(policy_with(change))
    assert (found.key, found.line) == ("email.stop_words[1]", line_of("stop_words", change))
    assert piece in found.problem
    plain = read_answer("no thanks", stop_words=frozenset({"no thanks!"}))
    assert (plain.found, read_answer("No Thanks!", stop_words=frozenset({"no thanks"})).found) == ("none", "stop")


@pytest.mark.parametrize("word", ["stop", " Stop ", "no thanks", "ARRÊT", "c'est bon", "?", "\U0001f6d1", "e-mail"])
def test_a_stop_word_that_messages_are_read_as_has_no_warning(word: str) -> None:
    assert warnings(policy_with(("[email]", f'[email]\nstop_words = ["{word}"]'))) == []
