"""Snapshots hold whatever there is, however large, and leave nothing behind: not when they fail, not after a crash."""

import re

import msgspec
import pytest

from consumers import snapshot_pieces, snapshots
from consumers.lane import Lane
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail
from consumers.snapshot_pieces import PIECE
from consumers.snapshots import LANE
from consumers.specs import ROUTER
from events.adapter import UNREADABLE
from events.log import NewRecord, TopicPartition
from events.topics import RECORD_BYTES_MAX, ROUTING_LOG, ROUTING_SNAPSHOTS
from routing.contact import Contact, Conversation
from tests.processes import policy_text
from tests.simulation.virtual_loop import run_virtual
from tests.snapshot_given import SnapshotWorld

PLACE = TopicPartition(ROUTING_LOG, 0)
ENTRIES = TopicPartition(ROUTING_SNAPSHOTS, 0)


class World(SnapshotWorld):
    """Contacts, a writer of their snapshots, and a log whose length is all that matters to these."""

    def __init__(self):
        super().__init__(ROUTER)
        self.state = ROUTER.new_state()
        self.changed = {}

    def has(self, name, *conversations):
        """A contact changes."""
        told = {each: Conversation(id=each, seq=1, hash="sha256:" + "0" * 64, run=1) for each in conversations}
        contact = Contact(workspace="default", id=name, conversations=told)
        self.state.load([(f"default/{name}", self.state.dump(contact))])
        self.changed[f"default/{name}"] = dict(self.state.parts())[f"default/{name}"]

    async def snapshot(self, *writers, takes=-1):
        """Of what is there, after one more record; whether it was taken."""
        await self.grow()
        for writer in writers or (self.writer,):
            self.log.takes = takes
            await self.write(writer, self.state, self.changed)
            self.log.takes = -1
        self.changed = {}
        return (writers or (self.writer,))[-1].end == self.tail.end

    async def restart(self):
        """Another process, which knows what it loads and folds; whether it found a snapshot."""
        self.writer = self.another()
        state, tail = ROUTER.new_state(), Tail(log_id="here")
        found = await self.writer.load(state, tail, LanePolicies(PolicyBook({})))
        loaded = dict(state.parts())
        folded = {key: part for key, part in self.state.parts() if loaded.get(key) != part}
        self.writer.note(folded, self.tail.end - tail.end)
        return found

    async def names(self):
        """The keys of what is there; of pieces only that they are."""
        return sorted(re.sub(r"^piece-.*@", "piece@", key) for key in await self.alive())

    async def put(self, key, value):
        await self.log.publish([NewRecord(*ENTRIES, key.encode(), value)])

    async def loaded(self):
        """The state and policies that a successor loads; None if it must fold the log."""
        state, policies = ROUTER.new_state(), LanePolicies(PolicyBook({}))
        found = await self.another().load(state, Tail(log_id="here"), policies)
        return (state, policies) if found else None

    async def is_restored(self):
        found = await self.loaded()
        return found is not None and dict(found[0].parts()) == dict(self.state.parts())


@pytest.fixture
def _small(monkeypatch):
    """A contact with conversations stands in pieces, and so does the lane's own entry."""
    monkeypatch.setattr(snapshot_pieces, "PIECE_BYTES_MAX", 160)
    monkeypatch.setattr(snapshots, "CHUNK_RECORDS", 1)


# --- what is too large for a record ---


async def _large_contact():
    world = World()
    world.has("bot", *map(str, range(6_000)))
    assert len(world.state.dump(world.changed["default/bot"])) > RECORD_BYTES_MAX
    assert await world.snapshot()
    assert await world.is_restored()
    world.has("bot", "1")
    assert await world.snapshot()
    assert await world.names() == ["default/bot@2", "lane@2"]
    assert await world.is_restored()


def test_a_contact_with_thousands_of_conversations_is_loaded_again_and_its_pieces_are_removed():
    run_virtual(_large_contact())


async def _policies():
    world = World()
    text = policy_text("http://127.0.0.1:1") + "\n".join("# a comment" for _ in range(500))
    for number in range(300):
        world.policies.record(f"v{number}", f"{text}\n# {number}", "default", number)
    world.has("one")
    assert await world.snapshot()
    assert sum(key.startswith(PIECE) for key in await world.alive()) > 2
    _, policies = await world.loaded()
    assert policies.recorded == world.policies.recorded
    assert len(policies.recorded) == 300
    before = await world.alive()
    assert await world.restart()
    assert await world.snapshot()
    assert sorted(await world.names()) == ["default/one@1"] + ["piece@2"] * (len(before) - 1)


def test_hundreds_of_policies_are_loaded_again():
    run_virtual(_policies())


