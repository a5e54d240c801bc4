"""What all commands have in common, read off the command tree itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from consumers.cli.main import app

NOT_SETTINGS = {"help", "version"}


def commands(command: Any, name: str = "vip-router") -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub_name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, f"{name} {sub_name}")


EVERY = dict(commands(typer.main.get_command(app)))


def test_the_tree_is_seen():
    """Guards the tests below: they would pass over nothing."""
    assert {"vip-router serve", "vip-router policy check", "vip-router dead-letters list"} <= set(EVERY)
    assert sum(len(command.params) for command in EVERY.values()) > 20


def test_every_setting_is_also_an_environment_variable():
    without = [
        f"{name}: {parameter.opts[0]}"
        for name, command in EVERY.items()
        for parameter in command.params
        if parameter.param_type_name == "option"
        and parameter.name not in NOT_SETTINGS
        and not str(parameter.envvar or "").startswith("VIP_ROUTER_")
    ]
    assert without == []


def test_every_command_and_option_says_what_it_does():
    assert [name for name, command in EVERY.items() if not command.help] == []
    silent = [
        f"{name}: {parameter.name}"
        for name, command in EVERY.items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.help
    ]
    assert silent == []


def test_json_and_log_mean_the_same_everywhere():
    for name, command in EVERY.items():
        for parameter in command.params:
            if "--log" in parameter.opts:
                assert parameter.envvar == "VIP_ROUTER_LOG", name
            if "--json" in parameter.opts:
                assert parameter.envvar == "VIP_ROUTER_JSON", name
