"""``deploy/compose.yaml``: what it says, and that the system that it describes works on real containers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.boxes import Box
from tests.brokers import container
from tests.composed import ComposeError, System, composed, load
from tests.processes import wait_until

DEPLOY = images.TOP / "deploy"
FILE = DEPLOY / "compose.yaml"
OURS = ("topics", "crm", "router", "cli", "examples")
DEADLINE_S = 120.0
SCRAPE = """
import urllib.request as asked
print(asked.build_opener(asked.ProxyHandler({})).open("http://127.0.0.1:9464/metrics", timeout=10).read().decode())
"""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = load(FILE, {})["services"]
    assert set(found) == {"kafka", *OURS}
    return found


def test_kafka_is_of_the_version_that_the_tests_run_on(services: dict[str, Any]):
    assert services["kafka"]["image"] == container.IMAGE


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_no_rights(services: dict[str, Any], name: str):
    """The same image, built from the Dockerfile, without capabilities or a file system to write to."""
    service = services[name]
    assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"]["dockerfile"] == images.DOCKERFILE
    assert service["build"]["args"]["PYTHON_IMAGE"] == images.official()


def test_ports_are_published_on_loopback_alone(services: dict[str, Any]):
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "kafka": ["127.0.0.1:9092:9092"]
    }


def test_secret_is_a_file_and_stands_in_no_environment(services: dict[str, Any]):
    file = load(FILE, {"VIP_ROUTER_CRM_TOKEN_FILE": "/elsewhere/token"})
    assert file["secrets"] == {"CRM_TOKEN": {"file": "/elsewhere/token"}}
    assert services["router"]["secrets"] == ["CRM_TOKEN"]
    names = {name for service in services.values() for name in service.get("environment", {})}
    assert not [name for name in names if any(word in name for word in ("TOKEN", "PASSWORD", "SECRET"))]


def test_router_starts_when_the_topics_are_there_and_has_time_to_end(services: dict[str, Any]):
    router = services["router"]
    assert router["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert (router["restart"], router["stop_grace_period"]) == ("unless-stopped", "30s")
    assert "healthcheck" not in router, "the image's own counts"


def test_policy_is_the_examples_but_for_where_the_crm_is():
    """One more copy of the policy would be one that nobody keeps current."""
    ours, examples = (
        [line for line in path.read_text().splitlines() if not line.startswith(("#", "url = ", "allow_networks = "))]
        for path in (DEPLOY / "policy.compose.toml", DEPLOY / "examples/policy.toml")
    )
    assert ours == examples


@pytest.mark.parametrize(
    ("planted", "problem"),
    [("    read_onyl: true\n", "read_onyl"), ("    depends_on: {nobody: {condition: service_healthy}}\n", "nobody")],
)
def test_what_is_misspelt_is_found(tmp_path: Path, planted: str, problem: str):
    place = "  cli: # any other command: run --rm cli COMMAND\n"
    assert place in FILE.read_text()
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace(place, f"  planted:\n{planted}{place}"))
    with pytest.raises(ComposeError, match=problem):
        load(tmp_path / "compose.yaml", {})


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """All that ``up`` starts, on containers of an image built here."""
    container.prepare()
    with container.engine() as client:
        file = load(FILE, {"VIP_ROUTER_IMAGE": images.build(client)})
        with composed(client, file, DEPLOY) as system:
            system.up()
            system.boxes["router"].wait_for("ready")
            yield system


@pytest.fixture(scope="module")
def assigned(system: System) -> dict[str, list[dict[str, Any]]]:
    """The examples are published; the assignments of those conversations that have to get one."""
    published = system.run("examples")
    assert published.code == 0, published.said
    router = system.boxes["router"]
    wait_until(lambda: set(settled()) <= set(assignments(router)), "all are assigned", deadline_s=DEADLINE_S)
    wait_until(lambda: lag(router) == 0, "all is read", deadline_s=DEADLINE_S)
    return assignments(router)


def assignments(router: Box) -> dict[str, list[dict[str, Any]]]:
    """Of the conversations in ``settled``, as a downstream program reads them."""
    ended = router.execute("vip-router", "tail", "assignments", "--json")
    assert ended.code == 0, ended.said
    found: dict[str, list[dict[str, Any]]] = {}
    for event in map(json.loads, ended.said.splitlines()):
        if event["type"] == "conversation.assigned" and event["subject"] in settled():
            found.setdefault(event["subject"], []).append(event)
    return found


def settled() -> dict[str, str]:
    """Conversations whose contact has an address: their route hangs on the CRM's answer and on nothing else."""
    lines = (DEPLOY / "examples/expected.jsonl").read_text().splitlines()
    cases = [one for one in map(json.loads, lines) if one["case"] == "with-email" and not one.get("closed")]
    return {one["conversation"]: one["route"] for one in cases}


def metric(router: Box, name: str) -> float:
    """The sum of a metric over its labels."""
    ended = router.execute("python", "-I", "-c", SCRAPE)
    assert ended.code == 0, ended.said
    values = re.findall(rf"^{name}{{[^}}]*}} (\S+)$", ended.said, re.MULTILINE)
    assert values, f"{name} is not there: {ended.said}"
    return sum(map(float, values))


def lag(router: Box) -> float:
    return metric(router, "vip_router_lag")


@pytest.mark.on_containers
def test_up_makes_the_topics_and_a_router_that_is_ready_and_healthy(system: System):
    assert "11 topics made, 0 existed" in system.boxes["topics"].said()
    wait_until(lambda: system.boxes["router"].health() == "healthy", "the router is healthy")
    checked = system.run("cli", "topics", "check")
    assert checked.code == 0, checked.said


@pytest.mark.on_containers
def test_examples_are_assigned_as_the_crm_says(assigned: dict[str, list[dict[str, Any]]]):
    """Through Kafka, over the network to the CRM, with the secret from its file."""
    assert {name: events[0]["data"]["route"] for name, events in assigned.items()} == settled()
    assert {"vip", "regular"} == set(settled().values())
    assert len(settled()) >= 8


@pytest.mark.on_containers
def test_examples_published_again_are_read_and_change_nothing(
    system: System, assigned: dict[str, list[dict[str, Any]]]
):
    router = system.boxes["router"]
    before_n = metric(router, "vip_router_inputs_total")
    assert system.run("examples").code == 0
    wait_until(lambda: lag(router) == 0, "all is read", deadline_s=DEADLINE_S)
    assert metric(router, "vip_router_inputs_total") - before_n > 100
    assert assignments(router) == assigned
    verified = system.run("cli", "audit", "verify")
    assert verified.code == 0, verified.said


@pytest.mark.on_containers
def test_router_ends_with_0_when_it_is_told_to(system: System, assigned: dict[str, list[dict[str, Any]]]):
    del assigned  # it has worked before
    ended = system.boxes["router"].stop()
    assert (ended.code, "stopped: " in ended.said) == (0, True), ended.said
