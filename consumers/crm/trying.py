"""One look-up as the router would do it, told step by step to whoever writes the policy.

The words for it are the command line's (``consumers/cli/crm.py``). Secrets are never in what is told: the request has
their names, and where an answer repeats one, its name stands there too.
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
    names = {secrets.get(name): f"${{{name}}}" for name in secret_names(policy.crm)}
    route, reason, known, checks = _decided(policy, contact, outcome)
    return Tried(
        request=await _shown(policy, ask, clock),
        attempts=[one._replace(document=_masked(one.document, names)) for one in attempts],
        outcome=_masked_outcome(outcome, names),
        meaning=_meaning(outcome.reason) if isinstance(outcome, Failed) else None,
        checks=[structs.replace(one, value=_masked(one.value, names)) for one in checks],
        route=route,
        route_reason=reason,
        target=_masked(to_builtins(resolve(policy.routes.named(route), known)), names),
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


def _masked_outcome(outcome: Answered | Failed, names: Mapping[str, str]) -> Answered | Failed:
    if isinstance(outcome, Failed):
        return outcome
    variables, personal = _masked(outcome.variables, names), _masked(outcome.personal, names)
    return structs.replace(outcome, variables=variables, personal=personal)


def _masked(document: Any, names: Mapping[str, str]) -> Any:
    """The CRM's answer without secrets that it repeats."""
    if document is None:
        return None
    text = orjson.dumps(document).decode("utf-8")
    for secret, name in names.items():
        text = text.replace(orjson.dumps(secret)[1:-1].decode("utf-8"), name)
    return orjson.loads(text)
