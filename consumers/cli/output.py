"""What commands write: sentences on stderr, results on stdout, as text for people or as JSON Lines for programs.

What a record or an event holds came from somebody else: ``visible`` makes its control characters harmless.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from consumers.cli.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PROGRESS_AFTER_S: Final = 2.0
LEVELS: Final = ("debug", "info", "warning", "error")
LINE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OURS: Final = frozenset({"consumers", "events", "routing"})

logger = logging.getLogger(__name__)

_HARMFUL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@cache
def out() -> Console:
    """The console of results. Texts are printed as they are: no markup, no highlighting, no emoji codes."""
    from rich.console import Console  # noqa: PLC0415  # keeps --help and --json quick

    return Console(markup=False, highlight=False, emoji=False)


@cache
def err() -> Console:
    """The console on stderr, for progress."""
    from rich.console import Console  # noqa: PLC0415  # keeps --help and --json quick

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def notice(sentence: str) -> None:
    """One line for people, on stderr."""
    sys.stderr.write(f"{visible(sentence)}\n")
    sys.stderr.flush()


def notice_with_time(sentence: str) -> None:
    """One line for people, on stderr; where that is no terminal, with the time, as log lines have it."""
    if sys.stderr.isatty():
        notice(sentence)
        return
    record = logging.LogRecord("vip-router", logging.INFO, "", 0, visible(sentence), None, None)
    sys.stderr.write(f"{logging.Formatter(LINE).format(record)}\n")
    sys.stderr.flush()


def write_json(value: Any, *, indent: bool = False) -> None:
    """One JSON value and a line break on stdout."""
    import orjson  # noqa: PLC0415  # keeps --help quick

    write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None))


def write_bytes(line: bytes) -> None:
    """One line of bytes on stdout, as they are; ``flush`` sends them on their way."""
    sys.stdout.buffer.write(line + b"\n")


def flush() -> None:
    """Send on what was written to stdout."""
    sys.stdout.flush()


def visible(text: str) -> str:
    """``text`` with control and direction characters as their codes: it cannot steer a terminal."""
    return _HARMFUL.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def counted(count: int, noun: str) -> str:
    """How many of what: ``1 line``, ``4,000 lines``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def time_text(time_ms: int) -> str:
    """Unix milliseconds as people read them, UTC: ``2026-11-22 10:00:00.123``."""
    seconds, rest = divmod(time_ms, 1000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:03d}"
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"


def duration_text(duration_ms: int) -> str:
    """A duration as people read it: ``85 ms``, ``1.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if duration_ms < 1000:  # noqa: PLR2004  # milliseconds in a second
        return f"{duration_ms} ms"
    if duration_ms < 60_000:  # noqa: PLR2004  # in a minute
        return f"{duration_ms / 1000:.1f} s"
    minutes, seconds = divmod(duration_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")) if count
    ]
    return " ".join(parts[:2])


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr for work of ``total`` steps; its first task is ``what``.

    It is shown only on a terminal and only from the third second on, see ``show_later``.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=err(), transient=True, disable=not err().is_terminal)
    progress.add_task(what, total=total)
    try:
        yield progress
    finally:
        progress.stop()


def show_later(progress: Progress) -> None:
    """Show the bar once its work has taken longer than two seconds; to be called with every step."""
    elapsed_s = progress.tasks[0].elapsed
    if not progress.live.is_started and elapsed_s is not None and elapsed_s > PROGRESS_AFTER_S:
        progress.start()


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work that tells how many of how many it has done, through what this gives."""
    with progress_bar(what, None) as progress:

        def on_progress(done: int, total: int) -> None:
            progress.update(progress.task_ids[0], completed=done, total=total)
            show_later(progress)

        yield on_progress


def log_to_stderr(level: str, *, verbose: bool = False) -> None:
    """Send the program's logs to stderr from ``level`` on, those of libraries from info on at the lowest.

    Raises ``CommandError`` for a level that is none.
    """
    level = level.lower()
    if level not in LEVELS:
        raise CommandError(f"--log-level: {level!r} is no level; give one of {', '.join(LEVELS)}")
    if verbose and level not in {"debug", "info"}:
        level = "info"
    logging.basicConfig(level=level.upper(), format=LINE, stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_holds_no_content)
    logger.debug("this program tells all from %s on; libraries from info on", level)


def _holds_no_content(record: logging.LogRecord) -> bool:
    """Whether a line may be told: in their details libraries tell the bytes that they send, addresses and texts."""
    return record.levelno >= logging.INFO or record.name.partition(".")[0] in OURS


def swallow_broken_pipe() -> None:
    """Whoever read our output has gone: write nowhere from now on, so that nothing complains at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
