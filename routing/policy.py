"""What a policy says, once it was read and checked: the values that deciders and consumers go by.

Reading the TOML text is ``routing/policy_file.py``'s business, refusing set-ups that cannot work
``routing/policy_checks.py``'s. A ``Policy`` from ``parse_policy`` needs no further check.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from routing import texts
from routing.inputs import ConfiguredAgent, Offsets, OpenedBy, PoolTarget, RouteName, TeamHours

MessageName: TypeAlias = Literal["ask", "retry", "success", "escalated"]
Operator: TypeAlias = Literal[
    "is equal to",
    "is exactly",
    "is not equal to",
    "exists",
    "does not exist",
    "contains",
    "is one of",
    "is greater than",
    "is less than",
]


class Workflow(Struct, frozen=True, kw_only=True):
    """``[workflow]``."""

    name: str
    languages: tuple[str, ...]  #: at least one, as the file spells them; the first is the fallback
    forget_after_ms: int


class Trigger(Struct, frozen=True, kw_only=True):
    """``[trigger]``: which opened conversations go through the workflow."""

    opened_by: tuple[OpenedBy, ...]
    once_per_contact: bool
    one_open_per_contact: bool


class Messages(Struct, frozen=True, kw_only=True):
    """The texts of one language, complete: what the file leaves out is our text. An empty one sends nothing."""

    ask: str
    retry: tuple[str, ...]  #: by attempt, at least one; the last one repeats
    success: str
    escalated: str


class EmailRules(Struct, frozen=True, kw_only=True):
    """``[email]``: how the contact is asked for the address."""

    retries: int  #: re-asks after the first ask
    grace_ms: int
    answer_timeout_ms: int
    stop_words: frozenset[str]  #: casefolded, without surrounding white space
    skip_channels: frozenset[str]
    messages: dict[str, Messages]  #: by language; one for each of ``Workflow.languages``


class CrmVariable(Struct, frozen=True, kw_only=True):
    """Where a variable stands in the CRM's answer: a path that ``routing.jsonpath.parse_path`` reads."""

    path: str
    personal: bool


class CrmRate(Struct, frozen=True, kw_only=True):
    """``crm.rate``: what one host is asked at most, by one process."""

    per_second: int | None = None  #: requests begun in any second; None: as many as ``concurrency`` lets through
    concurrency: int = 100  #: requests on their way at a time


class Crm(Struct, frozen=True, kw_only=True):
    """``[crm]``: the look-up. ``${NAME}`` in headers and body stays as written, only the CRM consumer fills it in."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None
    timeout_ms: int  #: one attempt
    attempts: int
    deadline_ms: int  #: the whole look-up
    on_failure: Literal["regular", "escalated"]
    not_found: Literal["regular", "failed"]
    variables: dict[str, CrmVariable]
    repeat: Literal["safe", "always"] = "safe"  #: whether a POST or PATCH that may have been worked on is sent again
    rate: CrmRate = CrmRate()
    cache_ms: int | None = None  #: how long an answer, "no such contact" included, serves again; None: never
    late_ms: int | None = None  #: how long a failed look-up is kept trying; None: not at all
    allow_networks: tuple[str, ...] = ()  #: addresses that are not public and may be asked all the same


class Condition(Struct, frozen=True, kw_only=True):
    """One comparison. ``value`` is a TOML value; None for the operators that take none."""

    variable: str
    operator: Operator
    value: Any = None


class Branch(Struct, frozen=True, kw_only=True):
    """``[branch.vip]``: when a contact is a VIP; ``routing.conditions.matches`` evaluates it."""

    match: Literal["all", "any"]
    conditions: tuple[Condition, ...]


class Route(Struct, frozen=True, kw_only=True, cache_hash=True):
    """One of ``[route.*]``: exactly one of ``agent``, ``agent_from``, ``team`` and ``workspace`` is set."""

    agent: str | None = None
    agent_from: str | None = None  #: the variable that names the agent: his id, or else his e-mail address
    team: str | None = None
    workspace: bool = False
    strategy: Literal["round-robin", "least-open", "longest-idle"] = "round-robin"
    only_online: bool = True
    skills: tuple[str, ...] = ()
    match_language: bool = False
    fallback: PoolTarget | None = None
    fallback_after_ms: int | None = None  #: 0: at once when the primary cannot take it; None: there is no fallback
    wait_max_ms: int | None = None
    sticky_ms: int | None = None  #: how long the agent who had the contact last is preferred
    accept_ms: int | None = None  #: how long an agent has to accept; None: he is not asked
    promote_after_ms: int | None = None  #: when it ranks as the next class
    relax_after_ms: int | None = None  #: when skills and language do not matter any more


class Routes(Struct, frozen=True, kw_only=True):
    """``[route]``."""

    vip: Route
    regular: Route
    escalated: Route

    def named(self, name: RouteName) -> Route:
        """The route of this name."""
        route: Route = getattr(self, name)
        return route


class AgentsRules(Struct, frozen=True, kw_only=True):
    """``[agents]``."""

    max_open: int  #: of each agent, unless his record says otherwise
    agents: dict[str, ConfiguredAgent]
    presence_ttl_ms: int | None = None  #: None: presence holds until something else is said
    wrap_up_ms: int | None = None  #: how long an ended conversation takes room
    missed_offers_max: int | None = None  #: None: as many as the decider thinks right


class Hours(Struct, frozen=True, kw_only=True):
    """One of ``[hours.*]``."""

    rules: TeamHours
    offsets: Offsets  #: of their zone
    messages: dict[str, str]  #: what a contact is told when nobody is there, by language; empty: nothing


class Policy(Struct, frozen=True, kw_only=True):
    """A whole policy. ``version`` names its text for ever: ``sha256:`` and 16 hexadecimal digits."""

    version: str
    text: str
    workflow: Workflow
    trigger: Trigger
    email: EmailRules
    crm: Crm
    branch_vip: Branch
    routes: Routes
    agents: AgentsRules
    hours: dict[str, Hours] = {}  #: by name

    def language(self, tag: str | None) -> str:
        """The language to write in to somebody who asks for ``tag`` (BCP 47, any case, ``_`` for ``-`` too).

        RFC 4647, section 3.4 (look-up): ``pt-BR`` finds ``pt``. What finds nothing gets the first language.
        """
        found = texts.look_up(tag, self.workflow.languages)
        return self.workflow.languages[0] if found is None else found

    def hours_of(self, team: str | None, *, workspace: bool) -> str | None:
        """The name of the hours of a team, or of the workspace; None: always there."""
        for name, hours in self.hours.items():
            if team in hours.rules.teams or (workspace and hours.rules.workspace):
                return name
        return None

    def message(self, kind: MessageName, *, language: str, attempt: int, name: str | None) -> str:
        """The text to send, ``{name}`` filled in; ``""`` means: send nothing.

        ``attempt`` matters for ``retry`` alone: 1 is the first re-ask, and beyond the last text that one repeats.
        Without a name the placeholder vanishes with the comma or space that belongs to it (``texts.fill``).
        """
        messages = self.email.messages.get(language) or self.email.messages[self.language(language)]
        if kind == "retry":
            return texts.fill(messages.retry[min(max(attempt, 1), len(messages.retry)) - 1], name)
        template: str = getattr(messages, kind)
        return texts.fill(template, name)
