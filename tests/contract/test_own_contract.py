"""Owning a role, on every adapter: whoever is left nothing is told so, and gets all when the others have gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from events.open_log import OwnedLog
from events.ownership import Change, Waiting
from tests.contract.stores import COUNTS, MemoryStore, Store

ROLE = "assigner"
PARTITIONS = COUNTS["agents.events"]
ALL = list(range(PARTITIONS))
MEMBERS = 3 * PARTITIONS  #: so many that some never have had any
PATIENCE_S = 30.0

Own = Callable[[OwnedLog, Change, asyncio.Event, Waiting], Awaitable[None]]


@dataclass
class Member:
    """One process' part in the role, and what it was told."""

    log: OwnedLog
    own: Own
    news: asyncio.Event
    owned: frozenset[int] | None = None  #: None: nothing was said yet
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self, owned: frozenset[int]) -> None:
        self.owned = owned
        self.news.set()

    def waiting(self) -> None:
        self.owned = frozenset()
        self.news.set()

    async def run(self) -> None:
        """Be a member until ``stop``; who has nothing is not waited for, as ``serve`` does it."""
        running = asyncio.ensure_future(self.own(self.log, self.change, self.stop, self.waiting))
        try:
            await self.stop.wait()
            if not self.owned:
                running.cancel()
            await asyncio.wait({running}, timeout=PATIENCE_S)
            assert running.done()
        finally:
            running.cancel()


async def own(log: OwnedLog, change: Change, stop: asyncio.Event, waiting: Waiting) -> None:
    """As it is."""
    await log.own(ROLE, PARTITIONS, change, stop, waiting=waiting)


async def own_silently(log: OwnedLog, change: Change, stop: asyncio.Event, _waiting: Waiting) -> None:
    """A planted one that says nothing of having nothing."""

    async def only_something(owned: frozenset[int]) -> None:
        if owned:
            await change(owned)

    await log.own(ROLE, PARTITIONS, only_something, stop)


@asynccontextmanager
async def member(store: Store, own: Own, news: asyncio.Event) -> AsyncIterator[Member]:
    """A member until the end of the context, or until its ``stop`` is set."""
    async with store.open() as log:
        one = Member(cast("OwnedLog", log), own, news)
        running = asyncio.create_task(one.run())
        try:
            yield one
        finally:
            one.stop.set()
            await running


async def until(holds: Callable[[], bool], news: asyncio.Event, patience_s: float) -> None:
    """Wait until ``holds``, which is looked at when anybody was told anything."""
    async with asyncio.timeout(patience_s):
        while not holds():
            await news.wait()
            news.clear()


def is_shared(members: list[Member]) -> bool:
    """Whether all members know what they have, and every partition is had once."""
    had = [one.owned for one in members]
    return None not in had and sorted(number for owned in had for number in owned or ()) == ALL


async def check_who_is_left_nothing(store: Store, own: Own, *, patience_s: float) -> None:
    """The check: more members than partitions; each is told its share, one without any included, and takes over."""
    news = asyncio.Event()
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(member(store, own, news)) for _ in range(MEMBERS)]
        await until(lambda: is_shared(members), news, patience_s)
        left_out = next(each for each in members if not each.owned)
        for each in members:
            if each is not left_out:
                each.stop.set()
        await until(lambda: left_out.owned == frozenset(ALL), news, patience_s)


async def test_whoever_is_left_nothing_is_told_so_and_takes_over(store: Store) -> None:
    await check_who_is_left_nothing(store, own, patience_s=PATIENCE_S)


async def test_an_ownership_that_keeps_it_to_itself_is_found() -> None:
    """Guards the check."""
    with pytest.raises(TimeoutError):
        await check_who_is_left_nothing(MemoryStore(), own_silently, patience_s=0.1)
