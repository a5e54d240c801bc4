"""``vip-router``: the commands and how they end.

Command modules import what takes time inside their functions: ``--help`` must not wait for an HTTP client. Each of them
raises its errors; which exit code and sentence they become stands in ``consumers/cli/errors.py``.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from consumers.cli import audit, crm, dead_letters, policy, topics, workspace
from consumers.cli.chat import chat_command
from consumers.cli.demo import demo_command
from consumers.cli.errors import DONE, report
from consumers.cli.fairness import fairness_command
from consumers.cli.output import flush, swallow_broken_pipe
from consumers.cli.publish import publish_command
from consumers.cli.schema import schema_command
from consumers.cli.serve_command import serve_command
from consumers.cli.tail import tail_command

INTERRUPTED = 130  #: what a shell says of a command that Ctrl-C ended

app = typer.Typer(
    name="vip-router",
    help="Routes customer conversations: asks for the e-mail, looks the contact up, hands over to the right person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
# The order is that of --help. A command is one line here and a module of its own.
app.command("demo")(demo_command)
app.command("serve")(serve_command)
app.command("publish")(publish_command)
app.command("tail")(tail_command)
app.command("chat")(chat_command)
app.add_typer(audit.app, name="audit")
app.add_typer(workspace.app, name="workspace")
app.command("fairness")(fairness_command)
app.add_typer(policy.app, name="policy")
app.add_typer(crm.app, name="crm")
app.add_typer(topics.app, name="topics")
app.add_typer(dead_letters.app, name="dead-letters")
app.command("schema")(schema_command)


def _version(wanted: bool) -> None:  # noqa: FBT001  # as typer calls it
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  # only here

        sys.stdout.write(f"vip-router {version('vip-router')}\n")
        raise typer.Exit


@app.callback()
def vip_router(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """Route customer conversations: ask for the e-mail, look the contact up, hand over to the right person."""


def main() -> int:
    """Run the command of ``sys.argv``; returns its exit code."""
    try:
        try:
            app(prog_name="vip-router")
        finally:
            flush()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer makes an exit of it
            swallow_broken_pipe()
            return DONE
        return ended.code if isinstance(ended.code, int) else DONE
    except BrokenPipeError:
        swallow_broken_pipe()
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last to see it; it becomes a sentence and an exit code
        return report(error)
    return DONE
