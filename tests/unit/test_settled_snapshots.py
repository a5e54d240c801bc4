"""Snapshots keep conversations that are over many in one entry, and what happened to them since wins."""

from functools import partial

import pytest

from consumers import snapshots
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail
from consumers.snapshots import LANE, SETTLED, parts_of
from consumers.specs import ASSIGNER
from events.adapter import UNREADABLE
from events.log import LogUnavailableError, NewRecord, TopicPartition
from events.topics import ASSIGNMENTS_LOG, ASSIGNMENTS_SNAPSHOTS
from routing.workspace_state import is_settled
from tests.simulation.virtual_loop import run_virtual
from tests.snapshot_given import SnapshotWorld
from tests.workspace_given import Lane

PLACE = TopicPartition(ASSIGNMENTS_LOG, 0)
ENTRIES = TopicPartition(ASSIGNMENTS_SNAPSHOTS, 0)


class World(SnapshotWorld):
    """A desk, and a log whose length is all that matters to a snapshot."""

    def __init__(self):
        super().__init__(ASSIGNER)
        self.desk = Lane(confirms=False)
        self.desk.rules()
        self.desk.has("anna", "support", max_open=50)

    def serves(self, *names):
        for name in names:
            self.desk.asks(name)
            self.desk.ends(name)

    async def snapshot(self, *writers):
        """Of what is confirmed, after one more record."""
        await self.grow()
        changed = self.desk.workspaces.confirm()
        for writer in writers or (self.writer,):
            await self.write(writer, self.desk.workspaces, changed)

    async def together(self):
        """How many entries hold parts that are over."""
        return sum(key.startswith(SETTLED) for key in await self.alive())

    async def restarted(self, changed):
        """Another process's writer, which has loaded the newest snapshot and folded what changed since."""
        writer = self.another()
        assert await writer.load(ASSIGNER.new_state(), Tail(log_id="here"), LanePolicies(PolicyBook({})))
        writer.note(changed, 1)
        return writer

    async def loaded(self):
        """The state that a successor loads; None if it must fold the log."""
        state = ASSIGNER.new_state()
        found = await self.another().load(state, Tail(log_id="here"), LanePolicies(PolicyBook({})))
        return state if found else None

    async def is_restored(self):
        state = await self.loaded()
        return state is not None and dict(state.parts()) == dict(self.desk.workspaces.parts())


async def _together():
    world = World()
    world.serves(*map(str, range(30)))
    world.desk.asks("open")
    await world.snapshot()
    together = [key for key in await world.alive() if key.startswith(SETTLED)]
    assert len(together) == 1
    assert len(parts_of("settled-0", (await world.alive())[together[0]])) == 30
    assert await world.is_restored()
    agents = (await world.loaded()).state.desk("default").agents
    assert agents["anna"].open == 1


def test_conversations_that_are_over_stand_in_one_entry_and_are_loaded_again():
    run_virtual(_together())


async def _again():
    world = World()
    world.serves("one", "two", "three")
    await world.snapshot()
    world.desk.asks("two", run=2)
    await world.snapshot()
    assert await world.is_restored()
    assert (await world.loaded()).state.desk("default").agents["anna"].open == 1
    world.desk.ends("two")
    await world.snapshot()
    assert not any("two@" in key for key in await world.alive())
    assert await world.is_restored()


def test_one_that_is_opened_again_is_open_and_one_that_ends_again_is_over():
    run_virtual(_again())


async def _left_behind():
    """A writer that stopped before it removed what it had replaced."""
    world = World()
    world.desk.asks("one")
    await world.snapshot()
    stale = {key: value for key, value in (await world.alive()).items() if "one@" in key}
    world.desk.ends("one")
    await world.snapshot()
    await world.log.publish([NewRecord(*ENTRIES, key.encode(), value) for key, value in stale.items()])
    assert len(stale) == 1
    assert await world.is_restored()


