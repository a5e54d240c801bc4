"""The policies and limits that simulated processes run with: short durations, little room, tiny batches."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from consumers.lane_spec import LaneLimits
from consumers.policy_book import PolicyBook
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text

START_MS: Final = 1_795_342_800_000  #: the instant at which every simulation begins

LIMITS: Final = LaneLimits(
    inputs_max=4,
    deadlines_max=3,
    append_bytes_soft=6_000,
    append_bytes_max=40_000,
    backlog_max=6,
    positions_inputs=3,
    positions_interval_ms=30_000,
    snapshot_records=9,
    wait_max_s=120.0,
    clock_stop_ms=600_000,
)


def _policy(name: str, changes: dict[str, str]) -> Policy:
    text = template_text()
    for old, new in changes.items():
        assert old in text, f"the template has no {old!r} any more"
        text = text.replace(old, new)
    return parse_policy(text, source=name)


_SMALL: Final = {
    'answer_timeout = "12h"': 'answer_timeout = "4m"',
    'forget_after = "30d"': 'forget_after = "40m"',
    "max_open = 20 ": "max_open = 1 ",
    'wait_max = "7d"': 'wait_max = "6m"',
    'wait_max = "1h"': 'wait_max = "10m"',
    "skip_channels = []": 'skip_channels = ["letter"]',
}


def _spans(first_s: int, open_s: int, every_s: int) -> str:
    """Spans of the day on which simulations begin, so many that teams open and close all the time."""
    spans = [(start // 60, (start + open_s) // 60) for start in range(first_s, first_s + 3 * 3_600, every_s)]
    return str([f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in spans]).replace("'", '"')


_HOURS: Final = f"""
[hours.office]
teams = ["support", "managers"]
zone = "Asia/Kolkata"
sunday = {_spans(15 * 3_600 + 49 * 60, 60, 420)}
message = true
outside = {{ team = "vip-desk", strategy = "least-open" }}
[hours.desk]
teams = ["vip-desk"]
zone = "UTC"
sunday = {_spans(10 * 3_600 + 22 * 60, 120, 360)}
message = true
[agents]
"""
POLICIES: Final[tuple[Policy, ...]] = (
    _policy("first", {**_SMALL, 'grace = "5s"': 'grace = "0s"', "# late = ": "late = "}),
    _policy(
        "second",
        {
            **_SMALL,
            "retries = 3": "retries = 1",
            'answer_timeout = "4m"': 'answer_timeout = "40s"',
            "one_open_per_contact = true": "one_open_per_contact = false",
            'on_failure = "regular"': 'on_failure = "escalated"',
            'strategy = "round-robin"': 'strategy = "least-open"',
            'wait_max = "6m"': 'wait_max = "6m"\naccept = "20s"\npromote_after = "2m"',
            'wait_max = "10m"': 'wait_max = "10m"\naccept = "40s"',
            "max_open = 1 ": 'wrap_up = "30s"\nmissed_offers_max = 2\nmax_open = 2 ',
            'forget_after = "30d"': 'forget_after = "7d"',
        },
    ),
    _policy(
        "third",
        {
            **_SMALL,
            'answer_timeout = "4m"': 'answer_timeout = "90s"',
            "once_per_contact = false": "once_per_contact = true",
            'agent = "anna"  ': 'agent_from = "account_manager"  ',
            'team = "support"': 'workspace = true\nmatch_language = true\nrelax_after = "90s"\nsticky = "10m"',
            'strategy = "round-robin"': 'strategy = "longest-idle"',
            'fallback_after = "2m"': 'fallback_after = "0s"',
            "max_open = 1 ": 'presence_ttl = "3m"\nmax_open = 1 ',
            'wait_max = "6m"': 'wait_max = "6m"\npromote_after = "30s"',
            'wait_max = "10m"': 'wait_max = "10m"\npromote_after = "1m"',
        },
    ),
    _policy(
        "fourth",
        {
            **_SMALL,
            "[agents]\n": _HOURS,
            "max_open = 1 ": "max_open = 2 ",
            'agent = "maya"\nfallback = { team = "managers", strategy = "least-open" }': 'team = "managers"',
            'answer_timeout = "4m"': 'answer_timeout = "2m"',
        },
    ),
)


@lru_cache(maxsize=64)
def parsed(text: str) -> Policy:
    """A policy by its text, parsed once: lanes restore so often that parsing would be most of a run."""
    return parse_policy(text, source="a log")


def book(number: int) -> PolicyBook:
    """The policies of a process, ``number`` says which."""
    return PolicyBook(policies(number))


def policies(number: int) -> dict[str, Policy]:
    """The policy of each workspace."""
    return {"default": POLICIES[number % len(POLICIES)], "other": POLICIES[(number + 1) % 3]}
