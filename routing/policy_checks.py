"""Whether a policy's values work together: a set-up that cannot do what it says is refused.

``check`` raises for what is certainly a mistake; ``warnings`` lists what probably is one. Keys, types and ranges were
seen to before (``routing/policy_file.py``); the CRM's part stands in ``routing/crm_checks.py``, that of hours in
``routing/hours_checks.py``, the question whether conditions can hold together in ``routing/branch_checks.py``, what
only new policies are refused for in ``routing/new_checks.py``, slips in names in ``routing/name_checks.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from routing import branch_checks, crm_checks, hours_checks, name_checks, new_checks, texts
from routing.answers import read_answer
from routing.inputs import PoolTarget, RouteName
from routing.new_checks import ROUTE_NAMES
from routing.policy import EmailRules, Policy, Route
from routing.policy_lines import Path
from routing.policy_reader import Document, Finding, Remark, suggestion
from routing.policy_targets import Target, check_target

_EDGES: Final = re.compile(r"^[\W_]+|[\W_]+$")


def check(policy: Policy, document: Document, *, is_new: bool) -> None:
    """Raise ``PolicyError`` for the first set-up that cannot work, with its key and line.

    ``is_new``: for what logs may hold, too.
    """
    _check_times(policy, document)
    _check_messages(policy.email, document)
    crm_checks.check(policy.crm, document)
    branch_checks.check(policy, document, is_new=is_new)
    for name in ROUTE_NAMES:
        _check_route(policy, name, document)
    hours_checks.check(policy, document)
    _check_agents(policy, document)
    if is_new:
        new_checks.check(policy, document)


def warnings(policy: Policy) -> list[Finding]:
    """What may be meant as it is but probably is not, one sentence each, with key and line."""
    document = Document(policy.text, source="policy")
    found = [*crm_checks.warnings(policy.crm), *_surplus_texts(policy.email), *_deaf_stop_words(document)]
    found += [*_idle_agents(policy), *_idle_offers(policy), *hours_checks.warnings(policy)]
    for name in ROUTE_NAMES:
        found += _route_warnings(policy, name)
    found += name_checks.warnings(policy, [*_targets(policy), *hours_checks.outsides(policy)])
    return [document.finding(path, problem) for path, problem in found]


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
    for path, template in new_checks.templates_of(email):
        try:
            texts.pieces(template)
        except ValueError as error:
            raise document.error(path, str(error)) from None


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


def _surplus_texts(email: EmailRules) -> Iterator[Remark]:
    for language, messages in email.messages.items():
        if len(messages.retry) > max(email.retries, 1):
            path = ("email", "messages", language, "retry")
            yield path, f"it has {len(messages.retry)} texts, but there are only {email.retries} retries"


def _deaf_stop_words(document: Document) -> Iterator[Remark]:
    """Stop words that no message is, or only one that has their punctuation, as answers are read."""
    written: list[str] = document.values.get("email", {}).get("stop_words", [])
    for index, word in enumerate(written):
        path, plain = ("email", "stop_words", index), _EDGES.sub("", word)
        if not _stops(word, stop_word=word):
            yield path, "no message is ever read as this: write plain letters, ' for a curly apostrophe"
        elif plain and _stops(word, stop_word=plain) and not _stops(plain, stop_word=word):
            yield path, f"only a message with the same punctuation is this: {plain!r} is found with any and without"


def _stops(message: str, *, stop_word: str) -> bool:
    return read_answer(message, stop_words=frozenset({stop_word.casefold().strip()})).found == "stop"


def _targets(policy: Policy) -> Iterator[tuple[Path, Target]]:
    for name in ROUTE_NAMES:
        route = policy.routes.named(name)
        yield ("route", name), route
        if route.fallback is not None:
            yield ("route", name, "fallback"), route.fallback


def _idle_offers(policy: Policy) -> Iterator[Remark]:
    if policy.agents.missed_offers_max is None:
        return
    if all(policy.routes.named(name).accept_ms is None for name in ROUTE_NAMES):
        yield ("agents", "missed_offers_max"), "no route has accept, so nobody is offered anything that he could miss"


def _idle_agents(policy: Policy) -> Iterator[Remark]:
    """Agents of the file that no route reaches. Agents may come by ``agents.events``, so nobody can be missing."""
    targets = [target for _, target in [*_targets(policy), *hours_checks.outsides(policy)]]
    if any(target.workspace for target in targets) or any(policy.routes.named(n).agent_from for n in ROUTE_NAMES):
        return
    named = {target.agent for target in targets} | {target.team for target in targets}
    for agent, record in policy.agents.agents.items():
        if not named & {agent, record.email, *record.teams} - {None}:
            yield ("agents", agent), "no route names this agent or one of his teams, so he gets nothing"


def _route_warnings(policy: Policy, name: RouteName) -> Iterator[Remark]:
    route, path = policy.routes.named(name), ("route", name)
    if route.wait_max_ms is not None and route.wait_max_ms >= policy.workflow.forget_after_ms:
        yield (*path, "wait_max"), "workflow.forget_after is not longer, so who waits is forgotten before"
    if route.workspace and route.fallback is not None and (route.fallback.only_online or not route.only_online):
        yield (*path, "fallback"), "the route has the whole workspace already, so the fallback adds nobody"
