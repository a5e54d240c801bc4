"""The demo's CRM as a process: what it answers, how it misbehaves on request, and that it ends with its parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.crm.client import CrmClient
from consumers.crm.outcomes import Answered, Failed
from consumers.demo.crm_server import TOKEN, load_contacts
from consumers.secrets import Secrets
from routing.policy import Policy
from tests.crm_support import NOW_MS, Pauses, make_ask, make_policy

CONTACTS = {
    "Ann@example.com": {"customerType": "VIP", "accountManager": "anna"},
    "down@example.com": {"__status": 500},
    "slow@example.com": {"__delay_s": 30, "customerType": "VIP"},
    "shaky@example.com": {"__status": 503, "__times": 2, "customerType": "VIP"},
}


class Server:
    """The process and where it listens."""

    def __init__(self, folder: Path) -> None:
        data = folder / "crm.json"
        data.write_text(json.dumps(CONTACTS), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consumers.demo.crm_server", "--data", str(data), "--port", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def end(self) -> str:
        """Close its standard input and wait; returns what it logged."""
        _, logged = self.process.communicate(timeout=10)
        assert self.process.returncode == 0
        return logged


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with server.process:  # closes the pipes
        yield server
        server.process.kill()


@pytest.fixture
async def client() -> AsyncIterator[CrmClient]:
    secrets = Secrets(environment={"CRM_TOKEN": TOKEN})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, sleep=Pauses()) as client:
        yield client


def policy_for(server: Server, **crm: Any) -> Policy:
    return make_policy(f"{server.url}/v1/contacts?email={{email}}", **({"timeout_ms": 2_000, "attempts": 3} | crm))


async def test_it_knows_its_contacts_in_any_case_and_no_others(server: Server, client: CrmClient) -> None:
    known = await client.look_up(make_ask(email="ANN@example.com"), policy_for(server))
    unknown = await client.look_up(make_ask(email="bob@example.com"), policy_for(server))
    assert isinstance(known, Answered)
    assert isinstance(unknown, Answered)
    assert (known.status, known.variables) == (200, {"customer_type": "VIP"})
    assert (unknown.status, unknown.variables) == (404, {})


async def test_without_its_token_it_says_nothing_about_anybody(server: Server, client: CrmClient) -> None:
    policy = policy_for(server, headers={"Authorization": "Bearer guessed"})
    failed = await client.look_up(make_ask(email="ann@example.com"), policy)
    assert failed == Failed(reason="http-401", status=401, attempts=1)


async def test_it_misbehaves_as_the_data_asks(server: Server, client: CrmClient) -> None:
    down = await client.look_up(make_ask(email="down@example.com"), policy_for(server))
    slow = await client.look_up(make_ask(email="slow@example.com"), policy_for(server, timeout_ms=100, attempts=1))
    shaky = await client.look_up(make_ask(email="shaky@example.com"), policy_for(server))
    assert down == Failed(reason="http-500", status=500, attempts=3)
    assert slow == Failed(reason="time-out", attempts=1)
    assert isinstance(shaky, Answered)
    assert (shaky.attempts, shaky.variables) == (3, {"customer_type": "VIP"})


async def test_it_logs_requests_without_addresses_and_ends_with_its_parent(server: Server, client: CrmClient) -> None:
    await client.look_up(make_ask(email="ann@example.com"), policy_for(server))
    logged = server.end()
    assert "GET /v1/contacts 200" in logged
    assert "example.com" not in logged


async def test_it_ends_at_once_on_sigterm_although_an_answer_is_due_later(server: Server, client: CrmClient) -> None:
    await client.look_up(make_ask(email="slow@example.com"), policy_for(server, timeout_ms=50, attempts=1))
    started_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) == 0
    assert time.monotonic() - started_s < 10  # the answer was due after 30


@pytest.mark.parametrize("text", ["[]", "{", '{"ann@example.com": "VIP"}'])
def test_data_that_is_no_object_of_objects_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "crm.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"crm\.json"):
        load_contacts(path)
