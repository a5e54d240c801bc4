"""``vip-router serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.options import DEFAULT_LOG, LogLevelOption, LogOption, TopicPrefixOption, VerboseOption
from consumers.cli.output import counted, log_to_stderr, notice, notice_with_time

if TYPE_CHECKING:
    from consumers.serve import Served
    from consumers.settings import ServeSettings


def serve_command(
    policy: Annotated[
        Path,
        typer.Option(
            "--policy",
            envvar="VIP_ROUTER_POLICY",
            metavar="FILE",
            help="The policy, or a folder with one WORKSPACE.toml each; reread on SIGHUP",
        ),
    ],
    *,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    roles: Annotated[
        str, typer.Option("--roles", envvar="VIP_ROUTER_ROLES", help="What this process does, with commas between")
    ] = "router,crm,assigner",
    workspace: Annotated[
        str,
        typer.Option(
            "--workspace", envvar="VIP_ROUTER_WORKSPACE", metavar="NAME", help="Whose policy it is, if FILE is a file"
        ),
    ] = "default",
    until_idle: Annotated[
        str | None,
        typer.Option(
            "--until-idle",
            envvar="VIP_ROUTER_UNTIL_IDLE",
            metavar="DURATION",
            help="End when for so long (2s, 1m) nothing came and nothing is left to do but deadlines; with exit 3 if "
            "for so long another serve has had a role of this one",
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions",
            envvar="VIP_ROUTER_PARTITIONS",
            help="Partitions by contact of a log that is made now (default 4)",
        ),
    ] = None,
    workspace_partitions: Annotated[
        int | None,
        typer.Option(
            "--workspace-partitions",
            envvar="VIP_ROUTER_WORKSPACE_PARTITIONS",
            help="Partitions by workspace of a log that is made now (default 1)",
        ),
    ] = None,
    look_ups: Annotated[
        int, typer.Option("--look-ups", envvar="VIP_ROUTER_LOOK_UPS", help="Requests to CRMs on their way at a time")
    ] = 1_000,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            envvar="VIP_ROUTER_METRICS",
            metavar="[HOST:]PORT",
            help="Serve /livez, /readyz and Prometheus /metrics there (HOST: 127.0.0.1 unless said); 0: any free port",
        ),
    ] = None,
    log_level: LogLevelOption = "warning",
    verbose: VerboseOption = False,
) -> None:
    """Route conversations: read events, decide, look contacts up, assign.

    Says "ready" on stderr when it reads. Ctrl-C and SIGTERM finish what is under way and exit 0; a second Ctrl-C ends
    it at once, and nothing is lost then either. Secrets that the policy names (${NAME}) come from the environment or
    from files in VIP_ROUTER_SECRETS_DIR.
    """
    log_to_stderr(log_level, verbose=verbose)
    from consumers.settings import (  # noqa: PLC0415  # keeps --help quick
        ServeSettings,
        parse_address,
        parse_duration_s,
        parse_roles,
    )

    settings = ServeSettings(
        policy=policy,
        log_url=log,
        topic_prefix=topic_prefix,
        workspace=workspace,
        roles=parse_roles(roles),
        partitions=partitions,
        workspace_partitions=workspace_partitions,
        until_idle_s=None if until_idle is None else parse_duration_s(until_idle, "--until-idle"),
        look_ups_max=look_ups,
        metrics=None if metrics is None else parse_address(metrics, "--metrics"),
    )
    served = asyncio.run(_serve(settings))
    notice_with_time(f"stopped: {counted(served.inputs, 'input')} read, {counted(served.records, 'record')} written")
    if served.dead_letters:
        notice_with_time(
            f'{counted(served.dead_letters, "dead letter")} came: "vip-router dead-letters list" says which and why'
        )


async def _serve(settings: ServeSettings) -> Served:
    from consumers.runtime import tune_garbage_collection  # noqa: PLC0415  # keeps --help quick
    from consumers.serve import serve  # noqa: PLC0415  # keeps --help quick
    from consumers.signals import stopping_on_signals  # noqa: PLC0415  # keeps --help quick

    tune_garbage_collection()
    stop, reload = asyncio.Event(), asyncio.Event()
    with stopping_on_signals(stop, reload=reload, tell=_tell):
        return await serve(settings, stop, reload=reload, tell=_tell)


def _tell(sentence: str) -> None:
    """A line with its time; ``ready`` stands alone on its line, because programs wait for it."""
    if sentence == "ready":
        notice_with_time("from now on all that this process has is read")
        notice(sentence)
    else:
        notice_with_time(sentence)
