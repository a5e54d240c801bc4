"""``vip-router crm try``: what the writer of a policy sees, and what he never does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from consumers.cli import crm
from consumers.cli.errors import ended_by
from consumers.cli.output import err, out
from consumers.secrets import SecretError
from tests.crm_support import SECRET, Behaviour, Misbehaving, http, reset_after, say

POLICY = """
[crm]
url = "{url}/v1/contacts?email={{email}}"
headers = {{ Authorization = "Bearer ${{CRM_TOKEN}}", X-Contact = "{{contact_id}}" }}
timeout = "1s"
attempts = 2
[crm.variables]
customer_type = "$.customerType"
manager = {{ path = "$.manager", personal = true }}
[branch.vip]
conditions = [{{ variable = "customer_type", operator = "is equal to", value = "VIP" }}]
[route.vip]
agent = "anna"
[route.regular]
team = "support"
[route.escalated]
team = "managers"
"""


class Crm:
    """A misbehaving server in a thread of its own, beside the command that runs a loop itself."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = behaviours
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self.server = self._run(Misbehaving(*self._behaviours).__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@pytest.fixture(autouse=True)
def fresh_consoles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The consoles are kept for the process; here each run has streams of its own."""
    monkeypatch.setenv("CRM_TOKEN", SECRET)
    out.cache_clear()
    yield
    out.cache_clear()
    err.cache_clear()


def try_out(folder: Path, *behaviours: Behaviour, email: str = "Ann.Lee@Example.com", options: Any = ()) -> Any:
    with Crm(*behaviours) as one:
        file = folder / "policy.toml"
        file.write_text(POLICY.format(url=one.server.url), encoding="utf-8")
        result = CliRunner().invoke(crm.app, ["try", "--email", email, "--policy", str(file), *options])
        assert SECRET not in result.output
        return result, one.server


VIP = http("200 OK", json.dumps({"customerType": "VIP", "manager": "boss@example.com", "said": SECRET}).encode())


def test_it_shows_request_answer_variables_branch_route_and_time(tmp_path: Path) -> None:
    result, server = try_out(tmp_path, say(VIP), options=["--contact", "c-7"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"request    GET {server.url}/v1/contacts?email=Ann.Lee%40example.com"
    assert "           authorization: Bearer ${CRM_TOKEN}" in lines
    assert "           x-contact: c-7" in lines
    assert any(line.startswith("attempt 1  200 answered, ") for line in lines)
    assert 'answer     {"customerType":"VIP","manager":"boss@example.com","said":"${CRM_TOKEN}"}' in lines
    assert 'variable   customer_type = "VIP"' in lines
    assert 'variable   manager = "boss@example.com" (personal)' in lines
    assert 'condition  customer_type is equal to "VIP": holds, it is "VIP"' in lines
    assert any(line.startswith('route      vip (vip): {"agent":"anna"') for line in lines)
    assert lines[-1].startswith("time       ")
    assert f"Bearer {SECRET}".encode() in server.requests[0]


def test_a_contact_that_the_crm_does_not_know_goes_the_regular_way(tmp_path: Path) -> None:
    result, _ = try_out(tmp_path, say(http("404 No")), options=["--json"])
    tried = json.loads(result.output)
    assert (result.exit_code, tried["route"], tried["route_reason"]) == (0, "regular", "not-vip")
    assert tried["outcome"]["notes"] == {"customer_type": "missing", "manager": "missing"}
    assert tried["checks"] == []


@pytest.mark.parametrize(
    ("behaviour", "code", "reason", "attempts"),
    [
        (say(http("401 Who")), 1, "http-401", 1),
        (say(http("200 OK", b"<html>")), 1, "not-json", 1),
        (reset_after(b""), 3, "connection", 2),
    ],
)
def test_a_failure_is_told_with_its_meaning_and_an_exit_code(
    tmp_path: Path, behaviour: Behaviour, code: int, reason: str, attempts: int
) -> None:
    result, _ = try_out(tmp_path, behaviour, options=["--json"])
    tried = json.loads(result.output)
    assert (result.exit_code, tried["outcome"]["reason"], len(tried["attempts"])) == (code, reason, attempts)
    assert (tried["route"], tried["route_reason"]) == ("regular", "crm-failed")
    assert tried["meaning"]
    spoken, _ = try_out(tmp_path, behaviour)
    assert f"failed     {reason}: {tried['meaning']}" in spoken.output


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    result, server = try_out(tmp_path, say(VIP), email="ann at example")
    assert ended_by(result.exception) == (
        2, "--email: the router would not take this for an e-mail address; write name@example.com"
    )  # fmt: skip
    assert server.requests == []


def test_a_secret_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_TOKEN")
    result, server = try_out(tmp_path, say(VIP))
    assert isinstance(result.exception, SecretError)
    assert ended_by(result.exception)[0] == 2
    assert "${CRM_TOKEN}" in ended_by(result.exception)[1]
    assert server.requests == []


def test_a_control_character_of_the_crm_does_not_reach_the_terminal(tmp_path: Path) -> None:
    result, _ = try_out(tmp_path, say(http("200 OK", b'{"customerType": "\\u001b[2J\\u202e"}')))
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        ("x", "wait_max of x", "wait_max of ${CRM_TOKEN}"),
        ("x", {"xylo": ["x", 7, None, True]}, {"xylo": ["${CRM_TOKEN}", 7, None, True]}),
        ("abcd", "xabcdx", "x${CRM_TOKEN}x"),
        ("abcd", {"key-abcd": 1}, {"key-${CRM_TOKEN}": 1}),
        ("1234", [1234, 91234, 1.5], ["${CRM_TOKEN}", "9${CRM_TOKEN}", 1.5]),
        ('a"b\\c', 'it is a"b\\c', "it is ${CRM_TOKEN}"),
        ("TOKEN", "TOKEN", "${CRM_TOKEN}"),
        ("é-1", "né-1 é-1", "né-1 ${CRM_TOKEN}"),
    ],
)
def test_a_secret_that_an_answer_repeats_is_masked_and_nothing_that_only_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, said: Any, shown: Any
) -> None:
    """What a short secret shares with words does not show it; what is the policy's own cannot hold one."""
    monkeypatch.setenv("CRM_TOKEN", secret)
    answer = json.dumps({"customerType": "VIP", "manager": said}).encode()
    with Crm(say(http("200 OK", answer))) as one:
        file = tmp_path / "policy.toml"
        text = POLICY.replace('agent = "anna"', 'agent = "anna"\nwait_max = "7m"\nfallback = {{ team = "xx" }}')
        file.write_text(text.format(url=one.server.url), encoding="utf-8")
        result = CliRunner().invoke(crm.app, ["try", "--email", "a@b.co", "--policy", str(file), "--json"])
    assert result.exit_code == 0, result.output
    tried = json.loads(result.output)
    assert tried["attempts"][0]["answer"] == {"customerType": "VIP", "manager": shown}
    assert (tried["target"]["agent"], tried["target"]["wait_max_ms"]) == ("anna", 420_000)


def test_of_two_secrets_that_begin_alike_no_rest_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_WHOLE", f"{SECRET}-and-more")
    answer = json.dumps({"customerType": "VIP", "manager": f"{SECRET}-and-more, {SECRET}"}).encode()
    with Crm(say(http("200 OK", answer))) as one:
        file = tmp_path / "policy.toml"
        text = POLICY.replace("X-Contact = ", 'X-All = "${{CRM_WHOLE}}", X-Contact = ')
        file.write_text(text.format(url=one.server.url), encoding="utf-8")
        result = CliRunner().invoke(crm.app, ["try", "--email", "a@b.co", "--policy", str(file), "--json"])
    assert json.loads(result.output)["attempts"][0]["answer"]["manager"] == "${CRM_WHOLE}, ${CRM_TOKEN}"


def test_an_agent_out_of_an_answer_is_masked_in_the_route_too(tmp_path: Path) -> None:
    with Crm(say(http("200 OK", json.dumps({"customerType": "VIP", "manager": SECRET}).encode()))) as one:
        file = tmp_path / "policy.toml"
        text = POLICY.replace('agent = "anna"', 'agent_from = "manager"\nfallback = {{ team = "support" }}')
        text = text.replace("personal = true", "personal = false")
        file.write_text(text.format(url=one.server.url), encoding="utf-8")
        result = CliRunner().invoke(crm.app, ["try", "--email", "a@b.co", "--policy", str(file)])
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    [route] = [line for line in result.output.splitlines() if line.startswith("route ")]
    assert route.startswith('route      vip (vip): {"agent":"${CRM_TOKEN}"')


def test_what_goes_without_saying_is_not_said(tmp_path: Path) -> None:
    """A dedicated agent has no strategy: the policy may not even name one there."""
    result, _ = try_out(tmp_path, say(VIP))
    assert 'route      vip (vip): {"agent":"anna","wait_max_ms":900000}' in result.output.splitlines()


def test_what_does_not_exist_is_said_to(tmp_path: Path) -> None:
    result, _ = try_out(tmp_path, say(http("200 OK", b"{}")))
    line = 'condition  customer_type is equal to "VIP": does not hold, it does not exist'
    assert line in result.output.splitlines()


def test_why_nobody_asks_the_branch_about_a_contact_that_the_crm_does_not_know_is_said(tmp_path: Path) -> None:
    result, _ = try_out(tmp_path, say(http("404 No")))
    lines = result.output.splitlines()
    said = lines.index('branch     not asked: the CRM does not know the contact, and crm.not_found is "regular"')
    assert lines[said + 1].startswith("route      regular (not-vip): ")
