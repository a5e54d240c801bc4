"""The metrics: that they say what lanes, look-ups and the log say, that they are well named, and name nobody."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import typer
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumers.cli.main import app
from consumers.lane import Lane
from consumers.policy_book import PolicyBook
from consumers.settings import ROLES
from consumers.specs import ROUTER
from consumers.telemetry.desks import DeskFigures, Desks
from consumers.telemetry.metrics import Metrics
from consumers.telemetry.readings import Reading
from consumers.telemetry.telemetry import Telemetry
from consumers.telemetry.views import LaneFigures, LaneView, Watched
from consumers.telemetry.watching import DeadLetters, Timings, WatchedLog, WatchedLookUps, watched_log
from events.cloudevents import Reason
from events.dead_letters import dead_letter
from events.log import FencedError, Log, NewRecord, StoredRecord, TopicPartition
from events.memory import MemoryLog
from events.topics import CONVERSATION_EVENTS, CRM_ANSWERS, REPLIES, ROUTING_LOG, partition_counts
from routing.policy_file import parse_policy
from tests.processes import policy_text

NOW_MS = 1_000_000
ALLOWED_LABELS = {"role", "partition", "topic", "outcome", "workspace", "version", "python", "le", "route", "reason"}

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def parsed(text: bytes) -> Samples:
    """Every sample of ours by its name and labels; fails on two of the same."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"vip_router_{name}", frozenset(labels.items())]


class FakeLane:
    """A lane with figures that are all different."""

    def __init__(self, figures: LaneFigures, *, is_ready: bool = True) -> None:
        self.counts = Counter(
            {"inputs": 11, "records": 22, "batches": 3, "aside": 4, "fenced": 5, "taken over again": 6}
        )
        self.is_ready = is_ready
        self.state: object = None
        self._figures = figures

    def figures(self) -> LaneFigures:
        return self._figures


class FakeRole:
    def __init__(self, name: str, *lanes: FakeLane, owned: bool = True) -> None:
        self.name = name
        self.is_owned = owned
        self.is_standby = not owned
        self.error: str | None = None
        self.lanes: Sequence[LaneView] = lanes
        self.reads: dict[int, bool] = {}

    def is_ready(self) -> bool:
        return self.is_owned


def watched(*roles: FakeRole) -> Watched:
    log = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS, topics=partition_counts(2, 1))
    return Watched(log=log, roles=roles, book=PolicyBook({}))


BUSY = LaneFigures(1, 100, {CONVERSATION_EVENTS: 5}, 60, is_full=True, passed_ms=NOW_MS - 2_500, snapshot_end=83)
CALM = LaneFigures(0, 9, {}, None, is_full=False, passed_ms=None)


def test_every_figure_of_a_lane_stands_under_its_role_and_partition():
    metrics = Metrics(lambda: NOW_MS)
    metrics.timings.apart_ms[TopicPartition(ROUTING_LOG, 1)] = -1_500
    roles = FakeRole("router", FakeLane(CALM), FakeLane(BUSY, is_ready=False)), FakeRole("assigner", owned=False)
    reading = Reading(log_answers=True, lags={("router", TopicPartition(CONVERSATION_EVENTS, 1)): 7})
    samples = parsed(metrics.text(watched(*roles), None, reading))
    expected = {
        "inputs_total": 11,
        "records_total": 22,
        "batches_total": 3,
        "set_aside_total": 4,
        "fenced_appends_total": 5,
        "take_overs_total": 6,
        "ready": 0,
        "log_end": 100,
        "outputs_backlog": 40,
        "outputs_backlog_full": 1,
        "passed_deadlines_wait_seconds": 2.5,
        "records_since_snapshot": 17,
        "clock_skew_seconds": -1.5,
    }
    assert {name: value(samples, name, role="router", partition="1") for name in expected} == expected
    assert value(samples, "outputs_backlog", role="router", partition="0") == 0
    assert value(samples, "records_since_snapshot", role="router", partition="0") == 9, "all, if there is none"
    assert value(samples, "ready", role="router", partition="0") == 1
    assert value(samples, "lag", role="router", partition="1", topic=CONVERSATION_EVENTS) == 7
    assert value(samples, "log_up") == 1
    assert (value(samples, "owned", role="router"), value(samples, "owned", role="assigner")) == (1, 0)


def test_what_is_not_known_is_absent_and_not_zero():
    samples = parsed(Metrics(lambda: NOW_MS).text(None, None, None))
    names = {name for name, _ in samples}
    assert "vip_router_build_info" in names
    assert not names & {"vip_router_log_up", "vip_router_lag", "vip_router_ready", "vip_router_clock_skew_seconds"}


