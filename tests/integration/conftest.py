"""What the tests of this folder share: a CRM for each module that names ``CONTACTS``, and a policy that asks it.

Tests of our own image need a Docker engine: where the run has none, they are left out, and the summary says so.

Asked for containers (as CI is), nothing is left out: without an engine these tests fail with the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import container
from tests.brokers.backends import SETTING
from tests.brokers.dist import BrokersUnavailableError
from tests.processes import crm, policy_text

MARKER = "on_containers"
LEFT_OUT = pytest.StashKey[str]()


@pytest.fixture(scope="module")
def crm_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A CRM in a process of its own that knows the module's ``CONTACTS``."""
    with crm(tmp_path_factory.mktemp("crm"), request.module.CONTACTS) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, crm_url: str) -> Path:
    """A folder with a policy, ``p.toml``, whose CRM answers."""
    (tmp_path / "p.toml").write_text(policy_text(crm_url), encoding="utf-8")
    return tmp_path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARKER}: needs a Docker engine; left out, in words, where brokers are processes"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    concerned = [item for item in items if item.get_closest_marker(MARKER)]
    if concerned and (reason := why_not()):
        items[:] = [item for item in items if item not in concerned]
        config.hook.pytest_deselected(items=concerned)
        config.stash[LEFT_OUT] = (
            f"image: {len(concerned)} tests of the container image were left out ({reason}); they run with a Docker "
            f"engine: {SETTING}=containers bash tests/run.sh"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, ""):
        terminalreporter.write_line(left_out, yellow=True)


def why_not() -> str:
    """Why containers are not for this run; empty where they are, or were asked for."""
    asked = os.environ.get(SETTING, "")
    if asked:
        return f"{SETTING}={asked}" if asked == "processes" else ""
    try:
        with container.engine():
            return ""
    except BrokersUnavailableError as error:
        return str(error)