def test_an_older_entry_of_one_that_is_over_does_not_bring_it_back():
    run_virtual(_left_behind())


async def _unreadable():
    """An entry that the store cannot read: it may have been the newest of its part."""
    world = World()
    world.serves("one")
    await world.snapshot()
    assert await world.is_restored()
    stand_in = NewRecord(*ENTRIES, b"any", None, ((UNREADABLE, b"the record at offset 9 cannot be read"),))
    await world.log.publish([stand_in])
    assert not await world.is_restored()


def test_where_an_entry_cannot_be_read_no_snapshot_is_trusted():
    run_virtual(_unreadable())


async def _two_writers():
    world = World()
    other = world.another()
    world.serves("one")
    await world.snapshot(world.writer, other)
    world.serves("two")
    await world.snapshot(world.writer)
    world.serves("three")
    late = world.another()
    late.note({key: part for key, part in world.desk.workspaces.parts() if "two" in key}, 1)
    await world.snapshot(world.writer, late)
    assert await world.is_restored()


def test_what_two_writers_keep_at_the_same_offset_is_all_there():
    run_virtual(_two_writers())


async def _missing():
    world = World()
    world.serves("one")
    await world.snapshot()
    world.serves("two")
    await world.snapshot()
    for key in [key for key in await world.alive() if key.startswith(SETTLED)]:
        await world.log.publish([NewRecord(*ENTRIES, key.encode(), None)])
        assert await world.loaded() is None


def test_a_snapshot_that_lacks_some_of_them_is_not_used():
    run_virtual(_missing())


async def _crashes(monkeypatch):
    world = World()
    world.desk.asks("one")
    world.serves("two")
    await world.snapshot()
    world.desk.ends("one")
    changed = world.desk.workspaces.confirm()
    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(world.log, "publish", partial(_parts_only, world.log.publish))
            await world.snapshot(await world.restarted(changed))
    assert await world.together() == 6
    world.desk.asks("two", run=2)
    await world.snapshot(await world.restarted(changed))
    assert await world.is_restored()
    assert await world.together() == 2, "of one that is over, and the one of before two was opened again"
    await world.snapshot(await world.restarted({}))
    assert await world.is_restored()
    assert await world.together() == 1


async def _parts_only(publish, records):
    """As if the process were killed before it can write the lane's own entry."""
    if (records[0].key or b"").startswith(LANE.encode()):
        raise LogUnavailableError("killed")
    await publish(records)


def test_what_crashed_processes_kept_together_is_removed_and_so_is_what_has_later_entries(monkeypatch):
    run_virtual(_crashes(monkeypatch))


async def _bounded():
    world = World()
    world.serves(*map(str, range(40)))
    await world.snapshot()
    sizes = [len(value) for key, value in (await world.alive()).items() if key.startswith(SETTLED)]
    assert len(sizes) > 5
    assert max(sizes) < 1_000 + 250
    assert await world.is_restored()


def test_an_entry_holds_a_bounded_number_of_bytes(monkeypatch):
    monkeypatch.setattr(snapshots, "SETTLED_BYTES_MAX", 1_000)
    run_virtual(_bounded())


async def _of_others():
    world = World()
    world.desk.workspace = "settled-"
    world.serves("one")
    await world.snapshot()
    assert await world.is_restored()


def test_a_workspace_may_be_named_as_these_entries_begin():
    run_virtual(_of_others())


def test_only_what_nothing_follows_from_is_settled():
    world = World()
    world.desk.asks("open")
    world.serves("over")
    world.desk.refuses("refused")
    world.desk.loses("anna")
    settled = {key for key, part in world.desk.workspaces.parts() if is_settled(part)}
    assert settled == {"default/conversation/contact-of-over/over", "default/conversation/contact-of-refused/refused"}


@pytest.mark.parametrize("key", [LANE, "default/conversation/a/b", "settled-/config"])
def test_every_other_entry_holds_itself(key):
    assert parts_of(key, b"{}") == {key: b"{}"}
