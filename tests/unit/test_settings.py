"""Settings as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consumers.cli.options import DEFAULT_LOG
from consumers.settings import LOG_URL, ROLES, ServeSettings, SettingsError, parse_duration_s, parse_roles


@pytest.mark.parametrize(("text", "seconds"), [("2s", 2), ("500ms", 0.5), ("1.5m", 90), (" 1h ", 3600), ("0s", 0)])
def test_durations_are_seconds(text, seconds):
    assert parse_duration_s(text, "--until-idle") == seconds


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "2 s", "1d", "1e9s", "٢s", "2s\n1s"])
def test_what_is_no_duration_is_refused_by_the_settings_name(text):
    with pytest.raises(SettingsError, match=r"^--until-idle: "):
        parse_duration_s(text, "--until-idle")


def test_roles_come_in_our_order_each_once():
    assert parse_roles("assigner, router,router") == ("router", "assigner")
    assert parse_roles(",".join(ROLES)) == ROLES


@pytest.mark.parametrize("text", ["", ",", "router,cook"])
def test_unknown_and_missing_roles_are_refused(text):
    with pytest.raises(SettingsError, match=r"give some of router,crm,assigner"):
        parse_roles(text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partitions": 0}, "--partitions"),
        ({"workspace_partitions": 10_001}, "--workspace-partitions"),
        ({"until_idle_s": 0.0}, "--until-idle"),
        ({"look_ups_max": 0}, "--look-ups"),
        ({"workspace": ""}, "--workspace"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], says: str):
    with pytest.raises(SettingsError, match=rf"^{says}: "):
        ServeSettings(policy=Path("p.toml"), **changes)


def test_the_default_log_is_the_same_for_every_command():
    assert DEFAULT_LOG == LOG_URL