async def _each_piece(harm):
    world = World()
    world.has("bot", "1")
    world.has("calm")
    await world.snapshot()
    older = await world.alive()
    world.has("bot", "1", "2", "3")
    await world.snapshot()
    pieces = {key: value for key, value in (await world.alive()).items() if key.startswith(PIECE)}
    assert len({key.rpartition("-")[0] for key in pieces}) == 2, "those of a contact, and of the lane itself"
    for key, value in older.items():
        if "bot" in key or key.startswith(PIECE):  # a writer that died before it removed what it had replaced
            await world.put(key, value)
    for key, value in pieces.items():
        assert await world.is_restored()
        await world.put(key, harm(value))
        assert not await world.is_restored()
        await world.put(key, value)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "harm", [lambda _: None, lambda value: value[:-1], lambda value: value + b" ", lambda value: b"x" + value[1:]]
)
def test_a_piece_that_is_missing_or_not_what_was_written_is_a_reason_to_fold(harm):
    """Also where an older entry of the same part is still there."""
    run_virtual(_each_piece(harm))


async def _without_its_entry(*, restarts):
    """All pieces of the newest entry are gone, and an older one of the part is still there: as many parts as needed."""
    world = World()
    world.has("bot", "1")
    await world.snapshot()
    older = {key: value for key, value in (await world.alive()).items() if "bot" in key}
    world.has("bot", *map(str, range(100)))
    await world.snapshot()
    if restarts:
        await world.restart()
    world.has("calm")
    await world.snapshot()
    assert await world.is_restored()
    for key in [key for key in await world.alive() if key.startswith(PIECE)]:
        await world.put(key, None)
    for key, value in older.items():
        await world.put(key, value)
    assert await world.loaded() is None


@pytest.mark.parametrize("restarts", [False, True])
def test_an_older_entry_does_not_stand_for_one_whose_pieces_are_gone(restarts, monkeypatch):
    """Also if the snapshot that finds them is later than they are, and by another process."""
    monkeypatch.setattr(snapshot_pieces, "PIECE_BYTES_MAX", 2_000)
    run_virtual(_without_its_entry(restarts=restarts))


async def _two_writers():
    """The same contact at the same F, in another order: as many pieces, other bytes."""
    world = World()
    world.has("bot", "1", "2")
    other = world.another()
    await world.snapshot()
    own = {key for key in await world.alive() if key.startswith(PIECE)}
    world.has("bot", "2", "1")
    other.note(world.changed, 1)
    other.begin(world.state, world.tail, world.policies)
    await other.settle()
    mine = sorted(own)
    theirs = sorted({key for key in await world.alive() if key.startswith(PIECE)} - own)
    assert len(mine) == len(theirs) > 1
    assert await world.is_restored()
    await world.put(mine[0], None)
    assert await world.is_restored()
    await world.put(theirs[-1], None)
    assert await world.loaded() is None, "one has the first piece, the other has the last"


@pytest.mark.usefixtures("_large_lane")
def test_pieces_of_two_writers_at_the_same_offset_are_never_mixed():
    run_virtual(_two_writers())


@pytest.fixture
def _large_lane(monkeypatch):
    """Only contacts stand in pieces, the lane's own entry is never cut."""
    monkeypatch.setattr(snapshot_pieces, "PIECE_BYTES_MAX", 400)
    real = snapshot_pieces.records_of
    monkeypatch.setattr(
        snapshots, "records_of", lambda key, *rest: [(f"{key}@{rest[0]}", rest[1])] if key == LANE else real(key, *rest)
    )


async def _of_before():
    """As the version before wrote them."""
    world = World()
    world.has("one", "1")
    await world.snapshot()
    alive = await world.alive()
    lane = msgspec.json.decode(alive["lane@1"])
    del lane["cut"]
    await world.put("lane@1", msgspec.json.encode(lane))
    assert sorted(alive) == ["default/one@1", "lane@1"]
    assert await world.is_restored()
    assert await world.restart()


def test_snapshots_of_versions_that_knew_no_pieces_are_loaded():
    run_virtual(_of_before())


async def _named_like_pieces():
    world = World()
    contact = Contact(workspace=PIECE, id="one")
    world.state.load([(f"{PIECE}/one", world.state.dump(contact))])
    world.changed[f"{PIECE}/one"] = contact
    await world.snapshot()
    assert await world.is_restored()


def test_a_workspace_may_be_named_as_pieces_begin():
    run_virtual(_named_like_pieces())


# --- what is left behind ---


async def _failed(takes):
    world = World()
    world.has("one")
    world.has("bot", "1", "2")
    await world.snapshot()
    world.has("one", "1")
    world.has("bot", "1", "2", "3")
    world.has("new")
    is_taken = await world.snapshot(takes=takes)
    assert await world.is_restored() == is_taken, "nothing is removed before there is a newer one"
    world.has("two")
    assert await world.snapshot()
    assert await world.is_restored()
    covered = "[23]" if is_taken else "3"
    assert [name for name in await world.names() if not re.search(f"@{covered}$", name)] == []
    return is_taken, await world.names()


