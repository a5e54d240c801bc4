"""The demo from beginning to end: processes, scenes, comparison, audit. What it looks like is the command line's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from consumers.audit.replay import replay
from consumers.audit.report import Report
from consumers.audit.verify import verify
from consumers.demo.children import Child, serving
from consumers.demo.comparing import differences
from consumers.demo.crm_policy import StandIn, with_crm
from consumers.demo.examples import CRM_DATA, POLICY, Examples
from consumers.demo.observed import Observed, places_of
from consumers.demo.player import OnProgress, Player
from consumers.opening import counts_of, opened, opened_or_made


class Show(Protocol):
    """Told how far the demo is."""

    def begins(self, what: str) -> OnProgress:
        """A stage begins; gives what to call with how much of how much is done."""

    def ends(self) -> None:
        """The stage has ended."""


class Played(NamedTuple):
    """What came of a demo."""

    observed: Observed
    published: int
    unsettled: list[str]  #: what did not come to its end; the scenes after it were not played
    differences: list[str]
    verified: Report
    replayed: Report

    @property
    def passed(self) -> bool:
        """Whether all came as expected and the log is as it must be."""
        return not (self.unsettled or self.differences) and self.verified.passed and self.replayed.passed


def url_of(log_file: Path) -> str:
    """The log's URL; relative if the file's name is."""
    return f"sqlite:///{quote(str(log_file))}"


async def run_demo(examples: Examples, log_file: Path, show: Show) -> Played:
    """Play all scenes on a new log. Every process that it starts has ended when it returns or raises.

    Raises ``ChildError``, ``PolicyError`` and ``LogError``.
    """
    url, observed = url_of(log_file), Observed()
    async with AsyncExitStack() as stack:
        stand_in = await stack.enter_async_context(with_crm(examples.folder / POLICY, examples.folder / CRM_DATA))
        log = await stack.enter_async_context(opened_or_made(url))
        reader = log.reader(await places_of(log))
        stack.push_async_callback(reader.close)
        show.begins("starting the CRM and serve")(0, 1)
        async with serving(url, stand_in.file) as serve:
            show.ends()
            player = Player(log, await counts_of(log), examples, observed)
            async with _in_background(observed.follow(reader)):
                unsettled = await _unless_it_ends(_play(player, examples, show, stand_in, serve), serve)
        await observed.catch_up(reader)  # serve has ended: nothing more comes
        return Played(
            observed=observed,
            published=player.published,
            unsettled=unsettled,
            differences=differences(examples, observed),
            verified=await _audited(url, "verify", show),
            replayed=await _audited(url, "replay", show),
        )


async def _play(player: Player, examples: Examples, show: Show, stand_in: StandIn, serve: Child) -> list[str]:
    used = examples.folder / POLICY
    for scene in examples.scenes():
        policy = examples.policy_of(scene) or examples.folder / POLICY
        if policy != used:
            stand_in.use(policy)
            await serve.reread_policy()
            used = policy
        unsettled = await player.play(scene, on_progress=show.begins(scene.replace("-", " ")))
        show.ends()
        if unsettled:
            return unsettled
    return []


async def _audited(url: str, what: str, show: Show) -> Report:
    """Verify or replay the log as anybody could: from the file alone."""
    on_progress = show.begins({"verify": "verifying the log", "replay": "deciding everything again"}[what])
    async with opened(url, read_only=True) as log:
        report = await (verify if what == "verify" else replay)(log, on_progress=on_progress)
    show.ends()
    return report


async def _unless_it_ends(playing: Coroutine[Any, Any, list[str]], serve: Child) -> list[str]:
    """The result of the playing; ``ChildError`` if ``serve`` ends meanwhile."""
    play = asyncio.create_task(playing)
    end = asyncio.create_task(serve.ended())
    try:
        await asyncio.wait({play, end}, return_when=asyncio.FIRST_COMPLETED)
        if not play.done():
            raise serve.error()
        return play.result()
    finally:
        await _cancelled(play)
        await _cancelled(end)


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await _cancelled(task)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
