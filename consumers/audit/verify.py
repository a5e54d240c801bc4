"""Checks a whole log without deciding anything: whether it is what a lane wrote, complete, in order, and published.

Each rule is a small class in a ``check_*`` module. A partition is read once, record by record; what is remembered is a
line for each subject and what is open. Not found here: a last record whose bytes were changed consistently (nothing
stands behind it; signed checkpoints cover that), and decisions that the deciders would not make (``replay.py``). What a
report of it does not speak for stands at its end (``NOT_CHECKED``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consumers.audit.check_causes import Causes, Policies
from consumers.audit.check_chain import Beginning, Chain, Homes, Names, Time
from consumers.audit.check_inputs import Inputs
from consumers.audit.check_personal import Personal
from consumers.audit.check_subjects import Loads, Numbers, Owners, Transitions
from consumers.audit.checking import Check, Partition, Rule
from consumers.audit.published import CHECK, Output, Published, locate, missing, output_ends
from consumers.audit.reading import (
    LogEnd,
    Seen,
    difference_of,
    ends_of,
    log_ends,
    nothing_there,
    origin_of,
    place_of,
    seen,
    stream,
    whole,
)
from consumers.audit.report import BrokenError, Counts, Difference, OnProgress, Place, Report
from events.chain import Link, link_of
from events.log import Log, LogError, TopicPartition
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS, ROUTING_LOG, partition_counts

NOT_CHECKED: Final = (
    "dead letters, and what inputs say beyond id, type and source: the hash chain covers the logs",
    "what stands behind the last append that made an output: until there are signed checkpoints, it can be cut unseen",
    "whether the log was made anew: the chain has no key, whoever can write it can compute all hashes; keep a copy",
)

_CONFUSED: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Outputs(Rule):
    """What a record makes is on its topic, where the log says that it was published, and nothing else is."""

    name = CHECK

    def __init__(self, partition: Partition, published: Published) -> None:
        self._partition = partition
        self._published = published
        self.unsent: tuple[Output, TopicPartition] | None = None  #: the first that is not on its topic

    def see(self, found: Seen, link: Link) -> None:
        """Add what the record makes to the digests."""
        del link
        if not found.moves:
            return
        spec, place = self._partition.at.spec, self._partition.at.place
        for n, out in enumerate(spec.outputs(found.record, self._partition.origin), 1):
            order = (found.stored.offset, n)
            where = TopicPartition(out.topic, out.partition)
            pair = self._published.pair(place, where)
            if pair.concerns(order):
                pair.made.add(order, out.key, out.value)
            elif self.unsent is None and not (pair.starts_late and order < (pair.first or order)):
                self.unsent = (Output(order, out.key, out.value, None), where)


async def verify(log: Log, *, on_progress: OnProgress | None = None) -> Report:
    """Check both logs and what was published from them, up to the ends that they have now; stops at the first break.

    Raises ``LogError`` if the log cannot be read.
    """
    return await _Audit(log, Counts(on_progress)).run()


class _Audit:
    def __init__(self, log: Log, counts: Counts) -> None:
        self._log = log
        self._counts = counts
        self._now: Seen | None = None
        self._where = TopicPartition(ROUTING_LOG, 0)

    async def run(self) -> Report:
        """Every check, over what the logs held when it began; ends at the first break."""
        checked = self._counts.checked
        checked.update({"partitions": 0, "records": 0, "subjects": 0, "outputs": 0, "inputs compared": 0})
        try:
            ends = await log_ends(self._log)
            await self._check_counts()
            partitions = await self._partitions(ends)
            self._output_ends = await output_ends(self._log)
            self._counts.total = sum(partition.at.end for partition in partitions) + sum(self._output_ends.values())
            published = Published(self._log, partitions, self._counts)
            await published.read(self._output_ends)
            checked.update(published.found)
            for partition in partitions:
                await self._check(partition, published)
            if published.problem is not None:
                self._now = None
                raise published.problem
            if not checked["records"]:
                raise nothing_there()
        except BrokenError as broken:
            return Report(checked=dict(checked), first_difference=self._difference(broken), not_checked=NOT_CHECKED)
        return Report(checked=dict(checked), not_checked=NOT_CHECKED)

    def _difference(self, broken: BrokenError) -> Difference:
        return difference_of(broken, self._now, self._where, check="record")

    async def _check_counts(self) -> None:
        """Topics that belong together have equal partition counts."""
        contacts = await self._log.partition_count(CONVERSATION_EVENTS)
        workspaces = await self._log.partition_count(AGENT_EVENTS)
        for topic, expected in partition_counts(contacts, workspaces).items():
            found = await self._log.partition_count(topic)
            if found != expected:
                raise BrokenError(
                    f"{topic} has {found} partitions and must have {expected}, as the topics that it is made from",
                    place=Place(topic=topic, partition=0),
                    check="partition counts",
                )

    async def _partitions(self, ends: list[LogEnd]) -> list[Partition]:
        """The partitions, each with the name that its first record gives it."""
        partitions: list[Partition] = []
        policies: dict[str, int] = {}
        cluster_id = await self._log.cluster_id()
        for at in ends:
            log_id = await self._log_id(at.place, at.end)
            inputs = {
                topic: (await ends_of(self._log, topic))[at.place._replace(topic=topic)] for topic in at.spec.decoders
            }
            partitions.append(
                Partition(
                    at=at,
                    log_id=log_id,
                    cluster_id=cluster_id,
                    count=await self._log.partition_count(at.place.topic),
                    origin=await origin_of(self._log, at.place, log_id),
                    input_ends=inputs,
                    policies=policies,
                )
            )
        return partitions

    async def _log_id(self, place: TopicPartition, end: int) -> str:
        self._where = place
        async for stored in stream(self._log, place, min(end, 1)):
            try:
                return link_of(stored).log_id
            except LogError as error:
                raise BrokenError(str(error), place=place_of(stored), check="chain") from None
        return ""

    async def _check(self, partition: Partition, published: Published) -> None:
        """Read one partition through all checks."""
        self._where, self._now = partition.at.place, None
        outputs, causes, rows = Outputs(partition, published), Causes(partition), Numbers(partition)
        personal = Personal(partition)
        own: Sequence[Check]
        own = (Transitions(partition),) if partition.topic == ROUTING_LOG else (Owners(partition), Loads(partition))
        checks: Sequence[Check] = (
            Chain(partition), Beginning(partition), Names(partition), Homes(partition), Time(partition), rows,
            Policies(partition), causes, *own, personal, outputs,
        )  # fmt: skip
        inputs = Inputs(self._log, partition)
        async for stored in whole(self._log, partition.at.place, partition.at.end):
            self._now = seen(stored)
            self._see(self._now, checks)
            await inputs.see(self._now)
            self._counts.step()
        for check in checks:
            _finish(check)
        _finish(inputs)
        await self._check_published(partition, published, outputs, causes.mark)
        self._counts.checked.update(
            {"partitions": 1, "subjects": rows.subjects, "records with personal data": personal.searched,
             "inputs compared": inputs.compared}
        )  # fmt: skip

    def _see(self, found: Seen, checks: Sequence[Check]) -> None:
        try:
            link = link_of(found.stored)
        except LogError as error:
            raise BrokenError(str(error), check="chain", field="(headers)") from None
        name = ""
        try:
            for check in checks:
                name = check.name
                check.see(found, link)
        except BrokenError as broken:
            broken.check = broken.check or name
            raise
        except _CONFUSED as error:  # the message may hold what is personal; a key that is missing does not
            missed = f" {error}" if isinstance(error, KeyError) else ""
            raise BrokenError(f"it does not say what it must: {type(error).__name__}{missed}", check=name) from None
        self._counts.checked["records"] += 1
        self._counts.checked[f"{found.stored.topic} {found.record.type}"] += 1

    async def _check_published(self, partition: Partition, published: Published, outputs: Outputs, mark: int) -> None:
        """Hold the topics against what the partition's records make."""
        for pair in published.of(partition.at.place):
            if pair.there != pair.made:
                await locate(self._log, partition, pair, self._output_ends[pair.place])
                raise BrokenError(
                    "the outputs on this topic are not those of the log", check=CHECK,
                    place=Place(topic=pair.place.topic, partition=pair.place.partition),
                )  # fmt: skip
        if outputs.unsent is not None and outputs.unsent[0].order[0] < mark:
            raise missing(partition, *outputs.unsent)


def _finish(check: Check | Inputs) -> None:
    """The partition has no more records."""
    try:
        check.finish()
    except BrokenError as broken:
        broken.check = broken.check or check.name
        raise
