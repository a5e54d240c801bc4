"""``vip-router topics``: makes the topics on Kafka, says what of them is unfit, and who may do what there."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.errors import BAD_NEWS, CommandError
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption
from consumers.cli.output import flush, visible, write_json
from events.clock import unix_ms

if TYPE_CHECKING:
    from consumers.skipping import Skipped
    from events.kafka.check import Problem
    from events.kafka.settings import KafkaSettings
    from events.kafka.topics import Created, WantedTopic

app = typer.Typer(help="The topics on Kafka.", no_args_is_help=True)

PrincipalsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--principal",
        envvar="VIP_ROUTER_PRINCIPALS",
        metavar="ROLE=USER",
        help="Who has a role, e.g. router=User:vip-router; may be given for each. Default: User:ROLE",
    ),
]


@app.callback()
def topics() -> None:
    """The topics on Kafka: make them, check them, say who may do what."""


@app.command("create")
def create_command(
    *,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions",
            envvar="VIP_ROUTER_PARTITIONS",
            help="Partitions by contact, fixed for ever: the most processes that can share the work (default 4)",
        ),
    ] = None,
    workspace_partitions: Annotated[
        int | None,
        typer.Option(
            "--workspace-partitions",
            envvar="VIP_ROUTER_WORKSPACE_PARTITIONS",
            help="Partitions by workspace, fixed for ever (default 1)",
        ),
    ] = None,
    retention_days: Annotated[
        int,
        typer.Option(
            "--retention-days",
            envvar="VIP_ROUTER_RETENTION_DAYS",
            help="How long inputs and outputs are kept; the logs are kept for ever",
        ),
    ] = 7,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="VIP_ROUTER_DRY_RUN", help="Only let the brokers say whether they would")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the topics that do not exist, with the settings that the promises need. What exists is never changed."""
    settings = _settings(log, topic_prefix)
    created = asyncio.run(_create(settings, partitions, workspace_partitions, retention_days, dry_run=dry_run))
    if as_json:
        write_json(
            {
                "dry_run": dry_run,
                "brokers": created.brokers,
                "existed": [settings.topic(name) for name in created.existed],
                "made": [_made(settings, topic) for topic in created.made],
            }
        )
    else:
        _print_created(settings, created, dry_run=dry_run)
    flush()


@app.command("check")
def check_command(
    *, log: LogOption = DEFAULT_LOG, topic_prefix: TopicPrefixOption = "", as_json: JsonOption = False
) -> None:
    """Say what of the brokers and topics differs from what the promises need, why it matters, and what mends it.

    Exit 1 if something does. Notes (a cluster of one broker, say) are printed and do not count. Changes nothing.
    """
    settings = _settings(log, topic_prefix)
    found = asyncio.run(_check(settings))
    if as_json:
        write_json([{name: getattr(each, name) for name in each.__struct_fields__} for each in found])
    else:
        _print_problems(found)
    flush()
    if any(problem.severity != "note" for problem in found):
        raise typer.Exit(code=BAD_NEWS)


