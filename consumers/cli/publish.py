"""``vip-router publish``."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from consumers.cli.errors import BAD_NEWS, CommandError, as_unusable
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogLevelOption, LogOption, TopicPrefixOption, VerboseOption
from consumers.cli.output import counted, log_to_stderr, notice, progress_bar, show_later, write_json

if TYPE_CHECKING:
    from consumers.publishing import Checked, Problems


def publish_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON Lines, one CloudEvent a line; - reads stdin")],
    *,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", envvar="VIP_ROUTER_SKIP_BAD", help="Publish the rest if some lines are no events"),
    ] = False,
    as_json: JsonOption = False,
    log_level: LogLevelOption = "warning",
    verbose: VerboseOption = False,
) -> None:
    """Publish events: agent.* and assignment.* to agents.events, all others to conversations.events.

    Every line is checked first: if one is no event, nothing is published and the exit code is 2. Publishing a file
    again is safe: what has an id that was seen changes nothing. Makes the log's file if there is none; on Kafka the
    topics must be there ("vip-router topics create").
    """
    log_to_stderr(log_level, verbose=verbose)
    with ExitStack() as files:
        with as_unusable(file):
            source = sys.stdin.buffer if file == "-" else files.enter_context(open(file, "rb"))  # noqa: PTH123
        asyncio.run(
            _publish(
                "standard input" if file == "-" else file,
                source,
                log,
                topic_prefix,
                skip_bad=skip_bad,
                as_json=as_json,
            )
        )


async def _publish(name: str, source: BinaryIO, url: str, topic_prefix: str, *, skip_bad: bool, as_json: bool) -> None:
    from consumers import publishing  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import counts_of, opened_to_publish  # noqa: PLC0415  # keeps --help quick
    from consumers.signals import stopping_on_signals  # noqa: PLC0415  # keeps --help quick
    from events.log import LogError  # noqa: PLC0415  # keeps --help quick

    with as_unusable(name):
        stream = publishing.rewindable(source)
    acknowledged: Counter[str] = Counter()
    stop = asyncio.Event()
    async with opened_to_publish(url, topic_prefix=topic_prefix, tell=notice) as log:
        with progress_bar("checking", None) as progress:

            def advance(count: int) -> None:
                progress.advance(progress.tasks[0].id, count)
                show_later(progress)

            counts = await counts_of(log)
            start = stream.tell()
            with as_unusable(name):
                checked = await publishing.check(stream, counts, on_progress=advance)
            stream.seek(start)
            _tell_problems(name, checked, skip_bad=skip_bad)
            progress.reset(progress.tasks[0].id, description="publishing", total=checked.events)
            try:
                with stopping_on_signals(stop):
                    await publishing.publish(
                        log, stream, counts, stop=stop, acknowledged=acknowledged, on_progress=advance
                    )
            except LogError:
                notice(_summary(acknowledged, checked))
                raise
    _report(acknowledged, checked, as_json=as_json)


def _tell_problems(name: str, checked: Checked, *, skip_bad: bool) -> None:
    """Say what is wrong with which lines; ends the command if that is a reason to publish nothing."""
    refused, doubtful = checked.refused, checked.doubtful
    if refused.count:
        _tell(refused, "skipped" if skip_bad else "no event")
        if not skip_bad:
            bad = "is no event" if refused.count == 1 else "are no events"
            raise CommandError(
                f"{name}: nothing was published, because {counted(refused.count, 'line')} of it {bad}: correct the "
                "file, or publish the rest with --skip-bad"
            )
    if doubtful.count:
        _tell(doubtful, "the router will not use it")
        notice('the router puts such events among the dead letters: see "vip-router dead-letters list"')


def _tell(problems: Problems, what: str) -> None:
    for problem in problems.first:
        notice(f"line {problem.number}: {what}: {problem.reason}: {problem.detail}")
    if problems.count > len(problems.first):
        notice(f"and {counted(problems.count - len(problems.first), 'line')} more: {what}")


def _summary(acknowledged: Counter[str], checked: Checked) -> str:
    total = acknowledged.total()
    text = f"{total:,} of {counted(checked.events, 'event')} acknowledged"
    places = ", ".join(f"{count:,} on {topic}" for topic, count in sorted(acknowledged.items()))
    skipped = f"; {counted(checked.refused.count, 'line')} skipped" if checked.refused.count else ""
    return f"{text}{': ' if places else ''}{places}{skipped}"


def _report(acknowledged: Counter[str], checked: Checked, *, as_json: bool) -> None:
    total = acknowledged.total()
    if as_json:
        refused, doubtful = checked.refused, checked.doubtful
        write_json(
            {
                "acknowledged": total,
                "events": checked.events,
                "topics": dict(sorted(acknowledged.items())),
                "skipped": refused.count,
                "unusable": doubtful.count,
                "problems": [problem._asdict() for problem in sorted((*refused.first, *doubtful.first))],
            }
        )
    else:
        sys.stdout.write(f"{_summary(acknowledged, checked)}\n")
    if total < checked.events:
        raise CommandError("stopped before the end: publish the file again for the rest", code=BAD_NEWS)
