"""Containers of our image for tests: started with no rights, watched, and removed whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from docker import DockerClient  # type: ignore[import-untyped]

from tests.brokers import container
from tests.processes import wait_until

USER: Final = 10001
STOP_TIMEOUT_S: Final = 30
END_TIMEOUT_S: Final = 120


class Ended(NamedTuple):
    """What a command in a container said, on both streams, and its exit code."""

    code: int
    said: str


class Box:
    """A container that was started."""

    def __init__(self, made: Any) -> None:  # docker has no types
        self._made = made

    def said(self) -> str:
        """What it has written."""
        return str(self._made.logs().decode())

    def health(self) -> str:
        """``starting``, ``healthy`` or ``unhealthy``; raises ``AssertionError`` where it has ended."""
        self._made.reload()
        state = self._made.attrs["State"]
        assert state["Running"], f"ended with {state['ExitCode']}: {self.said()}"
        return str(state.get("Health", {}).get("Status", "without a health check"))

    def wait_for(self, text: str) -> None:
        """Wait until it has said this; fails when it ends without."""
        wait_until(lambda: bool(self.health()) and text in self.said(), f"{text!r} is said")

    def execute(self, *command: str) -> Ended:
        """Run a command beside it."""
        code, said = self._made.exec_run(list(command))
        return Ended(code, said.decode())

    def ended(self) -> Ended:
        """Wait until it ends by itself."""
        code = self._made.wait(timeout=END_TIMEOUT_S)["StatusCode"]
        return Ended(code, self.said())

    def stop(self) -> Ended:
        """Send the image's stop signal, and SIGKILL (exit code 137) if that does not end it."""
        self._made.stop(timeout=STOP_TIMEOUT_S)
        return self.ended()


def hardened(**options: Any) -> dict[str, Any]:
    """A container that may do nothing: no capability, no new rights, nothing to write to, no network."""
    may_not = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    return {**may_not, "network_mode": "none", **options}


@contextlib.contextmanager
def boxed(client: DockerClient, image: str, command: Sequence[str] | None, **options: Any) -> Iterator[Box]:
    """Start a container; it and its anonymous volumes are removed at the end, or by the next run."""
    made = client.containers.create(image, command, labels={container.LABEL: container.owner()}, **options)
    try:
        made.start()
        yield Box(made)
    finally:
        made.remove(force=True, v=True)


def run(client: DockerClient, image: str, command: Sequence[str] | None, **options: Any) -> Ended:
    """Run a container to its end."""
    with boxed(client, image, command, **options) as box:
        return box.ended()
