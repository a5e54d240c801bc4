"""``serve --metrics`` as a process on a real log: probes, figures, bad clients, and a port that is taken."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import DEADLINE_S, Running, json_lines, opened, policy_text, run, wait_until

CUSTOMERS = 12
CONTACTS: dict[str, dict[str, Any]] = {f"c{n}@example.com": {"customerType": "VIP"} for n in range(CUSTOMERS)}


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Served(NamedTuple):
    """A ``serve`` with metrics."""

    process: Running
    port: int

    def get(self, path: str, method: str = "GET") -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.read())

    def samples(self) -> dict[str, float]:
        """The metrics, those of one name added up."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics").body.decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0) + sample.value
        return found


@contextmanager
def serving(folder: Path, *arguments: str, wait_for: str = "ready") -> Iterator[Served]:
    with Running("serve", "--policy", "p.toml", "--metrics", "0", *arguments, cwd=folder) as process:
        process.wait_for("metrics on http://127.0.0.1:")
        port = int(process.lines["err"][0].rsplit(":", 1)[1].removesuffix("/metrics"))
        process.wait_for(wait_for)
        yield Served(process, port)


def publish(folder: Path, first: int, count: int) -> None:
    events = [opened(f"c{n}", email=f"c{n}@example.com") for n in range(first, first + count)]
    assert run("publish", "-", cwd=folder, stdin=json_lines(events)).code == 0


def test_probes_and_figures_of_a_serve_that_works(folder):
    with serving(folder) as served:
        assert served.get("/livez") == Answer(200, b'{"status":"live"}\n')
        ready = served.get("/readyz")
        assert (ready.status, ready.json["status"], ready.json["log"]) == (200, "ready", "answers")
        assert ready.json["roles"] == {
            "router": {"state": "ready", "partitions": dict.fromkeys("0123", "ready")},
            "crm": {"state": "ready", "partitions": dict.fromkeys("0123", "ready")},
            "assigner": {"state": "ready", "partitions": {"0": "ready"}},
        }
        assert served.get("/metrics", "HEAD") == Answer(200, b"")
        assert served.get("/").status == 404
        assert served.get("/livez", "POST").status == 405
        publish(folder, 0, CUSTOMERS)
        wait_until(lambda: served.samples()["vip_router_crm_look_ups_total"] == CUSTOMERS, "all are looked up")
        wait_until(lambda: served.samples()["vip_router_lag"] == 0, "all is worked on")
        wait_until(lambda: served.samples()["vip_router_outputs_backlog"] == 0, "all is published")
        samples = served.samples()
        assert samples["vip_router_ready"] == 5
        assert samples["vip_router_owned"] == 3
        assert samples["vip_router_log_up"] == 1
        assert samples["vip_router_crm_look_ups_in_flight"] == 0
        assert samples["vip_router_crm_attempts_total"] == CUSTOMERS
        assert samples["vip_router_inputs_total"] >= 3 * CUSTOMERS, "opened, answered, requested"
        assert samples["vip_router_append_seconds_count"] >= samples["vip_router_batches_total"] > 0
        assert samples["vip_router_log_end"] >= samples["vip_router_records_total"] >= 3 * CUSTOMERS
        assert samples["vip_router_fenced_appends_total"] == samples.get("vip_router_dead_letters_total", 0) == 0
        assert samples["vip_router_partitions"] == 4 + 4 + 1
        assert (samples["vip_router_conversations_waiting"], samples["vip_router_oldest_wait_seconds"]) == (0, 0)
        assert samples["vip_router_agents_online"] >= samples["vip_router_agents_with_room"] > 0
        text = served.get("/metrics").body
        assert b"@" not in text, "no address"
        assert b"v-c" not in text, "no conversation"
        assert served.process.end(signal.SIGTERM).code == 0


def test_a_policy_that_was_refused_is_counted(folder):
    with serving(folder) as served:
        refused = "vip_router_policy_reloads_refused_total"
        assert served.samples()[refused] == 0
        (folder / "p.toml").write_text("[nonsense]", encoding="utf-8")
        served.process.send(signal.SIGHUP)
        wait_until(lambda: served.samples()[refused] == 1, "it is counted")
        assert served.process.end(signal.SIGTERM).code == 0


def test_look_ups_that_hang_are_seen_as_in_flight_and_as_lag(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the look-up and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (folder / "p.toml").write_text(policy_text(url), encoding="utf-8")
        publish(folder, 0, CUSTOMERS)
        with serving(folder, "--look-ups", "1") as served:
            in_flight = "vip_router_crm_look_ups_in_flight"
            wait_until(lambda: served.samples()[in_flight] == CUSTOMERS, "one is asked, the others wait in line")
            assert served.samples()["vip_router_lag"] >= CUSTOMERS, "none is finished"
            assert served.get("/readyz").status == 200, "a CRM that hangs is no reason to take the process out"


def test_a_process_that_stands_by_is_alive_and_ready_and_takes_over(folder):
    with serving(folder) as first, serving(folder, wait_for="waiting until it ends") as second:
        wait_until(lambda: second.get("/readyz").json["status"] == "standby", "it stands by for all roles")
        assert second.get("/readyz").status == 200, "or a rolling upgrade would wait for it for ever"
        assert second.get("/livez").status == 200
        samples = second.samples()
        assert (samples["vip_router_owned"], "vip_router_ready" in samples) == (0, False)
        assert first.process.end(signal.SIGTERM).code == 0
        wait_until(lambda: second.get("/readyz").json["status"] == "ready", "it has taken over")
        assert second.samples()["vip_router_ready"] == 5


def test_garbage_slow_clients_and_many_connections_disturb_nobody(folder):
    with serving(folder) as served:
        slow = [socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_S) for _ in range(200)]
        try:
            for number, client in enumerate(slow):
                with_garbage = number % 2 == 0
                client.sendall(os.urandom(64) if with_garbage else b"GET /metrics HTTP/1.1\r\nX: ")
            assert served.get("/livez").status == 200
            publish(folder, 0, CUSTOMERS)
            wait_until(lambda: served.samples()["vip_router_crm_look_ups_total"] == CUSTOMERS, "it goes on routing")
            assert served.get("/readyz").status == 200
        finally:
            for client in slow:
                client.close()
        ended = served.process.end(signal.SIGTERM)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert "never retrieved" not in ended.err


@pytest.mark.parametrize("command_line", [True, False])
def test_a_port_that_is_taken_exits_2_with_a_sentence_before_a_log_is_made(folder, command_line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words, env = (["--metrics", port], {}) if command_line else ([], {"VIP_ROUTER_METRICS": port})
        done = run("serve", "--policy", "p.toml", *words, cwd=folder, env=env)
    assert done.code == 2
    assert done.err.startswith(f"vip-router: --metrics: nothing can listen on 127.0.0.1:{port} (")
    assert "give another port" in done.err
    assert not (folder / "vip-router.db").exists()


@pytest.mark.parametrize(
    "where", ["x", "1:2:3", "70000", "host:", ":9464", "[::1]", "127.0.0.1:-1", "no.such.host.invalid:0"]
)
def test_an_address_that_is_none_exits_2_with_a_sentence(folder, where):
    done = run("serve", "--policy", "p.toml", "--metrics", where, cwd=folder)
    assert (done.code, done.err.startswith("vip-router: --metrics: ")) == (2, True), done.err
    assert len(done.err.splitlines()) == 1
