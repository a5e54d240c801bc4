"""Whether a policy's values work together: a set-up that cannot do what it says is refused.

``check`` raises for what is certainly a mistake; ``warnings`` lists what probably is one. Keys, types and ranges were
seen to before (``routing/policy_file.py``); the CRM's part stands in ``routing/crm_checks.py``, that of hours in
``routing/hours_checks.py``, the question whether conditions can hold together in ``routing/branch_checks.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final, get_args

from routing import branch_checks, crm_checks, hours_checks, texts
from routing.inputs import PoolTarget, RouteName
from routing.policy import EmailRules, Messages, Policy, Route
from routing.policy_lines import Path, dotted
from routing.policy_reader import Document, suggestion
from routing.policy_targets import Target, check_target

ROUTE_NAMES: Final[tuple[RouteName, ...]] = get_args(RouteName)


def check(policy: Policy, document: Document) -> None:
    """Raise ``PolicyError`` for the first set-up that cannot work, with its key and line."""
    _check_times(policy, document)
    _check_messages(policy.email, document)
    crm_checks.check(policy.crm, document)
    branch_checks.check(policy, document)
    for name in ROUTE_NAMES:
        _check_route(policy, name, document)
    hours_checks.check(policy, document)
    _check_agents(policy, document)


def warnings(policy: Policy) -> list[str]:
    """What may be meant as it is but probably is not, one sentence each, beginning with the key."""
    found = [*crm_checks.warnings(policy.crm), *_surplus_texts(policy.email), *_idle_agents(policy)]
    found += hours_checks.warnings(policy)
    for name in ROUTE_NAMES:
        found += _route_warnings(policy, name)
    return found


def _check_times(policy: Policy, document: Document) -> None:
    email = policy.email
    if email.grace_ms >= email.answer_timeout_ms:
        path = ("email", "grace" if document.has(("email", "grace")) else "answer_timeout")
        raise document.error(path, "grace has to be shorter than answer_timeout, or no answer ever counts as invalid")
    if policy.workflow.forget_after_ms <= email.answer_timeout_ms:
        path = (
            ("workflow", "forget_after") if document.has(("workflow", "forget_after")) else ("email", "answer_timeout")
        )
        problem = "forget_after has to be longer than email.answer_timeout, or a contact is forgotten while he is asked"
        raise document.error(path, problem)


def _check_messages(email: EmailRules, document: Document) -> None:
    """Placeholders that do not exist. Our own texts are held right by a test."""
    for language, messages in email.messages.items():
        for keys, template in _templates(messages):
            try:
                texts.pieces(template)
            except ValueError as error:
                raise document.error(("email", "messages", language, *keys), str(error)) from None


def _templates(messages: Messages) -> Iterator[tuple[Path, str]]:
    yield ("ask",), messages.ask
    for index, text in enumerate(messages.retry):
        yield ("retry", index), text
    yield ("success",), messages.success
    yield ("escalated",), messages.escalated


def _check_route(policy: Policy, name: RouteName, document: Document) -> None:
    route, path = policy.routes.named(name), ("route", name)
    check_target(route, path, document, agent_from=route.agent_from)
    _check_wait(name, route, document)
    if route.agent_from is not None:
        _check_agent_from(policy, name, document)
    if route.fallback is None:
        if route.fallback_after_ms is not None:
            raise document.error(
                (*path, "fallback_after"), "there is no fallback: add one, or leave fallback_after out"
            )
        return
    check_target(route.fallback, (*path, "fallback"), document, agent_from=None)
    if _adds_nobody(route, route.fallback):
        raise document.error((*path, "fallback"), "it names the same as the route itself, so it would add nobody")
    if route.fallback_after_ms is not None and route.wait_max_ms is not None:
        if route.fallback_after_ms < route.wait_max_ms:
            return
        key = "fallback_after" if document.has((*path, "fallback_after")) else "wait_max"
        raise document.error(
            (*path, key), "fallback_after has to be shorter than wait_max, or the fallback never opens"
        )


def _check_wait(name: RouteName, route: Route, document: Document) -> None:
    """What happens to one that waits has to be possible, and in time."""
    path: Path = ("route", name)
    narrowed = [target for target in (route, route.fallback) if target and (target.skills or target.match_language)]
    if route.relax_after_ms is not None and not narrowed:
        raise document.error((*path, "relax_after"), "the route asks for no skills and no language: leave it out")
    if route.promote_after_ms is not None and name == "vip":
        raise document.error((*path, "promote_after"), "no class comes before vip: leave it out")
    for key, after_ms in (("relax_after", route.relax_after_ms), ("promote_after", route.promote_after_ms)):
        if after_ms is not None and route.wait_max_ms is not None and after_ms >= route.wait_max_ms:
            raise document.error((*path, key), f"{key} has to be shorter than wait_max, or it has no effect")


def _check_agent_from(policy: Policy, name: RouteName, document: Document) -> None:
    """The variable has to be one that the CRM sets, and known when the route is taken."""
    route, path = policy.routes.named(name), ("route", name, "agent_from")
    variable = policy.crm.variables.get(route.agent_from or "")
    if variable is None:
        hint = suggestion(route.agent_from or "", policy.crm.variables)
        raise document.error(path, f"crm.variables sets no {route.agent_from!r}{hint}")
    if variable.personal:
        raise document.error(path, "an agent's id stands in public events: take personal off the variable")
    if name == "escalated" and route.fallback is None:
        problem = "who never gave an address was never looked up, so nobody is named: add a fallback"
        raise document.error(path, problem)


def _adds_nobody(route: Route, fallback: PoolTarget) -> bool:
    same = (route.agent, route.team, route.workspace) == (fallback.agent, fallback.team, fallback.workspace)
    return same and route.agent_from is None and (fallback.only_online or not route.only_online)


def _check_agents(policy: Policy, document: Document) -> None:
    """An agent may be named by his e-mail address, so no two have the same."""
    seen: set[str] = set()
    for agent, record in policy.agents.agents.items():
        if record.email is None:
            continue
        path, email = ("agents", agent, "email"), record.email.casefold().strip()
        if "@" not in email:
            raise document.error(path, "it is no e-mail address")
        if email in seen:
            raise document.error(path, "another agent has this address already")
        seen.add(email)


def _surplus_texts(email: EmailRules) -> Iterator[str]:
    for language, messages in email.messages.items():
        if len(messages.retry) > max(email.retries, 1):
            key = dotted(("email", "messages", language, "retry"))
            yield f"{key}: it has {len(messages.retry)} texts, but there are only {email.retries} retries"


def _targets(policy: Policy) -> Iterator[tuple[Path, Route | PoolTarget]]:
    for name in ROUTE_NAMES:
        route = policy.routes.named(name)
        yield ("route", name), route
        if route.fallback is not None:
            yield ("route", name, "fallback"), route.fallback


def _idle_agents(policy: Policy) -> Iterator[str]:
    """Agents of the file that no route reaches. Agents may come by ``agents.events``, so nobody can be missing."""
    targets: list[Target] = [*(target for _, target in _targets(policy)), *hours_checks.outsides(policy)]
    if any(target.workspace for target in targets) or any(policy.routes.named(n).agent_from for n in ROUTE_NAMES):
        return
    named = {target.agent for target in targets} | {target.team for target in targets}
    for agent, record in policy.agents.agents.items():
        if not named & {agent, record.email, *record.teams} - {None}:
            yield f"{dotted(('agents', agent))}: no route names this agent or one of his teams, so he gets nothing"


def _route_warnings(policy: Policy, name: RouteName) -> Iterator[str]:
    route = policy.routes.named(name)
    if route.wait_max_ms is not None and route.wait_max_ms >= policy.workflow.forget_after_ms:
        yield f"route.{name}.wait_max: workflow.forget_after is not longer, so who waits is forgotten before"
    if route.workspace and route.fallback is not None and (route.fallback.only_online or not route.only_online):
        yield f"route.{name}.fallback: the route has the whole workspace already, so the fallback adds nobody"
    agents = policy.agents.agents
    emails = [record.email for record in agents.values() if record.email is not None]
    teams = sorted({team for record in agents.values() for team in record.teams})
    for path, target in _targets(policy):
        if path[1] == name:
            yield from _near_miss((*path, "agent"), target.agent, [*agents, *emails])
            yield from _near_miss((*path, "team"), target.team, teams)


def _near_miss(path: Path, named: str | None, known: list[str]) -> Iterator[str]:
    """A name that is nearly, but not quite, one that ``[agents]`` has."""
    if named is None or named in known:
        return
    near = get_close_matches(named, known, n=1, cutoff=0.8)
    if near:
        yield f"{dotted(path)}: [agents] has {near[0]!r} but no {named!r}: is it a slip?"
