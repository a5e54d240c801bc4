"""``vip-router schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from consumers.cli.errors import CommandError
from consumers.cli.output import write_json


def schema_command(
    type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="One event type, such as message.received")
    ] = None,
) -> None:
    """Print the JSON Schema of every public event type, by type, or that of one."""
    from events.schema import schemas  # noqa: PLC0415  # keeps --help quick

    found = schemas()
    if type is None:
        write_json(found, indent=True)
    elif type in found:
        write_json(found[type], indent=True)
    else:
        raise CommandError(f"TYPE: there is no public event type {type!r}; the types are {', '.join(sorted(found))}")
