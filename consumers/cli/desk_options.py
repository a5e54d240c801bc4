"""What the commands about a desk share: times as arguments and as text, and how their errors end a command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from consumers.cli.errors import BAD_NEWS, CommandError
from consumers.cli.output import visible

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def time_of(option: str, text: str) -> int:
    """A time that the user gave: RFC 3339, or a day, which is its beginning in UTC. Raises ``CommandError``."""
    from events.times import parse_time  # noqa: PLC0415  # keeps --help quick

    try:
        return parse_time(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except ValueError as error:
        shown = visible(text[:64])
        raise CommandError(f"{option} {shown!r}: {error}; or a day, like 2026-11-22 (its beginning, UTC)") from None


def short_time(time: str | None) -> str:
    """An RFC 3339 time as people read it, to the second."""
    return "" if time is None else f"{time[:10]} {time[11:19]}"


@contextmanager
def desk_errors() -> Iterator[None]:
    """What the log does not have, or has damaged, ends the command with 1; what cannot be meant with 2."""
    from consumers.desk.fairness import TooManyPeriodsError  # noqa: PLC0415  # keeps --help quick
    from consumers.desk.reading import DamagedError, FutureError, NothingToTellError  # noqa: PLC0415
    from events.log import DamagedLogError  # noqa: PLC0415

    try:
        yield
    except NothingToTellError as error:
        raise CommandError(visible(str(error)), code=BAD_NEWS) from None
    except (DamagedError, DamagedLogError) as error:
        sentence = f'the log is damaged: {error}; "vip-router audit verify" says more'
        raise CommandError(visible(sentence), code=BAD_NEWS) from None
    except (FutureError, TooManyPeriodsError) as error:
        raise CommandError(visible(str(error))) from None
