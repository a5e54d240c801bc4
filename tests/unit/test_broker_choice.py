"""What the tests' brokers are made of is chosen in words; where none can be had, the tests fail with the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import backends, container, dist, node
from tests.processes import ROOT


def test_processes_where_the_setting_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backends.SETTING, "processes")
    assert backends.choose.__wrapped__().backend == "processes"


def test_processes_where_no_engine_answers_and_the_words_say_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(backends.SETTING, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    backend, words = backends.choose.__wrapped__()
    assert backend == "processes"
    assert "no Docker engine" in words


def test_containers_without_an_engine_fail_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backends.SETTING, "containers")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(dist.BrokersUnavailableError, match=r"start a Docker engine, or set .*=processes"):
        backends.choose.__wrapped__()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backends.SETTING, "process")
    with pytest.raises(dist.BrokersUnavailableError, match="say containers or processes"):
        backends.choose.__wrapped__()


def test_jars_that_cannot_be_downloaded_fail_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("VIP_ROUTER_TEST_MAVEN", "http://127.0.0.1:9")
    with pytest.raises(dist.BrokersUnavailableError, match="make a Maven repository reachable"):
        dist.jars()


def test_a_jar_with_other_bytes_than_the_pinned_ones_is_refused():
    pin = dist.pins()[0]
    with pytest.raises(dist.BrokersUnavailableError, match=r"its SHA-256 is .*kafka\.lock says"):
        pin.check(b"another file")


def test_every_pin_is_a_whole_sha256_and_the_broker_is_of_our_version():
    pins = dist.pins()
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for pin in pins)
    assert {pin.version for pin in pins if pin.artifact == "kafka_2.13"} == {dist.VERSION}


def test_settings_become_the_variables_of_the_image():
    """The image's own rule: a dot becomes ``_``, ``_`` is doubled, ``-`` tripled."""
    made = container.variables({"log.dirs": "/a", "listener.name.x_y.scram-sha-512.sasl.jaas.config": "b"})
    assert made["KAFKA_LOG_DIRS"] == "/a"
    assert made["KAFKA_LISTENER_NAME_X__Y_SCRAM___SHA___512_SASL_JAAS_CONFIG"] == "b"


@pytest.mark.parametrize(("brokers_n", "copies", "in_sync"), [(1, "1", "1"), (3, "3", "2"), (4, "3", "2")])
def test_replication_follows_the_number_of_brokers(brokers_n: int, copies: str, in_sync: str):
    made = node.replication(brokers_n)
    assert (made["default.replication.factor"], made["min.insync.replicas"]) == (copies, in_sync)


def test_run_that_talked_to_no_broker_is_red_where_it_should_have():
    """The same run is green without the demand, and red with it."""
    assert run_pytest().returncode == 0
    red = run_pytest("--broker-tests-min=1")
    assert red.returncode == 1
    assert "0 tests passed on a broker that proved to be Apache Kafka, not 1" in red.stdout


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_ids.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
