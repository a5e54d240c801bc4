"""``vip-router tail``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.errors import CommandError
from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption
from consumers.cli.output import flush, notice, out, write_bytes

if TYPE_CHECKING:
    from events.log import Log, StoredRecord, TopicPartition


def tail_command(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="assignments, conversations.replies, routing.log ...")],
    *,
    start: Annotated[
        str,
        typer.Option(
            "--from", envvar="VIP_ROUTER_FROM", metavar="start|end|OFFSET", help="Where to begin, in every partition"
        ),
    ] = "start",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="VIP_ROUTER_FOLLOW", help="Go on with what comes, until Ctrl-C")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "-n",
            envvar="VIP_ROUTER_N",
            min=1,
            help="At most so many records: the last ones, with --from the first ones",
        ),
    ] = None,
    partition: Annotated[
        int | None, typer.Option("--partition", envvar="VIP_ROUTER_PARTITION", help="This partition only")
    ] = None,
    as_json: JsonOption = False,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
) -> None:
    """Print a topic from the beginning to the end, all partitions merged by time, and exit.

    --json prints one CloudEvent a line, exactly as it is stored; what holds no event is left out, and counted on
    stderr.
    """
    asyncio.run(
        _tail(log, topic_prefix, topic, start=start, follow=follow, count=count, partition=partition, as_json=as_json)
    )


async def _tail(
    url: str,
    topic_prefix: str,
    topic: str,
    *,
    start: str,
    follow: bool,
    count: int | None,
    partition: int | None,
    as_json: bool,
) -> None:
    from consumers import tailing  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import opened  # noqa: PLC0415  # keeps --help quick
    from consumers.signals import stopping_on_signals  # noqa: PLC0415  # keeps --help quick

    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
            places = await _places(log, topic, partition)
            ends = await tailing.ends_of(log, places)
            printer = Printer(as_json=as_json)
            if start == "start" and count is not None:
                for record in await tailing.last(log, ends, count):
                    printer.show(record)
                room = None
            else:
                room = count
                offset = {"start": 0, "end": tailing.POSITION_MAX}.get(start)
                starts = await tailing.starts_of(log, ends, _offset(start) if offset is None else offset)
                async for record in tailing.merged(log, starts, ends):
                    printer.show(record)
                    if stop.is_set() or printer.shown == room:
                        break
            flush()
            if follow and not stop.is_set() and (room is None or printer.shown < room):
                await _follow(log, ends, stop, printer, room)
            printer.finish()


async def _follow(
    log: Log, ends: dict[TopicPartition, int], stop: asyncio.Event, printer: Printer, room: int | None
) -> None:
    from consumers import tailing  # noqa: PLC0415  # keeps --help quick

    reader = log.reader(ends)
    try:
        async for records in tailing.followed(reader, stop):
            for record in records:
                printer.show(record)
                if printer.shown == room:
                    return
            flush()
    finally:
        await reader.close()


async def _places(log: Log, topic: str, partition: int | None) -> list[TopicPartition]:
    from consumers import tailing  # noqa: PLC0415  # keeps --help quick
    from events.log import UnknownTopicError  # noqa: PLC0415  # keeps --help quick
    from events.topics import TOPICS  # noqa: PLC0415  # keeps --help quick

    try:
        return await tailing.places_of(log, topic, partition)
    except UnknownTopicError:
        raise CommandError(f"TOPIC: there is no topic {topic!r}; the topics are {', '.join(TOPICS)}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


def _offset(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004  # digits that fit 64 bits
        raise CommandError(f"--from: give start, end or an offset (a whole number), not {text!r}")
    return int(text)


class Printer:
    """Prints records and counts them."""

    def __init__(self, *, as_json: bool) -> None:
        self.shown = 0
        self._left_out = 0
        self._show: Callable[[StoredRecord], None] = self._show_event if as_json else self._show_outline

    def show(self, record: StoredRecord) -> None:
        """Print one."""
        self._show(record)

    def finish(self) -> None:
        """Say what was left out."""
        if self._left_out:
            many = "record holds" if self._left_out == 1 else "records hold"
            notice(f"{self._left_out:,} {many} no event and {'is' if self._left_out == 1 else 'are'} left out")

    def _show_event(self, record: StoredRecord) -> None:
        from consumers.cli.rendering import event_line  # noqa: PLC0415  # keeps --help quick

        line = event_line(record)
        if line is None:
            self._left_out += 1
        else:
            write_bytes(line)
            self.shown += 1

    def _show_outline(self, record: StoredRecord) -> None:
        from consumers.cli.rendering import outline  # noqa: PLC0415  # keeps --help quick

        line = outline(record)
        console = out()
        if console.is_terminal:
            console.print(line)
        else:
            console.file.write(f"{line.plain}\n")
        self.shown += 1
