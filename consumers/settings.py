"""What ``serve`` can be told, and how the words of the command line and of ``VIP_ROUTER_*`` variables are read.

Secrets are no settings: they are read where they are used (``consumers/secrets.py``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from msgspec import Struct

from events.adapter import PARTITIONS_MAX

Role: TypeAlias = Literal["router", "crm", "assigner"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
LOG_URL: Final = "sqlite:///vip-router.db"
PARTITIONS: Final = 4  #: P of a log that is made
WORKSPACE_PARTITIONS: Final = 1  #: W of a log that is made
IDLE_S_MIN: Final = 0.1  #: shorter, and a process that is merely slow would count as idle

PORT_MAX: Final = 65_535
METRICS_HOST: Final = "127.0.0.1"  #: for ``--metrics PORT``: whoever wants others to read it says so

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h)")
_ADDRESS: Final = re.compile(r"(?:(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):)?([0-9]{1,5})", re.ASCII)
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class SettingsError(ValueError):
    """A setting that cannot be used. ``str()`` names it and the fix."""


class Address(NamedTuple):
    """Where a server listens; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServeSettings(Struct, frozen=True, kw_only=True):
    """How a ``serve`` process works."""

    policy: Path  #: a file, or a folder of ``<workspace>.toml``
    log_url: str = LOG_URL
    topic_prefix: str = ""  #: before the names of all topics; on Kafka only
    workspace: str = "default"  #: whose policy a file is
    roles: tuple[Role, ...] = ROLES
    partitions: int | None = None  #: P; counts only when the log is made. None: ``PARTITIONS``
    workspace_partitions: int | None = None  #: W; counts only when the log is made
    until_idle_s: float | None = None  #: end after so long without work or a role; None: only when told to
    look_ups_max: int = 1_000  #: requests to CRMs on their way at a time
    metrics: Address | None = None  #: where /livez, /readyz and /metrics are; None: nowhere

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; ``SettingsError``."""
        for name, count in (("partitions", self.partitions), ("workspace-partitions", self.workspace_partitions)):
            if count is not None and not 1 <= count <= PARTITIONS_MAX:
                raise SettingsError(f"--{name}: {count} is not between 1 and {PARTITIONS_MAX:,}")
        if self.until_idle_s is not None and self.until_idle_s < IDLE_S_MIN:
            raise SettingsError(f"--until-idle: give at least {IDLE_S_MIN:g}s")
        if not 1 <= self.look_ups_max <= 10_000:  # noqa: PLR2004  # the bounds stand in the message
            raise SettingsError(f"--look-ups: {self.look_ups_max} is not between 1 and 10,000")
        if not self.workspace:
            raise SettingsError("--workspace: it is empty; leave it out for the workspace default")


def parse_roles(text: str) -> tuple[Role, ...]:
    """Roles out of ``router,crm``; each once, in our order. Raises ``SettingsError``."""
    named = {word.strip() for word in text.split(",") if word.strip()}
    unknown = sorted(named.difference(ROLES))
    if unknown or not named:
        problem = f"{unknown[0]!r} is no role" if unknown else "no role is named"
        raise SettingsError(f"--roles: {problem}; give some of {','.join(ROLES)}")
    return tuple(role for role in ROLES if role in named)


def parse_address(text: str, setting: str) -> Address:
    """An address out of ``[HOST:]PORT``; raises ``SettingsError`` that names ``setting``."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or int(found[3]) > PORT_MAX:
        raise SettingsError(f"{setting}: write PORT or HOST:PORT, such as 9464 or 0.0.0.0:9464, not {text!r}")
    return Address(found[1] or found[2] or METRICS_HOST, int(found[3]))


def parse_duration_s(text: str, setting: str) -> float:
    """Seconds out of ``2s``, ``500ms``, ``1.5m``; raises ``SettingsError`` that names ``setting``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"{setting}: write a duration such as 2s, 500ms or 1m, not {text!r}")
    return float(found[1]) * _UNIT_S[found[2]]
