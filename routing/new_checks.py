"""What is refused in a policy that is to be used from now on, although logs may hold policies that have it.

A log's policies are parsed again on replay and have to decide as they did, so what was found to be a mistake only after
it could be recorded is looked for here, and only where somebody wants to begin with a policy. What can never have
worked is ``routing/policy_checks.py``'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from routing import texts
from routing.inputs import RouteName
from routing.policy import EmailRules, Messages, Policy
from routing.policy_lines import Path
from routing.policy_reader import Document, kind_of

ROUTE_NAMES: Final[tuple[RouteName, ...]] = get_args(RouteName)


def check(policy: Policy, document: Document) -> None:
    """Raise ``PolicyError`` for the first finding, with its key and line."""
    for path, text in _texts(policy):
        if text and not text.strip():
            raise document.error(path, 'it is blank: write a text, "" sends nothing')
    for name in ROUTE_NAMES:
        _check_route(policy, name, document)
    for agent, record in policy.agents.agents.items():
        for index, language in enumerate(record.languages):
            if not texts.is_tag(language):
                problem = f'{kind_of(language)} is no language tag such as "pt" or "pt-BR"'
                raise document.error(("agents", agent, "languages", index), problem)


def templates_of(email: EmailRules) -> Iterator[tuple[Path, str]]:
    """Every text to a contact who is asked, with where it stands."""
    for language, messages in email.messages.items():
        for keys, template in _templates(messages):
            yield ("email", "messages", language, *keys), template


def _templates(messages: Messages) -> Iterator[tuple[Path, str]]:
    yield ("ask",), messages.ask
    for index, text in enumerate(messages.retry):
        yield ("retry", index), text
    yield ("success",), messages.success
    yield ("escalated",), messages.escalated


def _texts(policy: Policy) -> Iterator[tuple[Path, str]]:
    """Every text to a contact."""
    yield from templates_of(policy.email)
    for name, hours in policy.hours.items():
        for language, text in hours.messages.items():
            yield ("hours", name, "message", language), text


def _check_route(policy: Policy, name: RouteName, document: Document) -> None:
    route, path = policy.routes.named(name), ("route", name)
    if route.agent_from is not None and route.fallback is None:
        problem = "where the CRM gives no value, anybody of the workspace would get the conversation: add a fallback"
        raise document.error((*path, "agent_from"), problem)
    if route.accept_ms is not None and route.wait_max_ms is not None and route.accept_ms >= route.wait_max_ms:
        raise document.error((*path, "accept"), "accept has to be shorter than wait_max, or an offer outlasts the wait")
