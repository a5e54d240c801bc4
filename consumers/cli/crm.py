"""``vip-router crm``: try the policy's look-up out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from consumers.cli.errors import BAD_NEWS, UNREACHABLE, CommandError
from consumers.cli.options import JsonOption, WorkspaceOption
from consumers.cli.output import duration_text, flush, out, visible, write_json
from events.clock import unix_ms

if TYPE_CHECKING:
    from consumers.crm.trying import Contact, Tried

UNREACHED: Final = frozenset({"dns", "refused", "tls", "connection", "time-out", "deadline"})
NOT_FOUND: Final = 404  #: an answer that says so is one only where the policy takes it for the regular route
DOCUMENT_CHARS_MAX: Final = 2_000  #: of the CRM's answer, for people

app = typer.Typer(help="The CRM look-up.", no_args_is_help=True)


@app.callback()
def crm() -> None:
    """The CRM look-up: try it out."""


@app.command("try")
def try_command(
    email: Annotated[
        str, typer.Option("--email", envvar="VIP_ROUTER_EMAIL", metavar="ADDRESS", help="Whom to look up")
    ],
    *,
    policy: Annotated[
        Path,
        typer.Option(
            "--policy",
            envvar="VIP_ROUTER_POLICY",
            metavar="FILE",
            help="The policy, or a folder with one WORKSPACE.toml each",
        ),
    ] = Path("policy.toml"),
    workspace: WorkspaceOption = "default",
    contact: Annotated[
        str, typer.Option("--contact", envvar="VIP_ROUTER_CONTACT", metavar="ID", help="What {contact_id} stands for")
    ] = "contact-1",
    conversation: Annotated[
        str,
        typer.Option(
            "--conversation", envvar="VIP_ROUTER_CONVERSATION", metavar="ID", help="What {conversation_id} stands for"
        ),
    ] = "conversation-1",
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            envvar="VIP_ROUTER_CHANNEL",
            metavar="TYPE",
            help="For conditions on channel_type: whatsapp ...",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", envvar="VIP_ROUTER_LANGUAGE", metavar="TAG", help="For conditions on language: en, pt-BR ..."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Do one look-up as the router would: the request, the answer, the variables, the branch, the route, the time.

    Secrets come from the environment or from files in VIP_ROUTER_SECRETS_DIR and are never shown; personal data of the
    answer are. Exit 1: the CRM gave no answer that could be used; 3: it could not be reached.
    """
    from consumers.crm.trying import Contact  # noqa: PLC0415  # keeps --help quick
    from routing.answers import normalise_email  # noqa: PLC0415  # keeps --help quick

    address = normalise_email(email)
    if address is None:
        raise CommandError("--email: the router would not take this for an e-mail address; write name@example.com")
    whom = Contact(
        email=address, contact=contact, conversation=conversation, channel_type=channel, language=language
    )  # fmt: skip
    tried = asyncio.run(_try(policy, workspace, whom))
    if as_json:
        write_json(_as_json(tried), indent=True)
    else:
        _print(tried)
    flush()
    if tried.meaning is not None:
        reason = getattr(tried.outcome, "reason", "")
        raise typer.Exit(UNREACHABLE if reason in UNREACHED else BAD_NEWS)


async def _try(file: Path, workspace: str, contact: Contact) -> Tried:
    from consumers.crm.trying import try_out  # noqa: PLC0415  # keeps --help quick
    from consumers.policies import load_policies  # noqa: PLC0415  # keeps --help quick
    from consumers.secrets import Secrets  # noqa: PLC0415  # keeps --help quick

    policies = load_policies(file, workspace=workspace)
    if workspace not in policies:
        raise CommandError(f"--workspace: {file} has no policy for it, only for {', '.join(policies)}")
    return await try_out(
        policies[workspace], contact, workspace=workspace, secrets=Secrets.from_environment(), clock=unix_ms
    )


def _as_json(tried: Tried) -> dict[str, Any]:
    from msgspec import to_builtins  # noqa: PLC0415  # keeps --help quick

    value: dict[str, Any] = to_builtins(tried)
    value["attempts"] = [
        {"status": one.status, "outcome": one.outcome, "took_ms": round(one.took_s * 1000), "answer": one.document}
        for one in tried.attempts
    ]
    return value


def _print(tried: Tried) -> None:
    lines = [*_request_lines(tried), *_attempt_lines(tried), *_variable_lines(tried), *_route_lines(tried)]
    console = out()
    for title, text in lines:
        console.print(f"{title:<10} {visible(text)}", soft_wrap=True)


def _request_lines(tried: Tried) -> list[tuple[str, str]]:
    request = tried.request
    if request is None:
        return [("request", "it cannot be built from this address and these ids")]
    lines = [("request", f"{request.method} {request.url}")]
    lines += [("", f"{name}: {value}") for name, value in request.headers]
    return lines if request.body is None else [*lines, ("body", request.body)]


def _attempt_lines(tried: Tried) -> list[tuple[str, str]]:
    lines = []
    for number, one in enumerate(tried.attempts, 1):
        status = "" if one.status is None else f"{one.status} "
        lines.append((f"attempt {number}", f"{status}{one.outcome}, {duration_text(round(one.took_s * 1000))}"))
        if one.document is not None:
            lines.append(("answer", _short(one.document)))
    if tried.meaning is not None:
        lines.append(("failed", f"{getattr(tried.outcome, 'reason', '')}: {tried.meaning}"))
    return lines


def _variable_lines(tried: Tried) -> list[tuple[str, str]]:
    outcome = tried.outcome
    found = [
        *((name, _short(value)) for name, value in getattr(outcome, "variables", {}).items()),
        *((name, f"{_short(value)} (personal)") for name, value in getattr(outcome, "personal", {}).items()),
        *((name, f"does not exist ({why})") for name, why in getattr(outcome, "notes", {}).items()),
    ]
    return [("variable", f"{name} = {text}") for name, text in found]


def _route_lines(tried: Tried) -> list[tuple[str, str]]:
    lines = []
    for check in tried.checks:
        one = check.condition
        wanted = "" if one.value is None else f" {_short(one.value)}"
        met = "it does not exist" if check.value is None else f"it is {_short(check.value)}"
        verdict = "holds" if check.holds else "does not hold"
        lines.append(("condition", f"{one.variable} {one.operator}{wanted}: {verdict}, {met}"))
    if getattr(tried.outcome, "status", None) == NOT_FOUND:
        lines.append(("branch", 'not asked: the CRM does not know the contact, and crm.not_found is "regular"'))
    lines.append(("route", f"{tried.route} ({tried.route_reason}): {_short(_said(tried.target))}"))
    lines.append(("time", duration_text(tried.took_ms)))
    return lines


def _said(target: dict[str, Any]) -> dict[str, Any]:
    """A target without what goes without saying: its defaults, some of which a policy may not even set there."""
    from msgspec import structs  # noqa: PLC0415  # keeps --help quick

    from routing.inputs import RouteTarget  # noqa: PLC0415  # keeps --help quick

    defaults = {field.name: field.default for field in structs.fields(RouteTarget)}
    return {
        name: _said(value) if isinstance(value, dict) else value
        for name, value in target.items()
        if value != defaults.get(name)
    }


def _short(value: Any) -> str:
    import orjson  # noqa: PLC0415  # keeps --help quick

    text = orjson.dumps(value).decode("utf-8")
    return text if len(text) <= DOCUMENT_CHARS_MAX else f"{text[:DOCUMENT_CHARS_MAX]}..."
