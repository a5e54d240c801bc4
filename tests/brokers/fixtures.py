"""The fixtures ``kafka`` and ``kafka3``: a pytest plugin that starts real brokers when a test asks for them.

Both live as long as the session and are made whole again after each test that hurt them, so a test names its topics
itself (`fresh`). The summary says which backend ran, and how many tests a real Apache Kafka answered.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import pytest

from tests.brokers import backends, probe
from tests.brokers.cluster import ASK_TIMEOUT_S, Cluster
from tests.brokers.node import Extra

VERSION_LINE = re.compile(r"Kafka version: (\S+)")
FIXTURE = "brokers"  # every test on brokers has it, through the others


class Brokers(Protocol):
    """What the fixture `brokers` is: ``with brokers(1, Extra(config=...)) as kafka``."""

    def __call__(
        self, n: int, extra: Extra | None = None, *, backend: str | None = None
    ) -> AbstractContextManager[Cluster]:
        """``n`` brokers, stopped at the end of the context. ``backend``: for who needs one and no other."""


class Proof(NamedTuple):
    """What the brokers of a cluster said about themselves."""

    version: str
    apis_n: int
    brokers_n: int
    topics_n: int  #: made by tests


class Session:
    """What the brokers of one test run did."""

    def __init__(self) -> None:
        self.open: list[Cluster] = []
        self.proofs: list[Proof] = []
        self.passed_n = 0  #: tests that asked for a broker and passed

    @property
    def proven_n(self) -> int:
        """Tests that passed on brokers, where a broker has said what it is and kept what tests made."""
        return self.passed_n if any(proof.topics_n for proof in self.proofs) else 0

    def words(self) -> str:
        """For the summary: what the brokers said about themselves."""
        kinds = ", ".join(sorted({f"Apache Kafka {proof.version} ({proof.apis_n} APIs)" for proof in self.proofs}))
        brokers_n, topics_n = (sum(column) for column in zip(*(proof[2:] for proof in self.proofs), strict=True))
        return f"{self.passed_n} tests passed on them; {kinds}, {brokers_n} started, {topics_n} topics made"

    @contextlib.contextmanager
    def cluster(self, n: int, extra: Extra | None = None, *, backend: str | None = None) -> Iterator[Cluster]:
        """Start a cluster, hear what it is, hand it out, see what was made on it, and stop it."""
        with Cluster(n, extra, backend=backend or backends.choose().backend) as cluster:
            proof = prove(cluster)
            self.open.append(cluster)
            try:
                yield cluster
            finally:
                self.open.remove(cluster)
                self.proofs.append(proof._replace(topics_n=topics_made_n(cluster)))


SESSION = pytest.StashKey[Session]()
PASSED, USED = pytest.StashKey[bool](), pytest.StashKey[bool]()  # of a test: itself; brokers
NUMBERS = itertools.count(1)


def prove(cluster: Cluster) -> Proof:
    """Ask the first broker what it is."""
    node = cluster[1]
    version = VERSION_LINE.search(node.logs())
    assert version, "the broker's log does not say which Apache Kafka it is"
    return Proof(version[1], len(probe.api_keys(node.address, timeout_s=ASK_TIMEOUT_S)), cluster.n, 0)


def topics_made_n(cluster: Cluster) -> int:
    """How many topics tests have made, as the first broker that answers says; 0 where none does."""
    for node in cluster:
        with contextlib.suppress(OSError):
            seen = probe.metadata(node.address, timeout_s=ASK_TIMEOUT_S)
            return len({part.topic for part in seen.partitions if not part.topic.startswith("__")})
    return 0


def fresh(prefix: str) -> str:
    """A topic's or a group's name that no other test of this run has."""
    return f"{prefix}-{next(NUMBERS)}"


@pytest.fixture(scope="session")
def brokers(request: pytest.FixtureRequest) -> Brokers:
    """Clusters of another kind, for one test or module; see the protocol `Brokers`."""
    return request.config.stash[SESSION].cluster


@pytest.fixture(scope="session")
def kafka(brokers: Brokers) -> Iterator[Cluster]:
    """One broker."""
    with brokers(1) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka3(brokers: Brokers) -> Iterator[Cluster]:
    """Three brokers: replication 3, min.insync 2."""
    with brokers(3) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if FIXTURE in request.fixturenames:  # those asked for while it ran, too
        request.node.stash[USED] = True
        for cluster in request.config.stash[SESSION].open:
            cluster.heal()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker-tests-min",
        type=int,
        default=0,
        metavar="N",
        help="fail the run unless so many tests have passed on brokers that proved to be Apache Kafka",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = Session()
    config.addinivalue_line("markers", "on_processes: needs brokers; CI runs it on broker processes, too")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    elif report.when == "teardown" and item.stash.get(PASSED, False) and item.stash.get(USED, False):
        item.config.stash[SESSION].passed_n += 1
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if shortage(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash[SESSION]
    if run.proofs:
        terminalreporter.write_line(f"brokers: {backends.choose().words}; {run.words()}")
    if lacking := shortage(config):
        terminalreporter.write_line(lacking, red=True)


def shortage(config: pytest.Config) -> str:
    """What is missing to believe that the tests ran on Apache Kafka; empty where nothing is."""
    run, wanted_n = config.stash[SESSION], config.getoption("--broker-tests-min")
    if run.proven_n >= wanted_n:
        return ""
    return f"brokers: {run.proven_n} tests passed on a broker that proved to be Apache Kafka, not {wanted_n}"
