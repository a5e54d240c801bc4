"""What the brokers of a test run are made of: containers or processes.

``VIP_ROUTER_TEST_BROKERS`` = ``containers`` or ``processes`` decides; without it, containers where a Docker engine
answers and the image can be had, else processes. There is always one, or an error that says what to do.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from tests.brokers import container
from tests.brokers.dist import BrokersUnavailableError

SETTING = "VIP_ROUTER_TEST_BROKERS"


class Choice(NamedTuple):
    """A backend, and what it is in words."""

    backend: str
    words: str


@functools.cache
def choose() -> Choice:
    """The backend of this run; asks the Docker engine once."""
    asked = os.environ.get(SETTING, "")
    if asked not in {"", "containers", "processes"}:
        raise BrokersUnavailableError(f"{SETTING}={asked}: say containers or processes, or leave it unset")
    if asked == "processes":
        return Choice("processes", f"JVM processes, as {SETTING} says")
    try:
        return Choice("containers", container.prepare())
    except BrokersUnavailableError as why:
        if asked:
            raise BrokersUnavailableError(
                f"{SETTING}=containers, but {why}; start a Docker engine, or set {SETTING}=processes"
            ) from why
        return Choice("processes", f"JVM processes ({why})")
