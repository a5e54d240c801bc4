"""Options that several commands share, each with its environment variable. Imports nothing that takes time."""

from __future__ import annotations

from typing import Annotated, Final

import typer

# ``consumers.settings.LOG_URL`` and this are the same; a test holds them so. Importing it would cost every --help.
DEFAULT_LOG: Final = "sqlite:///vip-router.db"

LogOption = Annotated[
    str,
    typer.Option(
        "--log", envvar="VIP_ROUTER_LOG", metavar="URL", help="The log: sqlite:///FILE or kafka://HOST:9092[,HOST:9092]"
    ),
]
TopicPrefixOption = Annotated[
    str,
    typer.Option(
        "--topic-prefix",
        envvar="VIP_ROUTER_TOPIC_PREFIX",
        metavar="PREFIX",
        help="Stands before the names of all topics; on Kafka only",
    ),
]
WorkspaceOption = Annotated[
    str, typer.Option("--workspace", envvar="VIP_ROUTER_WORKSPACE", metavar="NAME", help="The workspace")
]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="VIP_ROUTER_JSON", help="JSON for programs instead of text for people")
]
LogLevelOption = Annotated[
    str,
    typer.Option(
        "--log-level",
        envvar="VIP_ROUTER_LOG_LEVEL",
        metavar="LEVEL",
        help="What goes to stderr: debug, info, warning or error",
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", envvar="VIP_ROUTER_VERBOSE", help="The same as --log-level info")
]