@pytest.mark.usefixtures("_small")
def test_what_a_failed_attempt_wrote_is_removed_wherever_it_failed():
    ends = [run_virtual(_failed(takes)) for takes in range(20)]
    assert [is_taken for is_taken, _ in ends][:2] == [False, False]
    assert sum(not is_taken for is_taken, _ in ends) > 5
    assert ends[-1][0]
    assert len({tuple(names) for is_taken, names in ends if not is_taken}) == 1
    assert len({tuple(names) for is_taken, names in ends if is_taken}) == 1, "also if only the removing failed"


async def _killed(takes):
    """A process is killed while it writes; the next one writes a snapshot; what is there after that."""
    world = World()
    world.has("one")
    world.has("bot", "1", "2")
    world.has("calm", "1", "2")
    await world.snapshot()
    world.has("one", "1")
    world.has("bot", "1", "2", "3")
    await world.snapshot(takes=takes)
    assert await world.restart()
    world.has("two")
    assert await world.snapshot()
    assert await world.is_restored()
    return await world.names()


@pytest.mark.usefixtures("_small")
def test_what_a_killed_process_wrote_is_removed_by_the_next_wherever_it_was_killed():
    names = [run_virtual(_killed(takes)) for takes in range(24)]
    assert len({len(found) for found in names}) == 1, "as if nobody had been killed"


async def _again_and_again():
    world = World()
    world.has("bot", "1", "2")
    world.has("one")
    counts = []
    for number in range(5):
        for takes in (1, 2, 3):
            world.has("one", str(number))
            assert not await world.snapshot(takes=takes)
            await world.restart()
        assert await world.snapshot()
        assert await world.is_restored()
        counts.append(len(await world.alive()))
    assert counts == [counts[0]] * 5


@pytest.mark.usefixtures("_small")
def test_what_is_kept_does_not_grow_with_crashes_and_restarts():
    run_virtual(_again_and_again())


async def _of_others():
    """Snapshots of another log under the same name, and of parts that this one does not have."""
    world = World()
    world.has("one")
    await world.snapshot()
    alive = await world.alive()
    lane = alive["lane@1"].replace(b'"log_id":"here"', b'"log_id":"gone"')
    one = alive["default/one@1"]
    for key, value in {"lane@70": lane, "default/one@70": one, "default/one@2": one, "default/two@1": b"{}"}.items():
        await world.put(key, value)
    assert not await world.restart()
    await world.snapshot()
    assert await world.names() == ["default/one@2", "lane@2"]
    assert await world.is_restored()


def test_where_nothing_fits_everything_is_written_anew_and_the_rest_is_removed():
    run_virtual(_of_others())


async def _unreadable():
    world = World()
    world.has("one")
    await world.snapshot()
    await world.log.publish([NewRecord(*ENTRIES, b"any", None, ((UNREADABLE, b"it cannot be read"),))])
    for number in range(2, 5):
        assert not await world.restart()
        await world.snapshot()
        assert await world.names() == [f"default/one@{number}", f"lane@{number}"]


def test_beside_an_entry_that_cannot_be_read_the_others_are_removed_all_the_same():
    run_virtual(_unreadable())


async def _three_owners():
    """An entry above the snapshot that a process loads may be of one that is slow and not dead."""
    world = World()
    world.has("one")
    await world.snapshot()
    slow = world.another()
    slow.note(dict(world.state.parts()), 1)
    world.has("two")
    await world.snapshot(slow, takes=2)  # its parts are there, its lane entry is not
    await world.restart()
    first = world.writer
    slow.begin(world.state, world.tail, world.policies)  # now it is
    await slow.settle()
    await world.restart()
    for writer in (first, world.writer):
        assert await world.snapshot(writer)
        assert await world.is_restored()


@pytest.mark.usefixtures("_small")
def test_of_two_owners_each_leaves_the_other_a_newest_entry_of_every_part():
    run_virtual(_three_owners())


async def _chunks(monkeypatch):
    world = World()
    sizes = []
    real = world.log.publish

    async def publish(records):
        sizes.append(sum(len(record.value or b"") for record in records))
        await real(records)

    monkeypatch.setattr(world.log, "publish", publish)
    for number in range(60):
        world.has(str(number), *map(str, range(50)))
    await world.snapshot()
    assert max(sizes) < 30_000 + 20_000
    assert len(sizes) > 10
    assert await world.is_restored()


def test_one_publish_holds_a_bounded_number_of_bytes(monkeypatch):
    monkeypatch.setattr(snapshots, "CHUNK_BYTES_MAX", 30_000)
    run_virtual(_chunks(monkeypatch))


async def _figures():
    world = World()
    world.has("one")
    await world.snapshot()
    lane = Lane(world.log, ROUTER, 0, PolicyBook({}), clock=lambda: 0)
    assert lane.figures().snapshot_end == 0
    await lane._take_over()
    assert (lane.figures().end, lane.figures().snapshot_end) == (1, 1)


def test_a_lane_tells_where_its_newest_snapshot_ends():
    run_virtual(_figures())
