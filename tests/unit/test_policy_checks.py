"""Set-ups that cannot do what they say are refused; what is only odd is warned about."""

from __future__ import annotations

import pytest

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
    return parse_policy(text, source="test.toml")


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
    assert any(sentence.startswith(warning) for sentence in found), found
