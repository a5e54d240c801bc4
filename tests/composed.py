"""Runs what ``deploy/compose.yaml`` says, as far as that file uses it, with the Docker engine's own API.

For machines that have an engine and no ``docker compose``. What it does not know it refuses: nothing in the file is
silently left out. Named volumes are anonymous here, so that they go with their container; ports are not published.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from docker import DockerClient  # type: ignore[import-untyped]

from tests.boxes import Box, Ended, boxed
from tests.brokers import container
from tests.processes import wait_until

LEFT_TO_COMPOSE: Final = {"build", "expose", "ports", "profiles", "restart", "stop_grace_period", "depends_on"}
AS_THEY_ARE: Final = ("cap_drop", "entrypoint", "environment", "hostname", "init", "read_only", "security_opt")
TRANSLATED: Final = {"image", "command", "healthcheck", "networks", "secrets", "tmpfs", "volumes"}
SECOND_NS: Final = 1_000_000_000
DEADLINE_S: Final = 180.0

_VARIABLE: Final = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


class ComposeError(ValueError):
    """The file says something that this cannot do."""


def load(path: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in and every service's keys known; raises `ComposeError`."""
    text = _VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], path.read_text())
    file: dict[str, Any] = yaml.safe_load(text)
    known = LEFT_TO_COMPOSE | TRANSLATED | set(AS_THEY_ARE)
    for name, service in file["services"].items():
        if unknown := sorted(set(service) - known):
            raise ComposeError(f"service {name}: {unknown[0]} is not known here")
        for other in service.get("depends_on", {}):
            if other not in file["services"]:
                raise ComposeError(f"service {name}: it depends on {other}, which is not there")
    return file


class System:
    """The services of a file; use it through `composed`."""

    def __init__(
        self, client: DockerClient, file: dict[str, Any], folder: Path, network: str, stack: contextlib.ExitStack
    ) -> None:
        self.boxes: dict[str, Box] = {}
        self._client = client
        self._file = file
        self._folder = folder
        self._network = network
        self._stack = stack

    def up(self) -> None:
        """Start the services without a profile, each when what it depends on is as far as it has to be."""
        for name, service in self._file["services"].items():
            if "profiles" not in service:
                self._start(name)

    def run(self, name: str, *command: str) -> Ended:
        """Run a service to its end, with another command if one is given: ``compose run --rm``."""
        service = self._file["services"][name]
        self._wait_for_others(service)
        with boxed(self._client, service["image"], command or service["command"], **self._options(name)) as box:
            return box.ended()

    def _start(self, name: str) -> None:
        if name in self.boxes:
            return
        service = self._file["services"][name]
        for other in service.get("depends_on", {}):
            self._start(other)
        self._wait_for_others(service)
        made = boxed(self._client, service["image"], service.get("command"), **self._options(name))
        self.boxes[name] = self._stack.enter_context(made)

    def _wait_for_others(self, service: dict[str, Any]) -> None:
        for other, how in service.get("depends_on", {}).items():
            box = self.boxes[other]
            if how["condition"] == "service_completed_successfully":
                ended = box.ended()
                assert ended.code == 0, f"{other} ended with {ended.code}: {ended.said}"
            elif how["condition"] == "service_healthy":
                wait_until(lambda box=box: box.health() == "healthy", f"{other} is healthy", deadline_s=DEADLINE_S)  # type: ignore[misc]
            else:
                raise ComposeError(f"condition {how['condition']} is not known here")

    def _options(self, name: str) -> dict[str, Any]:
        service = self._file["services"][name]
        made = {key: service[key] for key in AS_THEY_ARE if key in service}
        made["tmpfs"] = dict(entry.split(":", 1) for entry in service.get("tmpfs", []))
        made["volumes"] = [self._mount(text) for text in service.get("volumes", [])]
        for secret in service.get("secrets", []):
            file = self._folder / self._file["secrets"][secret]["file"]
            made["volumes"].append(f"{file.resolve()}:/run/secrets/{secret}:ro")
        if "healthcheck" in service:
            made["healthcheck"] = _health_check(service["healthcheck"])
        endpoint = self._client.api.create_endpoint_config(aliases=[name])
        return {**made, "network": self._network, "networking_config": {self._network: endpoint}}

    def _mount(self, text: str) -> str:
        source, _, rest = text.partition(":")
        if source.startswith("."):
            return f"{(self._folder / source).resolve()}:{rest}"
        if source not in self._file["volumes"]:
            raise ComposeError(f"volume {source} is not known")
        return rest


@contextlib.contextmanager
def composed(client: DockerClient, file: dict[str, Any], folder: Path) -> Iterator[System]:
    """The services of ``file`` on a network of their own; all that was started is removed at the end."""
    with container.network() as network, contextlib.ExitStack() as stack:
        yield System(client, file, folder, network.name, stack)


def _health_check(said: dict[str, Any]) -> dict[str, Any]:
    if said.get("disable"):
        return {"test": ["NONE"]}
    times: dict[str, Any] = {key: _ns(said[key]) for key in ("interval", "timeout", "start_period") if key in said}
    return {"test": said["test"], "retries": said["retries"], **times}


def _ns(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)s", text)
    if found is None:
        raise ComposeError(f"{text}: write seconds, such as 10s")
    return int(found[1]) * SECOND_NS
