"""Checks of where records come from: inputs, positions, policies."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from consumers.audit.checking import Partition, Rule, expect, require
from consumers.audit.reading import Seen, place_of
from consumers.audit.report import BrokenError, Place
from events.chain import Link, Progress
from events.log import StoredRecord
from events.records import POLICY_RECORDED, Moment, policy_recorded
from events.topics import ROUTING_LOG
from routing.errors import PolicyError
from routing.inputs import DeadlineKind
from routing.policy_file import parse_policy

_OURS: Final = re.compile(rf"deadline/({'|'.join(get_args(DeadlineKind))})/[0-9]+|agents/sha256:[0-9a-f]{{16}}")


class Causes(Rule):
    """Each input makes its records once, in order, in the append whose positions pass it; positions only grow.

    But where somebody has set one by hand: its record says which, from where, to where.
    """

    name = "causes"

    def __init__(self, partition: Partition) -> None:
        self._topics = frozenset(partition.at.spec.decoders)
        self._partition = partition.at.place.partition
        self._ends = partition.input_ends
        self._last: dict[str, int] = {}  # per topic the last offset that made a record
        self._told = Progress(positions={}, mark=0)
        self._here: list[tuple[str, int, StoredRecord]] = []  # inputs of the append that is being read
        self._cause: dict[str, Any] | None = None
        self._begins = -1  # the offset of the append's first record; -1: none was seen yet
        self._beyond: dict[str, BrokenError] = {}  # positions beyond their topic's end, unless they are taken back
        self.mark = 0

    def see(self, found: Seen, link: Link) -> None:
        """Follow inputs and positions."""
        if self._begins < 0 and found.record.type != "log.genesis":
            self._begins = found.stored.offset  # not where the one before ended: what was fenced may lie between
        if found.moves:
            self._take_cause(found)
        elif "skip" in found.data:
            self._take_skip(found.data["skip"], link.progress)
        if link.progress is not None:
            self._end_append(found, link.progress)

    def _take_cause(self, found: Seen) -> None:
        cause, told = found.data.get("cause"), found.data.get("input")
        require(isinstance(cause, dict), "the record names no cause", field="data.cause")
        assert isinstance(cause, dict)
        if told is None:
            expect("data.cause", self._cause, cause, "it holds no input, and the record before it has another cause")
            return
        self._cause = cause
        topic, offset = cause.get("topic"), cause.get("offset")
        if topic is None:
            name = str(cause.get("id"))
            require(
                _OURS.fullmatch(name) is not None, "its cause stands in no topic and is no deadline",
                field="data.cause.id", found=name,
            )  # fmt: skip
            return
        require(topic in self._topics, "this log does not read that topic", field="data.cause.topic", found=topic)
        expect("data.cause.partition", self._partition, cause.get("partition"), "its cause lies on another partition")
        require(isinstance(offset, int), "its cause has no offset", field="data.cause.offset", found=offset)
        assert isinstance(offset, int)
        self._check_offset(topic, offset)
        self._last[topic] = offset
        self._here.append((topic, offset, found.stored))

    def _take_skip(self, skip: dict[str, Any], progress: Progress | None) -> None:
        """What was read of the topic before counts no more; the positions in the headers are what the record says."""
        topic, position = skip["topic"], skip["to"]
        require(topic in self._topics, "this log does not read that topic", field="data.skip.topic", found=topic)
        expect("data.skip.from", self._told.positions.get(topic), skip["from"], "it was not there")
        expect("(header positions)", position, progress and progress.positions.get(topic), "it is not set there")
        self._told.positions[topic] = position
        self._last[topic] = position - 1
        self._beyond.pop(topic, None)

    def _check_offset(self, topic: str, offset: int) -> None:
        last, position = self._last.get(topic, -1), self._told.positions.get(topic, 0)
        require(
            offset > last, f"the input {topic}/{self._partition}@{offset}, or one behind it, has made records before",
            field="data.cause.offset", expected=f"above {last}", found=offset,
        )  # fmt: skip
        require(
            offset >= position, "the append before this one says that this input was decided already",
            field="data.cause.offset", expected=f"at least {position}", found=offset,
        )  # fmt: skip

    def _end_append(self, found: Seen, progress: Progress) -> None:
        before, begins = self._told, self._begins
        unread = set(progress.positions) - self._topics
        require(
            not unread, "it has a position in a topic that this log does not read",
            field="(header positions)", found=sorted(unread),
        )  # fmt: skip
        for topic, position in before.positions.items():
            now = progress.positions.get(topic, -1)
            if now < position and topic in self._beyond:
                raise self._beyond[topic]
            require(
                now >= position, f"the position in {topic} goes back",
                field="(header positions)", expected=f"at least {position}", found=now,
            )  # fmt: skip
        for topic, position in progress.positions.items():
            end = self._ends[topic]
            if position > end and topic not in self._beyond:
                self._beyond[topic] = BrokenError(
                    f"the position in {topic} lies beyond its end", field="(header positions)",
                    expected=f"at most {end}", found=position, place=place_of(found.stored),
                )  # fmt: skip
        for topic, offset, stored in self._here:
            self._check_passed(topic, offset, stored, progress)
        end = found.stored.offset + 1  # what a log says that publishes outputs in the same step
        require(
            before.mark <= progress.mark <= begins or progress.mark == end, "the mark goes back, or into the append",
            field="(header mark)", expected=f"{before.mark} to {begins}, or {end}", found=progress.mark,
        )  # fmt: skip
        self._told, self._here, self._cause = progress, [], None
        self._begins = -1
        self.mark = progress.mark

    def finish(self) -> None:
        """Every position lies in its topic."""
        for broken in self._beyond.values():
            raise broken

    def _check_passed(self, topic: str, offset: int, stored: StoredRecord, progress: Progress) -> None:
        position = progress.positions.get(topic, -1)
        if offset >= position:
            raise BrokenError(
                f"its input is not decided where its append ends: the position in {topic} is {position}",
                field="data.cause.offset",
                expected=f"below {position}",
                found=offset,
                place=Place(topic=stored.topic, partition=stored.partition, offset=stored.offset),
            )


class Policies(Rule):
    """A policy is recorded once, right before its first use, under its text's hash; none is used unrecorded."""

    name = "policies"

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._here: set[str] = set()
        self._unused: str | None = None  # what was recorded last, until it is used

    def see(self, found: Seen, link: Link) -> None:
        """Read it, or look it up."""
        del link
        if found.record.type == POLICY_RECORDED:
            self._record(found)
            return
        version = found.data.get("policy")
        if self._partition.topic != ROUTING_LOG:
            known = version is None or version in self._partition.policies
            require(known, "no log has recorded this policy", field="data.policy", found=version)
            return
        known = version is None or version in self._here
        require(known, "the policy is used, but not recorded before", field="data.policy", found=version)
        unused, self._unused = self._unused, None
        if unused is not None:
            expect("data.policy", unused, version, "right before it a policy was recorded that it does not use")

    def _record(self, found: Seen) -> None:
        data, place = found.data, self._partition.at.place
        try:
            policy = parse_policy(data["text"], source=f"policy {data['version']}")
            expected = policy_recorded(
                place.topic, policy, data["workspace"], place.partition, Moment.at(found.record.at_ms)
            )
        except (PolicyError, KeyError) as error:
            raise BrokenError(f"the recorded policy cannot be read: {error}", field="data.text") from None
        expect("data.version", policy.version, data["version"], "the version is not the hash of the policy's text")
        require(expected == found.stored.value, "the record of the policy is not as we write it")
        require(
            policy.version not in self._here,
            "the policy was recorded before",
            field="data.version",
            found=policy.version,
        )
        require(self._unused is None, "two policies are recorded in a row", field="type")
        self._here.add(policy.version)
        self._partition.policies[policy.version] = policy.email.retries
        self._unused = policy.version

    def finish(self) -> None:
        """The last one was used."""
        require(self._unused is None, "the log ends with a policy that nothing uses")
