"""The secrets that a policy names: ``${NAME}`` in the look-up's headers and body.

A value comes from the environment, or else from the file of that name in ``VIP_ROUTER_SECRETS_DIR``; never from
arguments, never from the policy. Values stand in no error, log line or repr: problems name the secret, not what it is.
Filling them into a request is ``consumers/crm/endpoint.py``'s business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from routing.crm_checks import SECRET
from routing.policy import Crm, Policy

DIRECTORY_VARIABLE: Final = "VIP_ROUTER_SECRETS_DIR"
SECRET_BYTES_MAX: Final = 64 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class SecretError(Exception):
    """A secret that cannot be used. ``str()`` names it and the fix, never its value."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"${{{name}}}: {problem}")
        self.name = name


class Secrets:
    """Where the values of ``${NAME}`` come from. Reads on every call, so that a changed file counts at once."""

    __slots__ = ("_directory", "_environment")

    def __init__(self, *, environment: Mapping[str, str], directory: Path | None = None) -> None:
        self._environment = environment
        self._directory = directory

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The process' own secrets."""
        directory = environment.get(DIRECTORY_VARIABLE)
        return cls(environment=environment, directory=Path(directory) if directory else None)

    def get(self, name: str) -> str:
        """The value; raises ``SecretError`` if there is none, it is empty, or it could break a header."""
        value = self._environment.get(name)
        if value is None:
            value = self._from_file(name)
        if not value:
            raise SecretError(name, "the value is empty; set the environment variable or fill the file")
        if _CONTROL.search(value):
            raise SecretError(name, "the value holds a line break or another control character; remove it")
        return value

    def _from_file(self, name: str) -> str:
        if self._directory is None:
            raise SecretError(
                name,
                f"not found; set the environment variable {name}, or {DIRECTORY_VARIABLE} to a folder with such a file",
            )
        try:
            with (self._directory / name).open("rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            raise SecretError(
                name,
                f"not in the environment, and the file {name} in {DIRECTORY_VARIABLE} cannot be read "
                f"({error.strerror}); set the variable or create the file",
            ) from None
        if len(raw) > SECRET_BYTES_MAX:
            raise SecretError(name, f"the file is over {SECRET_BYTES_MAX:,} bytes; put the secret alone into it")
        try:
            return raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecretError(name, "the file is not UTF-8 text; write it as UTF-8") from None


def secret_names(crm: Crm) -> list[str]:
    """The names of the secrets that a look-up needs, each once, sorted."""
    templates = [*crm.headers.values(), crm.body or ""]
    return sorted({name for template in templates for name in SECRET.findall(template)})


def missing_secrets(policy: Policy, secrets: Secrets) -> list[SecretError]:
    """What is wrong with the secrets that ``policy`` names, one error a name; empty: it can be used."""
    problems = []
    for name in secret_names(policy.crm):
        try:
            secrets.get(name)
        except SecretError as problem:
            problems.append(problem)
    return problems
