"""``vip-router dead-letters``: what could not be used, why, and where it lies."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.options import DEFAULT_LOG, JsonOption, LogOption, TopicPrefixOption
from consumers.cli.output import counted, flush, time_text, visible, write_bytes

if TYPE_CHECKING:
    from events.log import StoredRecord

app = typer.Typer(help="Records that could not be used.", no_args_is_help=True)


@app.callback()
def dead_letters() -> None:
    """Records that could not be used: what they are, why, and where they lie."""


@app.command("list")
def list_command(
    *,
    count: Annotated[int | None, typer.Option("-n", envvar="VIP_ROUTER_N", min=1, help="Only the last so many")] = None,
    as_json: JsonOption = False,
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
) -> None:
    """List the dead letters, oldest first: when, why, where the record lies, how it begins, how to look at it.

    --json prints each as it is stored: a CloudEvent with the original key, value and headers in base64.
    """
    asyncio.run(_list(log, topic_prefix, count=count, as_json=as_json))


async def _list(url: str, topic_prefix: str, *, count: int | None, as_json: bool) -> None:
    from consumers import tailing  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import opened  # noqa: PLC0415  # keeps --help quick
    from events.topics import DEAD_LETTERS  # noqa: PLC0415  # keeps --help quick

    async with opened(url, read_only=True, topic_prefix=topic_prefix) as log:
        ends = await tailing.ends_of(log, await tailing.places_of(log, DEAD_LETTERS, None))
        shown = 0
        if count is not None:
            for record in await tailing.last(log, ends, count):
                shown += _show(record, as_json=as_json)
        else:
            async for record in tailing.merged(log, await tailing.starts_of(log, ends, 0), ends):
                shown += _show(record, as_json=as_json)
    flush()
    if not as_json:
        sys.stdout.write(f"{counted(shown, 'dead letter')}\n")


def _show(record: StoredRecord, *, as_json: bool) -> int:
    """Print one; returns how many were printed."""
    from consumers.cli.rendering import event_line, preview  # noqa: PLC0415  # keeps --help quick
    from events.cloudevents import BadInputError  # noqa: PLC0415  # keeps --help quick
    from events.dead_letters import parse_dead_letter  # noqa: PLC0415  # keeps --help quick

    if as_json:
        line = event_line(record)
        if line is not None:
            write_bytes(line)
        return int(line is not None)
    try:
        letter = parse_dead_letter(record)
    except BadInputError as error:
        sys.stdout.write(f"{time_text(record.time_ms)}  {record.topic}/{record.partition}@{record.offset}: {error}\n\n")
        return 1
    place = f"{letter.topic}/{letter.partition}@{letter.offset}"
    size = f"{letter.value_bytes:,} bytes, kept there only" if letter.value_bytes is not None else preview(letter.value)
    sys.stdout.write(
        f"{time_text(letter.time_ms)}  {visible(place)}\n"
        f"  why   {visible(letter.reason)}: {visible(letter.detail)}\n"
        f"  what  {size}\n"
        f"  look  vip-router tail {visible(letter.topic)} --partition {letter.partition} --from {letter.offset} -n 1\n"
        "\n"
    )
    return 1
