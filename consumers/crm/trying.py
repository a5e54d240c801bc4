"""One look-up as the router would do it, told step by step to whoever writes the policy.

The words for it are the command line's (``consumers/cli/crm.py``). Secrets are never in what is told: the request has
their names, and where an answer repeats one, its name stands there too. Of what does not come from the CRM nothing is
masked: there no secret can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from msgspec import Struct, structs, to_builtins

from consumers.crm.client import Attempt, CrmClient
from consumers.crm.endpoint import STATUS_NOT_FOUND, Endpoint
from consumers.crm.outcomes import REASONS, Answered, Failed, LookUp, TroubleError
from consumers.crm.tls import tls_context
from consumers.secrets import Secrets, missing_secrets, secret_names
from routing.conditions import holds, matches
from routing.inputs import RouteName
from routing.policy import Condition, Policy
from routing.routes import resolve

SHORT_CHARS: Final = 4  #: a shorter secret stands inside of many a word: it is masked only where it is one by itself

_HTTP_STATUS: Final = re.compile(r"http-[0-9]+")


class Contact(Struct, frozen=True, kw_only=True):
    """Who is looked up, as far as a policy can ask. ``email`` is normalised."""

    email: str
    contact: str = "contact-1"
    conversation: str = "conversation-1"
    channel_type: str | None = None
    language: str | None = None


class Shown(Struct, frozen=True, kw_only=True):
    """A request as it was sent, but with ``${NAME}`` where secrets stood."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: str | None


class Check(Struct, frozen=True, kw_only=True):
    """One condition of the branch, the value that it met, and whether it holds."""

    condition: Condition
    value: Any
    holds: bool


class Tried(Struct, frozen=True, kw_only=True):
    """What a look-up was and led to. ``route`` is where the conversation would go."""

    request: Shown | None  #: None: it could not be built
    attempts: list[Attempt]
    outcome: Answered | Failed
    meaning: str | None  #: of the reason why there is no answer
    checks: list[Check]  #: empty: the branch was not asked
    route: RouteName
    route_reason: str
    target: dict[str, Any]
    took_ms: int


async def try_out(
    policy: Policy, contact: Contact, *, workspace: str, secrets: Secrets, clock: Callable[[], int]
) -> Tried:
    """Look a contact up and decide what the router would decide. ``clock`` gives Unix milliseconds.

    Raises ``SecretError`` for a secret that is not there; what goes wrong with the CRM is in the result.
    """
    for problem in missing_secrets(policy, secrets):
        raise problem
    attempts: list[Attempt] = []
    ask = LookUp(
        workspace=workspace,
        contact=contact.contact,
        conversation=contact.conversation,
        lookup_id=f"{contact.conversation}/1",
        email=contact.email,
        deadline_ms=clock() + policy.crm.deadline_ms,
    )
    async with CrmClient(clock=clock, secrets=secrets, watch=attempts.append) as client:
        began_ms = clock()
        outcome = await client.look_up(ask, policy)
        took_ms = clock() - began_ms
    mask = Mask({secrets.get(name): f"${{{name}}}" for name in secret_names(policy.crm)})
    route, reason, known, checks = _decided(policy, contact, outcome)
    shown = _masked_outcome(outcome, mask)
    told = known if isinstance(shown, Failed) else {**known, **shown.variables, **shown.personal}
    return Tried(
        request=await _shown(policy, ask, clock),
        attempts=[one._replace(document=mask(one.document)) for one in attempts],
        outcome=shown,
        meaning=_meaning(outcome.reason) if isinstance(outcome, Failed) else None,
        checks=[structs.replace(one, value=told.get(one.condition.variable)) for one in checks],
        route=route,
        route_reason=reason,
        target=to_builtins(resolve(policy.routes.named(route), told)),
        took_ms=took_ms,
    )


async def _shown(policy: Policy, ask: LookUp, clock: Callable[[], int]) -> Shown | None:
    """The request, made with the secrets' names in place of the secrets."""
    names = Secrets(environment={name: f"${{{name}}}" for name in secret_names(policy.crm)})
    endpoint = Endpoint(
        policy.crm, version=policy.version, secrets=names, tls=tls_context({}), connections_max=1, clock=clock
    )
    try:
        request = endpoint.request(ask)
    except TroubleError:
        return None
    finally:
        await endpoint.close()
    headers = [(name.decode("ascii"), value.decode("utf-8")) for name, value in request.headers.raw]
    body = request.content.decode("utf-8") or None
    return Shown(method=request.method, url=str(request.url), headers=headers, body=body)


def _decided(
    policy: Policy, contact: Contact, outcome: Answered | Failed
) -> tuple[RouteName, str, Mapping[str, Any], list[Check]]:
    """The route, why, the variables that may choose an agent, and the conditions (``routing/conversation.py``)."""
    if isinstance(outcome, Failed):
        return policy.crm.on_failure, "crm-failed", {}, []
    variables = {
        **outcome.variables,
        **outcome.personal,
        "crm_status": outcome.status,
        "email_source": "record",
        "channel_type": contact.channel_type,
        "language": policy.language(contact.language),
    }
    if outcome.status == STATUS_NOT_FOUND and policy.crm.not_found == "regular":
        return "regular", "not-vip", variables, []
    checks = [
        Check(condition=one, value=variables.get(one.variable), holds=holds(one, variables.get(one.variable)))
        for one in policy.branch_vip.conditions
    ]
    is_vip = matches(policy.branch_vip, variables)
    return ("vip", "vip", variables, checks) if is_vip else ("regular", "not-vip", variables, checks)


def _meaning(reason: str) -> str:
    return REASONS["http-<status>" if _HTTP_STATUS.fullmatch(reason) else reason]


def _masked_outcome(outcome: Answered | Failed, mask: Mask) -> Answered | Failed:
    """With the values of variables masked; their names are the policy's."""
    if isinstance(outcome, Failed):
        return outcome
    variables, personal = (
        {name: mask(value) for name, value in found.items()} for found in (outcome.variables, outcome.personal)
    )
    return structs.replace(outcome, variables=variables, personal=personal)


class Mask:
    """Puts names in the place of secrets that a CRM's answer repeats."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        # The longest first: one secret may be the beginning of another, whose rest would be shown.
        patterns = [_pattern(secret) for secret in sorted(names, key=len, reverse=True)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, value: Any) -> Any:
        """A JSON value without secrets: keys, texts, and numbers, which become texts where a secret stands in them."""
        if self._pattern is None:
            return value
        if isinstance(value, dict):
            return {self._text(key): self(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self(each) for each in value]
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = orjson.dumps(value).decode("ascii")
            masked = self._text(text)
            return value if masked == text else masked
        return value

    def _text(self, text: str) -> str:
        assert self._pattern is not None
        return self._pattern.sub(lambda found: self._names[found[0]], text)


def _pattern(secret: str) -> str:
    plain = re.escape(secret)
    return plain if len(secret) >= SHORT_CHARS else rf"(?<!\w){plain}(?!\w)"
