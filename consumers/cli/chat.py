"""``vip-router chat``."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.cli.demo import ExamplesOption
from consumers.cli.errors import BAD_NEWS, UNREACHABLE, CommandError
from consumers.cli.options import DEFAULT_LOG, LogOption, TopicPrefixOption, WorkspaceOption
from consumers.cli.output import log_to_stderr, notice

if TYPE_CHECKING:
    from consumers.chat.contact import Person
    from consumers.chat.session import Session
    from events.open_log import OwnedLog


def chat_command(
    *,
    language: Annotated[
        str, typer.Option("--language", envvar="VIP_ROUTER_LANGUAGE", metavar="TAG", help="en, fr, pt, id, ar ...")
    ] = "en",
    name: Annotated[str | None, typer.Option("--name", envvar="VIP_ROUTER_NAME", help="The contact's name")] = None,
    email: Annotated[
        str | None, typer.Option("--email", envvar="VIP_ROUTER_EMAIL", help="The address in the contact's record")
    ] = None,
    channel: Annotated[
        str, typer.Option("--channel", envvar="VIP_ROUTER_CHANNEL", metavar="TYPE", help="whatsapp, telegram ...")
    ] = "web-chat",
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            envvar="VIP_ROUTER_CHAT_POLICY",
            metavar="FILE",
            help="For the roles that run in here; the example CRM stands in for its own. Default: the example policy",
        ),
    ] = None,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            envvar="VIP_ROUTER_SERVE",
            help="Run the roles in here, or never. Default: if nobody does and the log is empty or of the examples",
        ),
    ] = None,
    workspace: WorkspaceOption = "default",
    log: LogOption = DEFAULT_LOG,
    topic_prefix: TopicPrefixOption = "",
    examples: ExamplesOption = None,
) -> None:
    """Play a contact in the terminal: write, and see the bot's messages, the state and the assignment as they come.

    Works with the "serve" that runs on the log, or by itself with the example policy, agents and CRM. /help lists what
    else can be done; Ctrl-D ends. With lines from a pipe or a file, each waits for what comes of the one before; exit 1
    if nothing comes, or if what was sent ends among the dead letters.
    """
    from consumers.chat.contact import Person  # noqa: PLC0415  # keeps --help quick
    from consumers.chat.session import NotSettledError  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.children import ChildError  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.examples import ExamplesError  # noqa: PLC0415  # keeps --help quick

    log_to_stderr("error")
    id_ = f"chat-{uuid.uuid4().hex[:8]}"
    person = Person(id=id_, language=language, channel=channel, name=name, email=email, workspace=workspace)
    try:
        asyncio.run(_chat(person, log, topic_prefix, policy=policy, serve=serve, examples=examples))
    except ExamplesError as error:
        raise CommandError(str(error)) from None
    except ChildError as error:
        raise CommandError(str(error), code=UNREACHABLE) from None
    except NotSettledError as error:
        raise CommandError(str(error), code=BAD_NEWS) from None


async def _chat(
    person: Person, url: str, topic_prefix: str, *, policy: Path | None, serve: bool | None, examples: Path | None
) -> None:
    from consumers.chat.contact import ContactEvents  # noqa: PLC0415  # keeps --help quick
    from consumers.chat.session import Session  # noqa: PLC0415  # keeps --help quick
    from consumers.cli.chat_output import say  # noqa: PLC0415  # keeps --help quick
    from consumers.opening import counts_of, opened_to_publish  # noqa: PLC0415  # keeps --help quick
    from consumers.signals import stopping_on_signals  # noqa: PLC0415  # keeps --help quick

    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with AsyncExitStack() as stack:
            log = await stack.enter_async_context(opened_to_publish(url, topic_prefix=topic_prefix, tell=notice))
            working = await _working(
                stack, log, url, topic_prefix, person.workspace, policy=policy, serve=serve, examples=examples
            )
            contact = ContactEvents(person, partitions=(await counts_of(log)).contacts)
            notice(
                f"You are the contact {person.id} in {contact.conversation}: write! /help says what else you can do."
            )
            await _converse(Session(log, contact, say), working, stop)


async def _working(
    stack: AsyncExitStack,
    log: OwnedLog,
    url: str,
    topic_prefix: str,
    workspace: str,
    *,
    policy: Path | None,
    serve: bool | None,
    examples: Path | None,
) -> asyncio.Task[Any] | None:
    """The roles in this process, if they are to run here."""
    from consumers.chat import roles  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.examples import find_folder, load  # noqa: PLC0415  # keeps --help quick

    if await log.is_owned("router"):
        if serve or policy is not None:
            raise CommandError("--serve, --policy: a serve works on this log already; leave them out to chat with it")
        notice("A serve works on this log: chatting with it.")
        return None
    if serve is False:
        notice("No serve works on this log: what you write waits until one does.")
        return None
    found = load(find_folder(examples))
    if serve is None and not await roles.is_ours(log, found):
        raise CommandError(
            f'no serve works on {url}, and others have used it: start "vip-router serve --log {url} --policy FILE" '
            "beside this, name a new --log, or let the example policy decide what lies there with --serve"
        )
    notice("No serve works on this log: the roles run in here, with the example CRM.")
    if policy is None:
        notice(_known_addresses(found.folder))
    return await stack.enter_async_context(
        roles.serving_here(log, url, found, policy, workspace=workspace, topic_prefix=topic_prefix, tell=notice)
    )


def _known_addresses(folder: Path) -> str:
    """Some addresses to play with."""
    from consumers.demo.crm_server import load_contacts  # noqa: PLC0415  # keeps --help quick
    from consumers.demo.examples import CRM_DATA  # noqa: PLC0415  # keeps --help quick

    contacts = load_contacts(folder / CRM_DATA)
    plain = {email: data for email, data in contacts.items() if not any(name.startswith("__") for name in data)}
    vips = [email for email, data in plain.items() if data.get("customerType") == "VIP"]
    others = [email for email, data in plain.items() if data.get("customerType") != "VIP"]
    return (
        f"VIPs in that CRM: {', '.join(vips[:2])} ...; not VIPs: {', '.join(others[:2])} ..., and who it does not know."
    )


async def _converse(session: Session, working: asyncio.Task[Any] | None, stop: asyncio.Event) -> None:
    """Chat until the lines end, ``stop`` is set, or something that it needs has failed."""
    from consumers.chat.typed import Typed  # noqa: PLC0415  # keeps --help quick

    reader = await session.reader()
    talking = asyncio.create_task(session.converse(Typed()))
    tasks: set[asyncio.Task[Any]] = {talking, asyncio.create_task(session.follow(reader))}
    stopping = asyncio.create_task(stop.wait())
    others = {stopping} if working is None else {stopping, working}
    try:
        done, _ = await asyncio.wait(tasks | others, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.wait({*tasks, stopping})
        await reader.close()
