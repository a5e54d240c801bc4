"""The policy that ``vip-router policy new`` prints: every key, with a comment and its default."""

from __future__ import annotations

from importlib import resources


def template_text() -> str:
    """The commented default policy. Reads a file of this package, when called and never before."""
    return resources.files("routing").joinpath("policy_template.toml").read_text(encoding="utf-8")