def test_the_policies_are_named_by_workspace_and_version():
    found = watched()
    found.book.exchange({"default": parse_policy(policy_text("http://127.0.0.1:1"), source="p.toml")})
    samples = parsed(Metrics(lambda: NOW_MS).text(found, None, None))
    version = found.book.current("default").version
    assert value(samples, "policy_info", workspace="default", version=version) == 1


class Outcome(NamedTuple):
    attempts: int
    reason: str = "answered"


class FakeClient:
    """A CRM client whose look-ups end as the ask says, once they are told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def look_up(self, ask: Outcome, policy: str) -> Outcome:
        assert policy == "policy"
        await self.go_on.wait()
        return ask


async def test_look_ups_are_counted_by_outcome_and_timed_and_their_outcome_is_passed_on():
    metrics, client = Metrics(lambda: NOW_MS), FakeClient()
    seen = WatchedLookUps(client, metrics.timings)
    asks = [Outcome(1), Outcome(2), Outcome(3, "time-out"), Outcome(9)]
    looking = [asyncio.create_task(seen.look_up(ask, "policy")) for ask in asks]
    await asyncio.sleep(0)
    samples = parsed(metrics.text(None, seen, None))
    assert value(samples, "crm_look_ups_in_flight") == 4
    looking.pop().cancel()
    client.go_on.set()
    assert await asyncio.gather(*looking) == asks[:3]
    samples = parsed(metrics.text(None, seen, None))
    assert value(samples, "crm_look_ups_in_flight") == 0
    assert value(samples, "crm_look_ups_total", outcome="answered") == 2
    assert value(samples, "crm_look_ups_total", outcome="time-out") == 1
    assert value(samples, "crm_look_ups_total", outcome="cancelled") == 1
    assert value(samples, "crm_attempts_total") == 6
    assert value(samples, "crm_look_up_seconds_count") == 3


async def test_appends_are_timed_and_the_clocks_compared_and_errors_pass_through():
    metrics = Metrics(lambda: NOW_MS)
    inner = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS - 700, topics=partition_counts(2, 1))
    log = watched_log(inner, "router", metrics.timings, lambda: NOW_MS)
    place = TopicPartition(ROUTING_LOG, 1)
    record = NewRecord(*place, b"k", b"v")
    done = await log.append(place, [record], expected=0)
    assert done.offset_next == await log.end_offset(place) == 1
    with pytest.raises(FencedError):
        await log.append(place, [record], expected=0)
    role = FakeRole("router", FakeLane(BUSY))
    samples = parsed(metrics.text(watched(role), None, None))
    assert value(samples, "clock_skew_seconds", role="router", partition="1") == 0.7
    assert value(samples, "append_seconds_count", role="router") == 2


def dead(topic: str, reason: str) -> NewRecord:
    """A dead letter."""
    return dead_letter(StoredRecord(topic, 0, 3, b"k", b'"topic":"x"', (), NOW_MS), reason, "why", now_ms=NOW_MS)


async def test_however_many_reasons_and_topics_records_have_the_series_are_few():
    """Every reason of the contract has its series; whatever else is written comes under one."""
    metrics = Metrics(lambda: NOW_MS)
    inner = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS, topics=partition_counts(2, 1))
    log = watched_log(inner, "assigner", metrics.timings, lambda: NOW_MS)
    before = len(metrics.timings.dead_letters)
    assert before == 2 * len(get_args(Reason))
    await log.publish([dead(f"topic-{number}", f"reason-{number}") for number in range(50)])
    assert len(metrics.timings.dead_letters) == before + 1
    assert value(
        parsed(metrics.text(None, None, None)), "dead_letters_total", role="assigner", topic="other", reason="other"
    ) == 50  # fmt: skip


async def test_dead_letters_and_records_sent_on_are_told_apart_and_outputs_are_neither():
    metrics = Metrics(lambda: NOW_MS)
    inner = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS, topics=partition_counts(2, 1))
    log = watched_log(inner, "router", metrics.timings, lambda: NOW_MS)
    counted_as = {"role": "router", "topic": CONVERSATION_EVENTS, "reason": "not-json"}
    assert value(parsed(metrics.text(None, None, None)), "dead_letters_total", **counted_as) == 0, "a rise can be seen"
    letters = [dead(CONVERSATION_EVENTS, "not-json"), dead(CONVERSATION_EVENTS, "not-json"), dead(CRM_ANSWERS, "fault")]
    await log.publish([NewRecord(CONVERSATION_EVENTS, 0, b"k", b"v"), *letters])
    await log.publish([NewRecord(REPLIES, 0, b"k", b"v")])
    await log.publish([])
    samples = parsed(metrics.text(None, None, None))
    assert value(samples, "dead_letters_total", **counted_as) == 2
    assert value(samples, "dead_letters_total", role="router", topic=CRM_ANSWERS, reason="fault") == 1
    assert value(samples, "rerouted_total", role="router") == 1
    assert await inner.end_offset(TopicPartition(REPLIES, 0)) == 1


@pytest.mark.parametrize("name", ["append", "publish"])
def test_what_stands_before_the_log_takes_what_the_log_takes(name: str):
    """It is no subclass: a parameter that the port gains must not be dropped on the way."""

    def shape(of: type) -> list[tuple[str, Any, Any]]:
        parameters = inspect.signature(getattr(of, name)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]

    assert shape(WatchedLog) == shape(Log)


def test_a_lane_that_has_not_begun_has_figures():
    log = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS, topics=partition_counts(2, 1))
    lane = Lane(log, ROUTER, 1, PolicyBook({}), clock=lambda: NOW_MS)
    assert lane.figures() == LaneFigures(1, 0, {}, None, is_full=False, passed_ms=None)


async def test_without_an_address_nothing_stands_between():
    log = MemoryLog(cluster_id="c", clock_ms=lambda: NOW_MS, topics={})
    told: list[str] = []
    async with Telemetry(None, asyncio.Event(), clock=lambda: NOW_MS, tell=told.append) as telemetry:
        assert telemetry.watched_log(log, "router") is log
        client = FakeClient()
        assert telemetry.watched_look_ups(client) is client
    assert told == []


def everything() -> bytes:
    """A scrape with every metric in it."""
    metrics = Metrics(lambda: NOW_MS)
    metrics.timings.apart_ms[TopicPartition(ROUTING_LOG, 1)] = 1
    metrics.timings.dead_letters[DeadLetters("router", CONVERSATION_EVENTS, "not-json")] += 1
    metrics.timings.rerouted["router"] += 1
    metrics.timings.append_s.labels(role="router").observe(0.1)
    look_ups = WatchedLookUps(FakeClient(), metrics.timings)
    look_ups.counts["answered"] += 1
    lags = {("router", TopicPartition(CONVERSATION_EVENTS, 1)): 7}
    desks = CollectorRegistry()
    desks.register(Desks({"default": DeskFigures()}, NOW_MS))
    reading = Reading(log_answers=True, lags=lags, partitions={"router": 2})
    found = watched(FakeRole("router", FakeLane(BUSY)))
    policy = parse_policy(policy_text("http://127.0.0.1:1"), source="p.toml")
    found.book.exchange({"default": policy})
    return metrics.text(found, look_ups, reading) + generate_latest(desks)


def created(text: str) -> list[str]:
    """The oracle: series that say since when another is counted, which nobody reads."""
    return re.findall(r"^\w+_created\b", text, re.MULTILINE)


def test_no_series_says_since_when_another_is_counted():
    assert created(everything().decode()) == []
    assert created("vip_router_append_seconds_created{} 1.7e9\n") == ["vip_router_append_seconds_created"], (
        "a planted one"
    )


def test_policies_that_were_refused_are_counted():
    found = watched()
    samples = parsed(Metrics(lambda: NOW_MS).text(found, None, None))
    assert value(samples, "policy_reloads_refused_total") == 0
    found.book.refused += 1
    samples = parsed(Metrics(lambda: NOW_MS).text(found, None, None))
    assert value(samples, "policy_reloads_refused_total") == 1


def badly_named(text: str) -> list[str]:
    """The oracle of names: prefix, base units, ``_total`` for counters and for nothing else, known labels, a help."""
    wrong = []
    for family in text_string_to_metric_families(text):
        own = family.name.startswith("vip_router_")
        if not own and not family.name.startswith("process_"):
            wrong.append(f"{family.name}: prefix")
        if own and re.search(r"_(ms|milliseconds|kib|mib|minutes|percent|count|sum)$", family.name):
            wrong.append(f"{family.name}: unit")
        if not family.documentation:
            wrong.append(f"{family.name}: help")
        for sample in family.samples:
            if (family.type == "counter") != sample.name.endswith("_total"):
                wrong.append(f"{sample.name}: _total")
            wrong.extend(f"{sample.name}: label {label}" for label in sorted(set(sample.labels) - ALLOWED_LABELS))
    return wrong


def test_names_and_labels_are_as_prometheus_and_we_want_them():
    assert badly_named(everything().decode()) == []


@pytest.mark.parametrize(
    ("name", "kind", "labels", "found"),
    [
        ("inputs", "counter", "", "inputs: prefix"),
        ("vip_router_wait_ms", "gauge", "", "vip_router_wait_ms: unit"),
        ("vip_router_x_total", "gauge", "", "vip_router_x_total: _total"),
        ("vip_router_x", "gauge", '{contact="c1"}', "vip_router_x: label contact"),
    ],
)
def test_a_bad_name_is_found(name: str, kind: str, labels: str, found: str):
    sample = f"{name}_total" if kind == "counter" else name
    planted = f"# HELP {sample} words\n# TYPE {sample} {kind}\n{sample}{labels} 1\n"
    assert badly_named(everything().decode() + planted) == [found]


def test_a_missing_help_is_found():
    planted = "# TYPE vip_router_x gauge\nvip_router_x 1\n"
    assert badly_named(everything().decode() + planted) == ["vip_router_x: help"]


def test_nothing_is_registered_with_the_process_wide_registry():
    before = set(REGISTRY._names_to_collectors)
    Metrics(lambda: NOW_MS)
    Timings(CollectorRegistry())
    assert set(REGISTRY._names_to_collectors) == before


def rules_of(path: Path) -> list[dict[str, Any]]:
    """The alerting rules as far as these tests need them: name, expression and labels of one line each."""
    rules: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, rest = line.strip().removeprefix("- ").partition(": ")
        if key == "alert":
            rules.append({"alert": rest})
        elif key in {"expr", "summary", "runbook_url", "severity", "for"}:
            rules[-1][key] = rest
    return rules


def unknown_commands(text: str) -> list[str]:
    """The oracle: commands of ours in a text that the program does not have."""
    tree = typer.main.get_command(app)
    unknown = []
    for line in re.findall(r"vip-router ([a-z][a-z -]*[a-z])", text):
        command: Any = tree
        for word in line.split():
            commands = getattr(command, "commands", None)
            if commands is None or word.startswith("-"):
                break
            if word not in commands:
                unknown.append(line)
                break
            command = commands[word]
    return unknown


def test_the_runbook_names_only_commands_that_there_are():
    text = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    assert text.count("vip-router ") >= 10
    assert unknown_commands(text) == []
    assert unknown_commands("vip-router audit mend; vip-router audit verify --json; vip-router heal") == [
        "audit mend",
        "heal",
    ], "planted ones are found"


DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = rules_of(DEPLOY / "alerts.yaml")


def unknown_metrics(rules: Sequence[dict[str, Any]], text: str) -> set[str]:
    """The oracle: metrics of ours that a rule asks for and a scrape does not have."""
    has = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    return {name for rule in rules for name in re.findall(r"vip_router_\w+", rule["expr"]) if name not in has}


def test_every_alert_asks_for_metrics_that_there_are():
    assert len(RULES) >= 10
    assert unknown_metrics(RULES, everything().decode()) == set()
    assert unknown_metrics([{"expr": "rate(vip_router_fenced_total[5m]) > 0"}], everything().decode()) == {
        "vip_router_fenced_total"
    }, "a rule with a misspelt name is found"


def roles_not_missed(rules: Sequence[dict[str, Any]]) -> set[str]:
    """The oracle: roles for which no alarm fires when no process exports them at all."""
    alarms = " ".join(rule["expr"] for rule in rules)
    return {role for role in ROLES if f'absent(vip_router_owned{{role="{role}"}})' not in alarms}


def test_a_role_that_no_process_exports_is_missed():
    assert roles_not_missed(RULES) == set()
    less = [{"expr": rule["expr"].replace('role="crm"', 'role="cmr"')} for rule in RULES]
    assert roles_not_missed(less) == {"crm"}, "a role that is left out is found"


def test_every_alert_says_what_is_wrong_and_has_its_section_in_the_runbook():
    headings = re.findall(r"^## (\w+)", (DEPLOY / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [rule["alert"] for rule in RULES if rule["alert"] not in headings] == []
    for rule in RULES:
        assert {"expr", "for", "severity", "summary", "runbook_url"} <= set(rule), rule["alert"]
        assert f"runbook.md#{rule['alert'].lower()}" in rule["runbook_url"]
