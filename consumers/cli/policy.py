"""``vip-router policy``: a policy to begin with, a check of one, and its states as a picture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumers.cli.errors import UNUSABLE, CommandError, as_unusable
from consumers.cli.options import JsonOption, WorkspaceOption
from consumers.cli.output import visible, write_json

if TYPE_CHECKING:
    from routing.errors import PolicyError
    from routing.policy import Policy

DOT_TIMEOUT_S: Final = 30.0

app = typer.Typer(help="The policy: who is asked, who is a VIP, and who gets the conversation.", no_args_is_help=True)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A policy, or a folder with one WORKSPACE.toml each")
]


class Format(StrEnum):
    """How a diagram is written."""

    MERMAID = "mermaid"
    SVG = "svg"
    PNG = "png"


@app.callback()
def policy() -> None:
    """The policy: who is asked, who is a VIP, and who gets the conversation."""


@app.command("new")
def new_command() -> None:
    """Print a policy to begin with: every key, what it means, and its default."""
    from routing.policy_template import template_text  # noqa: PLC0415  # keeps --help quick

    sys.stdout.write(template_text())


@app.command("check")
def check_command(file: FileArgument, *, workspace: WorkspaceOption = "default", as_json: JsonOption = False) -> None:
    """Check a policy: errors name key and line and exit 2, warnings say what is probably not meant."""
    from routing.errors import PolicyError  # noqa: PLC0415  # keeps --help quick

    try:
        policies = _load(file, workspace)
    except PolicyError as error:
        if not as_json:
            raise
        _write_error(error)
        raise typer.Exit(UNUSABLE) from None
    if as_json:
        found = {
            name: {"version": policy.version, "warnings": [text for _, text in _warnings(policy)]}
            for name, policy in policies.items()
        }
        write_json({"ok": True, "policies": found}, indent=True)
        return
    for name, policy in policies.items():
        source = file / f"{name}.toml" if file.is_dir() else file
        for line, text in _warnings(policy):
            place = "" if line is None else f"{source}:{line}: "
            sys.stdout.write(f"warning: {visible(place + text)}\n")
        sys.stdout.write(f"{file}: workspace {visible(name)}: can be used, version {policy.version}\n")


@app.command("diagram")
def diagram_command(
    file: FileArgument,
    *,
    format: Annotated[
        Format, typer.Option("--format", envvar="VIP_ROUTER_FORMAT", help="svg and png need Graphviz")
    ] = Format.MERMAID,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", envvar="VIP_ROUTER_OUTPUT", metavar="FILE", help="Where to write it; else standard output"
        ),
    ] = None,
    workspace: WorkspaceOption = "default",
) -> None:
    """Draw the states that a conversation can go through under a policy, from the state machine itself."""
    from routing.diagram import dot, mermaid  # noqa: PLC0415  # keeps --help quick

    policies = _load(file, workspace)
    if workspace not in policies:
        raise CommandError(f"--workspace: {file} has no policy for it, only for {', '.join(policies)}")
    retries = policies[workspace].email.retries
    content = mermaid(retries).encode() if format is Format.MERMAID else _drawn(dot(retries), format)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    with as_unusable(str(output)):
        output.write_bytes(content)


def _load(file: Path, workspace: str) -> dict[str, Policy]:
    """The policies by workspace; raises ``CommandError`` and ``PolicyError``."""
    from consumers.policies import load_policies  # noqa: PLC0415  # keeps --help quick

    if not workspace:
        raise CommandError("--workspace: it is empty; leave it out for the workspace default")
    return load_policies(file, workspace=workspace)


def _warnings(policy: Policy) -> list[tuple[int | None, str]]:
    """What is probably not meant, and the secrets that this environment does not have; with the line, where known."""
    from consumers.secrets import Secrets, missing_secrets  # noqa: PLC0415  # keeps --help quick
    from routing.policy_checks import warnings  # noqa: PLC0415  # keeps --help quick

    missing = missing_secrets(policy, Secrets.from_environment())
    return [*((found.line, str(found)) for found in warnings(policy)), *((None, f"crm: {each}") for each in missing)]


def _write_error(error: PolicyError) -> None:
    fields = {"source": error.source, "line": error.line, "key": error.key, "problem": error.problem}
    write_json({"ok": False, "error": fields}, indent=True)


def _drawn(text: str, format: Format) -> bytes:
    """The picture that Graphviz makes of DOT."""
    program = shutil.which("dot")
    if program is None:
        raise CommandError(
            f"--format {format}: needs Graphviz, whose program dot is not there: install it (apt install graphviz, "
            "brew install graphviz), or take --format mermaid, which GitHub and many editors draw"
        )
    try:
        done = subprocess.run(  # noqa: S603  # dot of the user's PATH, on text of ours
            [program, f"-T{format}"], input=text.encode(), capture_output=True, check=False, timeout=DOT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"--format {format}: {program} cannot be run ({type(error).__name__}): see to it") from None
    if done.returncode != 0:
        problem = visible(done.stderr.decode(errors="replace").strip())
        raise CommandError(f"--format {format}: {program} failed: {problem}")
    return done.stdout