@app.command("skip")
def skip_command(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The input topic, without prefix")],
    *,
    partition: Annotated[int, typer.Option("--partition", envvar="VIP_ROUTER_PARTITION", min=0, help="Which of its")],
    to: Annotated[
        str, typer.Option("--to", envvar="VIP_ROUTER_TO", metavar="start|OFFSET", help="Where the lane goes on")
    ],
    reason: Annotated[
        str, typer.Option("--reason", envvar="VIP_ROUTER_REASON", metavar="TEXT", help="Why; it stays in the log")
    ],
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a lane go on whose position in an input topic is lost: records were deleted, or the topic was made anew.

    What it passes over is not decided, ever. The position and the reason are recorded in the lane's log, where audits
    see them. Stop every serve that has the lane's role before.
    """
    from consumers.skipping import SkipError  # noqa: PLC0415  # keeps --help quick

    try:
        done = asyncio.run(_skip(log, topic_prefix, topic, partition, to, reason))
    except SkipError as error:
        raise CommandError(str(error)) from None
    if as_json:
        write_json({"log": done.log.topic, "partition": partition, "offset": done.offset, "to": done.position})
    else:
        sys.stdout.write(
            f"{topic}/{partition}: goes on at {done.position}, not at {done.before}; recorded in "
            f"{done.log.topic}/{partition}@{done.offset}\n"
        )
    flush()


async def _skip(url: str, topic_prefix: str, topic: str, partition: int, to: str, reason: str) -> Skipped:
    from consumers.opening import opened  # noqa: PLC0415  # keeps --help quick
    from consumers.skipping import SkipError, skip  # noqa: PLC0415  # keeps --help quick
    from events.log import TopicPartition  # noqa: PLC0415  # keeps --help quick

    if to != "start" and not (to.isascii() and to.isdigit() and len(to) <= 18):  # noqa: PLR2004  # fits 64 bits
        raise SkipError(f"--to: give start or an offset (a whole number), not {to!r}")
    async with opened(url, topic_prefix=topic_prefix) as log:
        place = TopicPartition(topic, partition)
        return await skip(log, place, "start" if to == "start" else int(to), reason, clock=unix_ms)


@app.command("acls")
def acls_command(
    *,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    principals: PrincipalsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the kafka-acls commands that let each role do what it has to, and nothing else. Changes nothing."""
    from events.kafka.acls import ROLES, acls, commands  # noqa: PLC0415  # keeps --help quick

    settings = _settings(log, topic_prefix)
    named = {role: f"User:{role}" for role in ROLES}
    for given in principals or ():
        role, separator, principal = given.partition("=")
        if role not in named or not separator or not principal:
            raise CommandError(f"--principal: write ROLE=USER with a role of {', '.join(ROLES)}, not {given!r}")
        named[role] = principal
    if as_json:
        write_json([each._asdict() for each in acls(settings.topic_prefix, named)])
    else:
        for line in commands(settings, named):
            sys.stdout.write(f"{line}\n")
    flush()


def _settings(url: str, topic_prefix: str) -> KafkaSettings:
    from events.kafka.settings import kafka_settings  # noqa: PLC0415  # keeps --help quick

    if not url.startswith("kafka://"):
        raise CommandError(f"--log: {url} is not on Kafka; a log in a file has its topics already: kafka://HOST:9092")
    try:
        return kafka_settings(url, topic_prefix=topic_prefix)
    except ValueError as error:
        raise CommandError(str(error)) from None


async def _create(
    settings: KafkaSettings,
    partitions: int | None,
    workspace_partitions: int | None,
    retention_days: int,
    *,
    dry_run: bool,
) -> Created:
    from consumers.settings import PARTITIONS, WORKSPACE_PARTITIONS  # noqa: PLC0415  # keeps --help quick
    from events.kafka.topics import create, existing_counts  # noqa: PLC0415  # keeps --help quick
    from events.topics import counts_among, partition_counts  # noqa: PLC0415  # keeps --help quick

    has_contacts, has_workspaces = counts_among(await existing_counts(settings))
    contacts = _count("--partitions", partitions, has_contacts, PARTITIONS)
    workspaces = _count("--workspace-partitions", workspace_partitions, has_workspaces, WORKSPACE_PARTITIONS)
    try:
        counts = partition_counts(contacts, workspaces)
        return await create(settings, counts, retention_days=retention_days, dry_run=dry_run)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _count(option: str, asked: int | None, existing: int | None, default: int) -> int:
    if asked is not None and existing is not None and asked != existing:
        raise CommandError(
            f"{option}: the topics exist with {existing}, and counts are fixed when topics are made; leave it out, or "
            "use another --topic-prefix"
        )
    return next(count for count in (asked, existing, default) if count is not None)


async def _check(settings: KafkaSettings) -> list[Problem]:
    from events.kafka.check import problems  # noqa: PLC0415  # keeps --help quick

    return await problems(settings)


def _made(settings: KafkaSettings, topic: WantedTopic) -> dict[str, object]:
    return {name: getattr(topic, name) for name in topic.__struct_fields__} | {"name": settings.topic(topic.name)}


def _print_created(settings: KafkaSettings, created: Created, *, dry_run: bool) -> None:
    from events.kafka.topics import REPLICATION  # noqa: PLC0415  # keeps --help quick

    for topic in created.made:
        copies = f"{topic.replication} replica{'' if topic.replication == 1 else 's'}"
        sys.stdout.write(f"{settings.topic(topic.name)}: {topic.partitions} partitions, {copies}\n")
        for name, value in topic.configs.items():
            sys.stdout.write(f"    {name}={value}\n")
    verb = "would be made" if dry_run else "made"
    sys.stdout.write(f"{len(created.made)} topics {verb}, {len(created.existed)} existed\n")
    if created.brokers < REPLICATION and created.made:
        sys.stdout.write(
            f"There are {created.brokers} brokers and not {REPLICATION}: each record has {created.brokers} copies, and "
            "what is acknowledged can be lost with a disk. Good for trying out only.\n"
        )


def _print_problems(found: list[Problem]) -> None:
    for problem in found:
        sys.stdout.write(
            f"{problem.severity}: {visible(problem.subject)}: {problem.setting} is {visible(problem.found)}, not "
            f"{visible(problem.wanted)}\n  why   {visible(problem.why)}\n  mend  {visible(problem.mend)}\n\n"
        )
    serious = sum(problem.severity != "note" for problem in found)
    if serious:
        sys.stdout.write(f"{serious} difference{'' if serious == 1 else 's'} from what the promises need\n")
    else:
        sys.stdout.write("Nothing differs from what the promises need.\n")
