"""A policy file's text becomes a ``Policy``: keys, types, ranges and defaults.

A key that the file leaves out has the value that ``policy_template.toml`` shows, but for what nobody can guess (the
CRM's address, the conditions, the routes' targets): that has to be there.
Whether the values work together is ``routing/policy_checks.py``'s business, reading files that of ``consumers``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, get_args

from routing import policy_checks, texts
from routing.hours_file import read_hours
from routing.inputs import ConfiguredAgent, OpenedBy, PoolTarget
from routing.policy import (
    AgentsRules,
    Branch,
    Condition,
    Crm,
    CrmRate,
    CrmVariable,
    EmailRules,
    Messages,
    Operator,
    Policy,
    Route,
    Routes,
    Trigger,
    Workflow,
)
from routing.policy_lines import dotted
from routing.policy_reader import MESSAGE_CHARS_MAX, REQUIRED, Document, Table, kind_of, suggestion
from routing.policy_targets import ID_CHARS_MAX, TARGET_KEYS, read_target

URL_CHARS_MAX: Final = 2048
BODY_CHARS_MAX: Final = 16 * 1024
AGENTS_MAX: Final = 10_000
VARIABLES_MAX: Final = 10
CONDITIONS_MAX: Final = 10
HEADERS_MAX: Final = 10
RATE_MAX: Final = 10_000  #: requests in a second, or at a time
NETWORK_CHARS_MAX: Final = 50
LANGUAGES_MAX: Final = 50
NUMBER_MAX: Final = 2**53  #: beyond, JSON readers disagree on whole numbers

_OPENED_BY: Final = get_args(OpenedBy)
_OPERATORS: Final = get_args(Operator)
_ROUTE: Final = (
    *TARGET_KEYS, "agent_from", "fallback", "fallback_after", "wait_max", "sticky", "accept", "promote_after",
    "relax_after",
)  # fmt: skip
_AGENTS: Final = ("max_open", "presence_ttl", "wrap_up", "missed_offers_max")
_AGENT: Final = ("name", "email", "teams", "max_open", "weight", "languages", "skills", "wrap_up")
_WAIT_MAX: Final = {"vip": "15m", "regular": "7d", "escalated": "1h"}
_SECTIONS: Final = ("workflow", "trigger", "email", "crm", "branch", "route", "agents", "hours")
_YEAR: Final = "365d"


def parse_policy(text: str, *, source: str, is_new: bool = False) -> Policy:
    """Read and check a policy; ``source`` (a file's name) stands in the errors.

    ``is_new``: somebody wants to begin with it, so it is refused for more than one that a log has recorded, which has
    to go on (``routing/new_checks.py``). Raises ``PolicyError`` for the first thing that is wrong, with its dotted key
    and line. Nothing else is raised, whatever the text.
    """
    document = Document(text, source=source)
    top = Table(document, (), document.values, known=_SECTIONS)
    workflow = _workflow(top)
    policy = Policy(
        version="sha256:" + sha256(text.encode()).hexdigest()[:16],
        text=text,
        workflow=workflow,
        trigger=_trigger(top),
        email=_email(top, workflow.languages),
        crm=_crm(top),
        branch_vip=_branch(top),
        routes=_routes(top),
        agents=_agents(top),
        hours=read_hours(top, workflow.languages),
    )
    policy_checks.check(policy, document, is_new=is_new)
    return policy


def _workflow(top: Table) -> Workflow:
    table = top.table("workflow", known=("name", "languages", "forget_after"))
    return Workflow(
        name=table.text("name", "vip-contacts", chars_max=ID_CHARS_MAX),
        languages=_languages(table),
        forget_after_ms=table.duration_ms("forget_after", "30d", low="1m", high="3650d"),
    )


def _languages(table: Table) -> tuple[str, ...]:
    languages = table.texts("languages", tuple(texts.DEFAULTS), chars_max=texts.TAG_CHARS_MAX)
    if not languages:
        raise table.error("languages", "it is empty: name at least one language, the first is the fallback")
    if len(languages) > LANGUAGES_MAX:
        raise table.error("languages", f"it has {len(languages)} elements, at most {LANGUAGES_MAX} are allowed")
    for index, language in enumerate(languages):
        if language.casefold() in [other.casefold() for other in languages[:index]]:
            raise table.document.error((*table.path, "languages", index), f"{language!r} differs only in case")
        if not texts.is_tag(language):
            problem = f'{kind_of(language)} is no language tag such as "pt" or "pt-BR"'
            raise table.document.error((*table.path, "languages", index), problem)
    return languages


def _trigger(top: Table) -> Trigger:
    table = top.table("trigger", known=("opened_by", "once_per_contact", "one_open_per_contact"))
    opened_by = table.texts("opened_by", ("contact",))
    for index, who in enumerate(opened_by):
        if who not in _OPENED_BY:
            problem = f"it has to be one of {', '.join(_OPENED_BY)}, not {kind_of(who)}"
            raise table.document.error((*table.path, "opened_by", index), problem)
    if not opened_by:
        raise table.error("opened_by", 'it is empty, so nothing would be routed: name at least "contact"')
    return Trigger(
        opened_by=opened_by,  # type: ignore[arg-type]  # each is one of them, see above
        once_per_contact=table.flag("once_per_contact", False),
        one_open_per_contact=table.flag("one_open_per_contact", True),
    )


def _email(top: Table, languages: tuple[str, ...]) -> EmailRules:
    known = ("retries", "grace", "answer_timeout", "stop_words", "skip_channels", "messages")
    table = top.table("email", known=known)
    retries = table.whole("retries", 3, low=0, high=10)
    return EmailRules(
        retries=retries,
        grace_ms=table.duration_ms("grace", "5s", low="0s", high="1d"),
        answer_timeout_ms=table.duration_ms("answer_timeout", "12h", low="1s", high=_YEAR),
        stop_words=frozenset(word.casefold().strip() for word in table.texts("stop_words", ("stop",), chars_max=100)),
        skip_channels=frozenset(table.texts("skip_channels", (), chars_max=ID_CHARS_MAX)),
        messages=_messages(table, languages, retries),
    )


def _messages(email: Table, languages: tuple[str, ...], retries: int) -> dict[str, Messages]:
    """The texts of every language of the workflow."""
    written = email.values.get("messages", {})
    table = email.table("messages", known=written if isinstance(written, dict) else ())
    for language in table.values:
        if language not in languages:
            raise table.error(language, "nobody would get these texts: add the language to workflow.languages")
    return {language: _texts_of(table, language, retries) for language in languages}


def _texts_of(messages: Table, language: str, retries: int) -> Messages:
    """One language's texts: the file's, else ours; ours are there for a regional tag too (``pt-BR`` has ``pt``)."""
    table = messages.table(language, known=("ask", "retry", "success", "escalated"))
    ours = texts.look_up(language, tuple(texts.DEFAULTS))
    if ours is None:
        for key in ("ask", "retry", "success", "escalated"):
            if key not in table.values:
                raise table.error(key, f'it is missing: there is no text of ours in "{language}", "" sends nothing')
        ours = "en"
    default = texts.DEFAULTS[ours]
    return Messages(
        ask=table.text("ask", default.ask, chars_max=MESSAGE_CHARS_MAX, empty=True),
        retry=_retry(table, texts.retry_texts(ours, retries)),
        success=table.text("success", default.success, chars_max=MESSAGE_CHARS_MAX, empty=True),
        escalated=table.text("escalated", default.escalated, chars_max=MESSAGE_CHARS_MAX, empty=True),
    )


def _retry(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    if "retry" not in table.values:
        return default
    found = table.listed("retry", elements_max=10)
    if not found:
        raise table.error("retry", 'it is empty: give at least one text, [""] sends nothing')
    return tuple(
        table.document.text((*table.path, "retry", index), value, chars_max=MESSAGE_CHARS_MAX, empty=True)
        for index, value in enumerate(found)
    )


def _crm(top: Table) -> Crm:
    known = (
        "method", "url", "headers", "body", "timeout", "attempts", "deadline", "on_failure", "not_found", "variables",
        "repeat", "rate", "cache", "late", "allow_networks",
    )  # fmt: skip
    table = top.table("crm", known=known)
    return Crm(
        method=table.choice("method", "GET", ("GET", "POST", "PUT", "PATCH")),
        url=table.text("url", REQUIRED, chars_max=URL_CHARS_MAX),
        headers=_headers(table),
        body=table.text("body", None, chars_max=BODY_CHARS_MAX),
        timeout_ms=table.duration_ms("timeout", "3s", low="1s", high="5m"),
        attempts=table.whole("attempts", 3, low=1, high=10),
        deadline_ms=table.duration_ms("deadline", "15s", low="1s", high="1h"),
        on_failure=table.choice("on_failure", "regular", ("regular", "escalated")),
        not_found=table.choice("not_found", "regular", ("regular", "failed")),
        variables=_variables(table),
        repeat=table.choice("repeat", "safe", ("safe", "always")),
        rate=_rate(table),
        cache_ms=table.duration_ms("cache", None, low="1s", high="7d"),
        late_ms=table.duration_ms("late", None, low="1s", high="7d"),
        allow_networks=table.texts("allow_networks", (), chars_max=NETWORK_CHARS_MAX),
    )


def _rate(crm: Table) -> CrmRate:
    table = crm.table("rate", known=("per_second", "concurrency"))
    return CrmRate(
        per_second=table.whole("per_second", None, low=1, high=RATE_MAX),
        concurrency=table.whole("concurrency", 100, low=1, high=RATE_MAX),
    )


def _limited(table: Table, key: str, count_max: int) -> Table:
    """The table at ``key``, whose keys are names of the user's."""
    values = table.values.get(key, {})
    found = table.table(key, known=values if isinstance(values, dict) else ())
    if len(found.values) > count_max:
        raise table.error(key, f"it has {len(found.values)} entries, at most {count_max} are allowed")
    return found


def _headers(crm: Table) -> dict[str, str]:
    table = _limited(crm, "headers", HEADERS_MAX)
    return {name: table.text(name, REQUIRED, empty=True) for name in table.values}


def _variables(crm: Table) -> dict[str, CrmVariable]:
    table = _limited(crm, "variables", VARIABLES_MAX)
    return {name: _variable(table, name) for name in table.values}


def _variable(variables: Table, name: str) -> CrmVariable:
    """``name = "$.path"`` or ``name = { path = "$.path", personal = true }``."""
    if not isinstance(variables.values[name], dict):
        return CrmVariable(path=variables.text(name, REQUIRED), personal=False)
    table = variables.table(name, known=("path", "personal"))
    return CrmVariable(path=table.text("path", REQUIRED), personal=table.flag("personal", False))


def _branch(top: Table) -> Branch:
    table = top.table("branch", known=("vip",)).table("vip", known=("match", "conditions"))
    conditions = table.listed("conditions", elements_max=CONDITIONS_MAX)
    if not conditions:
        raise table.error("conditions", "it is empty: say what makes a VIP, or nobody ever is one")
    return Branch(
        match=table.choice("match", "all", ("all", "any")),
        conditions=tuple(_condition(table, index, values) for index, values in enumerate(conditions)),
    )


def _condition(branch: Table, index: int, values: Any) -> Condition:
    path = (*branch.path, "conditions", index)
    table = Table(branch.document, path, values, known=("variable", "operator", "value"))
    operator = table.value("operator", REQUIRED)
    if operator not in _OPERATORS:
        table.choice("operator", "", _OPERATORS)
    takes_value = operator not in ("exists", "does not exist")
    if not takes_value and "value" in table.values:
        raise table.error("value", f'"{operator}" takes no value')
    return Condition(
        variable=table.text("variable", REQUIRED),
        operator=operator,
        value=_condition_value(table, operator) if takes_value else None,
    )


def _condition_value(table: Table, operator: str) -> Any:
    """What to compare with: the kind that the operator needs."""
    value = table.value("value", REQUIRED)
    if operator == "is one of":
        found = table.listed("value")
        if not found:
            raise table.error("value", "it is empty, so the condition could never hold")
        for index, element in enumerate(found):
            if not _is_scalar(element):
                path = (*table.path, "value", index)
                raise table.document.error(path, f"it has to be a text, a number or true/false, not {kind_of(element)}")
        return tuple(found)
    if operator in ("is greater than", "is less than"):
        if not _is_number(value):
            hint = " beyond 2^53" if isinstance(value, int | float) and not isinstance(value, bool) else ""
            problem = f'"{operator}" compares numbers: write one without quotes, not {kind_of(value)}{hint}'
            raise table.error("value", problem)
        return value
    if not _is_scalar(value):
        hint = '; "is one of" takes a list' if isinstance(value, list) else ""
        raise table.error("value", f"it has to be a text, a number or true/false, not {kind_of(value)}{hint}")
    if isinstance(value, str):
        table.text("value", REQUIRED, empty=operator != "contains")
    return value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    """Whether it is a number that JSON carries exactly; NaN, infinity and greater ones are not."""
    return not isinstance(value, bool) and isinstance(value, int | float) and -NUMBER_MAX <= value <= NUMBER_MAX


def _routes(top: Table) -> Routes:
    table = top.table("route", known=("vip", "regular", "escalated"))
    vip, regular, escalated = (_route(table, name) for name in ("vip", "regular", "escalated"))
    return Routes(vip=vip, regular=regular, escalated=escalated)


def _route(routes: Table, name: str) -> Route:
    table = routes.table(name, known=_ROUTE)
    fallback = table.table("fallback", known=TARGET_KEYS) if "fallback" in table.values else None
    fallback_after = "0s" if fallback else None  # at once when the primary cannot take it
    return Route(
        agent_from=table.text("agent_from", None, chars_max=ID_CHARS_MAX),
        fallback=None if fallback is None else PoolTarget(**read_target(fallback)),
        fallback_after_ms=table.duration_ms("fallback_after", fallback_after, low="0s", high=_YEAR),
        wait_max_ms=table.duration_ms("wait_max", _WAIT_MAX[name], low="1s", high=_YEAR),
        sticky_ms=table.duration_ms("sticky", None, low="1s", high=_YEAR),
        accept_ms=table.duration_ms("accept", None, low="1s", high="1d"),
        promote_after_ms=table.duration_ms("promote_after", None, low="1s", high=_YEAR),
        relax_after_ms=table.duration_ms("relax_after", None, low="1s", high=_YEAR),
        **read_target(table),
    )


def _agents(top: Table) -> AgentsRules:
    values = top.values.get("agents", {})
    table = top.table("agents", known={*(values if isinstance(values, dict) else ()), *_AGENTS})
    ids = [key for key in table.values if key not in _AGENTS]
    if len(ids) > AGENTS_MAX:
        raise top.error("agents", f"it has {len(ids)} agents, at most {AGENTS_MAX} are allowed")
    return AgentsRules(
        max_open=table.whole("max_open", 20, low=1, high=10_000),
        agents={agent: _agent(table, agent) for agent in ids},
        presence_ttl_ms=table.duration_ms("presence_ttl", None, low="5s", high="7d"),
        wrap_up_ms=table.duration_ms("wrap_up", None, low="0s", high="1d"),
        missed_offers_max=table.whole("missed_offers_max", None, low=1, high=100),
    )


def _agent(agents: Table, name: str) -> ConfiguredAgent:
    if not isinstance(agents.values[name], dict):
        hint = suggestion(name, _AGENTS)
        raise agents.error(name, f"there is no such key{hint}; an agent is a table: [{dotted((*agents.path, name))}]")
    if not name.strip() or len(name) > ID_CHARS_MAX:
        raise agents.error(name, f"an agent's id has 1 to {ID_CHARS_MAX} characters")
    table = agents.table(name, known=_AGENT)
    return ConfiguredAgent(
        name=table.text("name", None),
        email=table.text("email", None, chars_max=320),
        teams=table.texts("teams", (), chars_max=ID_CHARS_MAX),
        max_open=table.whole("max_open", None, low=0, high=10_000),
        weight=table.whole("weight", 1, low=1, high=100),
        languages=table.texts("languages", (), chars_max=texts.TAG_CHARS_MAX),
        skills=table.texts("skills", (), chars_max=ID_CHARS_MAX),
        wrap_up_ms=table.duration_ms("wrap_up", None, low="0s", high="1d"),
    )
