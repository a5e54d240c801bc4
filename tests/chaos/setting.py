"""The policy, the environment and the pace that chaos runs with: short deadlines, small room, quick time-outs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text
from tests.chaos.load import SUPPORT, TEAMS, WORKSPACE_NAMES

SESSION_TIMEOUT_S: Final = 3
ENVIRONMENT: Final = {
    "VIP_ROUTER_KAFKA_SESSION_TIMEOUT": f"{SESSION_TIMEOUT_S}s",
    "VIP_ROUTER_KAFKA_REQUEST_TIMEOUT": "3s",
}
CRM_CONTACTS: Final = 4_000
_CHANGES: Final = {
    'answer_timeout = "12h"': 'answer_timeout = "6s"',
    'grace = "5s"': 'grace = "0s"',
    'deadline = "15s"': 'deadline = "8s"',
    'timeout = "3s" ': 'timeout = "2s" ',
    "skip_channels = []": 'skip_channels = ["letter"]',
    'fallback_after = "2m"': 'fallback_after = "1s"',
    'wait_max = "15m"': 'wait_max = "20s"',
    "max_open = 20 ": "max_open = 12 ",
}


class Pace(NamedTuple):
    """How long faults last, seconds."""

    outage_s: float  #: all brokers down
    storm_s: int
    latency_s: float
    silence_s: float
    patience_s: float  #: at most, until whoever was hurt works again, before more is hurt
    pause_s: float  #: between two faults of a stream, at most


LONG: Final = Pace(outage_s=12.0, storm_s=6, latency_s=3.0, silence_s=4.0, patience_s=6.0, pause_s=0.5)
SHORT: Final = Pace(outage_s=2.0, storm_s=4, latency_s=1.5, silence_s=2.0, patience_s=20.0, pause_s=0.2)


def policy_text(crm_url: str) -> str:
    """The policy of both workspaces."""
    text = template_text().replace("https://crm.example.com", crm_url)
    for old, new in _CHANGES.items():
        assert old in text, f"the template has no {old!r} any more"
        text = text.replace(old, new)
    teams = {**TEAMS, **dict.fromkeys(SUPPORT, "support")}
    del teams["anna"]  # she stands in the template
    return text + "".join(f'\n[agents.{agent}]\nteams = ["{team}"]\n' for agent, team in teams.items())


def write_policies(folder: Path, crm_url: str) -> Policy:
    """A folder of policies for ``serve``; gives the one that they all are."""
    folder.mkdir()
    text = policy_text(crm_url)
    for name in WORKSPACE_NAMES:
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return parse_policy(text, source="chaos")


def crm_contacts() -> dict[str, dict[str, Any]]:
    """What the CRM knows: every fifth contact is a VIP, some look-ups fail or take long."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(CRM_CONTACTS):
        for contact in (f"p{number}", f"k{number}"):
            known: dict[str, Any] = {"customerType": "VIP" if number % 5 == 0 else "plain"}
            if number % 41 == 0:
                known |= {"__delay_s": 1}
            elif number % 43 == 0:
                known |= {"__status": 500, "__times": 1}
            found[f"{contact}@example.{('com', 'org', 'net')[number % 3]}"] = known
    return found
