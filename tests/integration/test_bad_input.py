"""Each row of bad input: it ends among the dead letters or is recorded as ignored, and the partition moves on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from events.log import NewRecord
from events.sqlite.log import SqliteLog
from events.topics import CONVERSATION_EVENTS, partition_of
from tests.bad_inputs import DEEP, ODD, RAW
from tests.processes import crm, json_lines, opened, policy_text, run, stored

PARTITIONS = 4


class World(NamedTuple):
    """What is there after everything went in and ``serve`` has come to rest."""

    folder: Path
    placed: dict[str, tuple[int, int]]  #: partition and offset of each raw record


async def insert(folder: Path) -> dict[str, tuple[int, int]]:
    """Put the raw records where a producer without our checks would; one of them on a foreign partition."""
    placed: dict[str, tuple[int, int]] = {}
    async with SqliteLog(folder / "vip-router.db") as log:
        for name, raw in RAW.items():
            partition = partition_of((raw.key or b"bad").decode(), PARTITIONS)
            record = NewRecord(CONVERSATION_EVENTS, partition, raw.key, raw.value)
            placed[name] = (partition, await log.end_offset(record[:2]))  # type: ignore[arg-type]
            await log.publish([record])
        home = partition_of("astray", PARTITIONS)
        value = json.dumps(opened("astray")).encode()
        await log.publish([NewRecord(CONVERSATION_EVENTS, (home + 1) % PARTITIONS, b"astray", value)])
        nobody = json.dumps(opened("keyless")).encode()
        await log.publish([NewRecord(CONVERSATION_EVENTS, partition_of("keyless", PARTITIONS), None, nobody)])
    return placed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad-input")
    with crm(folder, {}) as url:
        (folder / "p.toml").write_text(policy_text(url), encoding="utf-8")
        assert run("publish", "-", cwd=folder, stdin=json_lines(ODD)).code == 0
        placed = asyncio.run(insert(folder))
        every = [opened(f"after{n}") for n in range(12)]  # on every partition
        assert {partition_of(one["partitionkey"], PARTITIONS) for one in every} == set(range(PARTITIONS))
        assert run("publish", "-", cwd=folder, stdin=json_lines(every)).code == 0
        done = run("serve", "--policy", "p.toml", "--until-idle", "1s", cwd=folder)
        assert done.code == 0, done.err
        assert f'{len(RAW)} dead letters came: "vip-router dead-letters list"' in done.err
        yield World(folder, placed)


def log_of(world: World, contact: str) -> list[dict[str, Any]]:
    return [one for one in stored(world.folder, "routing.log") if one.get("partitionkey") == contact]


@pytest.mark.parametrize("name", RAW)
def test_it_ends_among_the_dead_letters_with_its_place_and_reason(world, name):
    partition, offset = world.placed[name]
    letters = [
        one["data"]
        for one in stored(world.folder, "dead-letters")
        if (one["data"]["partition"], one["data"]["offset"]) == (partition, offset)
    ]
    (letter,) = letters
    assert (letter["topic"], letter["reason"]) == (CONVERSATION_EVENTS, RAW[name].reason)


def test_nothing_else_became_a_dead_letter(world):
    assert len(stored(world.folder, "dead-letters")) == len(RAW)


def test_every_partition_moved_on(world):
    asked = {one["partitionkey"] for one in stored(world.folder, "conversations.replies")}
    assert {f"after{n}" for n in range(12)} <= asked


def test_what_lies_on_a_foreign_partition_is_sent_home_and_decided_there(world):
    assert [one["type"] for one in log_of(world, "astray")] == ["conversation.started"]


def test_an_event_without_a_key_is_decided_if_it_names_the_contact(world):
    assert [one["type"] for one in log_of(world, "keyless")] == ["conversation.started"]


@pytest.mark.parametrize(
    ("contact", "types"),
    [
        ("early", ["input.ignored", "conversation.started"]),
        ("twice", ["conversation.started", "input.ignored"]),
        ("gone", ["conversation.started", "conversation.ended", "input.ignored", "input.ignored"]),
        ("mute", ["conversation.started", "email.rejected"]),
    ],
)
def test_what_comes_at_the_wrong_time_is_recorded_with_the_reason(world, contact, types):
    records = log_of(world, contact)
    assert [one["type"] for one in records] == types
    assert all(one["data"]["reason"] for one in records if one["type"] == "input.ignored")


def test_dead_letters_list_says_why_and_where_to_look(world):
    listed = run("dead-letters", "list", cwd=world.folder)
    assert listed.code == 0
    assert listed.out.endswith(f"{len(RAW)} dead letters\n")
    partition, offset = world.placed["unknown type"]
    assert f"{CONVERSATION_EVENTS}/{partition}@{offset}" in listed.out
    look = f"tail {CONVERSATION_EVENTS} --partition {partition} --from {offset} -n 1"
    assert f"vip-router {look}" in listed.out
    shown = run(*look.split(), "--json", cwd=world.folder)
    assert [one["type"] for one in shown.events] == ["conversation.open"]
    for_programs = run("dead-letters", "list", "--json", cwd=world.folder)
    assert len(for_programs.events) == len(RAW)
    assert len(run("dead-letters", "list", "--json", "-n", "2", cwd=world.folder).events) == 2


def test_tail_counts_what_is_no_event(world):
    done = run("tail", CONVERSATION_EVENTS, "--json", cwd=world.folder)
    assert done.code == 0
    assert all(isinstance(one, dict) for one in done.events)
    unreadable = [raw for raw in RAW.values() if raw.reason in {"not-json", "not-an-object", "too-deep"}]
    assert "records hold no event and are left out" in done.err
    assert 0 < int(done.err.split()[0]) <= len(unreadable)
    for_people = run("tail", CONVERSATION_EVENTS, cwd=world.folder)
    assert (for_people.code, "no event: " in for_people.out) == (0, True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x" * 10_000_000, "too-large"),
        (json.dumps(opened("big", padding="x" * 300_000)).encode(), "too-large"),
        (DEEP[:200_000], "too-deep"),
        (RAW["NaN"].value, "not-json"),
        (RAW["lone surrogate"].value, "not-json"),
        (RAW["duplicate keys"].value, "duplicate-keys"),
        (RAW["missing envelope fields"].value, "bad-envelope"),
    ],
    ids=["10 MB", "over 256 KiB", "deep", "NaN", "lone surrogate", "duplicate keys", "missing fields"],
)
def test_publish_skips_what_is_no_event(tmp_path, line, reason):
    content = json_lines([opened("c1")]) + line + b"\n" + json_lines([opened("c2")])
    done = run("publish", "-", "--skip-bad", cwd=tmp_path, stdin=content)
    assert done.code == 0
    assert f"line 2: skipped: {reason}" in done.err
    assert {one["partitionkey"] for one in stored(tmp_path, CONVERSATION_EVENTS)} == {"c1", "c2"}
    assert run("publish", "-", cwd=tmp_path, stdin=content).code == 2
