"""``vip-router demo``."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumers.cli.errors import BAD_NEWS, UNREACHABLE, CommandError
from consumers.cli.output import notice

if TYPE_CHECKING:
    from consumers.demo.examples import Examples
    from consumers.demo.running import Played

LOG_NAME: Final = "vip-router-demo"
INTERRUPTED: Final = 130  #: what a shell says of a command that Ctrl-C ended; it has not shown what it is for

ExamplesOption = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        envvar="VIP_ROUTER_EXAMPLES",
        metavar="DIR",
        help="Where the example files are, if not in the checkout's deploy/examples",
    ),
]


def demo_command(
    *,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            envvar="VIP_ROUTER_KEEP",
            metavar="FILE",
            help=f"Where to keep the log; a new file. Default: {LOG_NAME}.db here, or the next {LOG_NAME}-N.db",
        ),
    ] = None,
    examples: ExamplesOption = None,
) -> None:
    """Route a day's conversations in five languages on this machine, and show who got what and why.

    Starts a small CRM and a real "serve", publishes what stands in deploy/examples step by step, compares what comes
    out with what is expected, and verifies and replays the log. Takes about ten seconds. Exit code 0: all came out as
    expected; 1: it did not, and the output says what.
    """
    from consumers.demo.examples import ExamplesError, find_folder, load  # noqa: PLC0415  # keeps --help quick

    try:
        found = load(find_folder(examples))
    except ExamplesError as error:
        raise CommandError(str(error)) from None
    log_file = _log_file(keep)
    played = asyncio.run(_run(found, log_file))
    if played is None:
        notice(f"stopped; what was done until then is kept in {log_file}")
        raise typer.Exit(INTERRUPTED)
    _show(found, played, log_file, examples)
    if not played.passed:
        raise typer.Exit(BAD_NEWS)


def _log_file(keep: Path | None) -> Path:
    """A file that does not exist yet."""
    if keep is not None:
        if keep.exists():
            raise CommandError(f"--keep: {keep} exists, and a log is never overwritten: name another file")
        return keep
    names = (f"{LOG_NAME}{'' if number == 1 else f'-{number}'}.db" for number in itertools.count(1))
    return next(path for name in names if not (path := Path(name)).exists())


async def _run(examples: Examples, log_file: Path) -> Played | None:
    """What came of it; None: it was interrupted, and every process of it has ended."""
    from consumers.cli.demo_output import Stages  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.children import ChildError  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.examples import ExamplesError  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.running import run_demo  # noqa: PLC0415  # keeps --help quick
    from consumers.signals import stopping_on_signals  # noqa: PLC0415  # keeps --help quick

    stop = asyncio.Event()
    with stopping_on_signals(stop), Stages() as stages:
        running = asyncio.create_task(run_demo(examples, log_file, stages))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
            return None
        try:
            return running.result()
        except ChildError as error:
            raise CommandError(str(error), code=UNREACHABLE) from None
        except ExamplesError as error:
            raise CommandError(f"{examples.folder}: {error}") from None


def _show(examples: Examples, played: Played, log_file: Path, given: Path | None) -> None:
    from consumers.cli.demo_output import print_result  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.children import command  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.running import url_of  # noqa: PLC0415  # keeps --help quick

    print_result(examples, played)
    sys.stdout.write(f"\nThe log is kept in {log_file}. Try next:\n")
    log = ("--log", url_of(log_file))
    same_examples = () if given is None else ("--examples", str(given))
    for arguments in (
        ("audit", "show", _interesting(played), *log),
        ("tail", "assignments", *log),
        ("chat", "--language", "fr", *log, *same_examples),
    ):
        sys.stdout.write(f"  {command(arguments)}\n")


def _interesting(played: Played) -> str:
    """The conversation with the longest way to its owner; the first of several."""
    stories = played.observed.stories
    return max(sorted(stories), key=lambda name: (stories[name].route == "vip", len(stories[name].replies)), default="")
