"""The figures of a ``serve`` process as Prometheus metrics, made at the scrape from what lanes and roles already keep.

A registry of its own: nothing is registered with the library's process-wide one. Labels are roles, partitions, topics,
workspaces and reasons, never the id of anybody or anything personal. What has to be asked of the log is asked before
(``readings.py``); what a lane does not count is measured in ``watching.py``, workspaces are told of by ``desks.py``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.telemetry.readings import LOG_OF, Reading
from consumers.telemetry.views import ATTEMPTS, LaneFigures, LaneView, LookUpFigures, Watched
from consumers.telemetry.watching import Timings
from events.log import TopicPartition

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LANE: Final = ("role", "partition")

#: The lanes' counts: key, metric, help.
LANE_COUNTS: Final = (
    ("inputs", "vip_router_inputs", "Inputs and deadlines decided."),
    ("records", "vip_router_records", "Log records appended and acknowledged."),
    ("batches", "vip_router_batches", "Appends acknowledged."),
    ("aside", "vip_router_set_aside", "Inputs sent to the dead letters, or on to the partition that they belong on."),
    ("fenced", "vip_router_fenced_appends", "Appends refused or not answered; what they held is decided anew."),
    (
        "taken over again",
        "vip_router_take_overs",
        "Times that the lane had to fold its log to the end and begin again.",
    ),
)


class Metrics:
    """A process's metrics. ``watched`` and ``look_ups`` may come later than the first scrape."""

    def __init__(self, clock: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each histogram, which nobody reads
        self.registry = CollectorRegistry(auto_describe=False)
        self.timings = Timings(self.registry)
        self._clock = clock
        self._figures = Figures(self.timings, clock)
        self.registry.register(self._figures)
        ProcessCollector(registry=self.registry)

    def text(self, watched: Watched | None, look_ups: LookUpFigures | None, reading: Reading | None) -> bytes:
        """All of it in Prometheus' text format."""
        self._figures.watched, self._figures.look_ups, self._figures.reading = watched, look_ups, reading
        return generate_latest(self.registry)


class Figures(Collector):
    """What is read off lanes, roles, look-ups and policies when it is asked for. ``clock`` gives Unix milliseconds."""

    def __init__(self, timings: Timings, clock: Callable[[], int]) -> None:
        self._timings = timings
        self._clock = clock
        self.watched: Watched | None = None
        self.look_ups: LookUpFigures | None = None
        self.reading: Reading | None = None

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        yield _build()
        if self.watched is not None:
            lanes = [(role.name, lane) for role in self.watched.roles if role.is_owned for lane in role.lanes]
            yield _owned(self.watched)
            yield from _counted(lanes)
            yield from self._standing([(name, lane, lane.figures()) for name, lane in lanes])
            yield from _policies(self.watched)
        if self.reading is not None:
            yield from _log_says(self.reading)
        yield from _set_aside(self._timings)
        if self.look_ups is not None:
            yield from _look_ups(self.look_ups)

    def _standing(self, lanes: list[tuple[str, LaneView, LaneFigures]]) -> Iterator[Metric]:
        """How each lane stands at this moment."""
        ready = _gauge("vip_router_ready", "1 while the lane reads; 0 while it takes over.")
        end = _gauge("vip_router_log_end", "The offset after the last record of the lane's log, as it knows it.")
        backlog = _gauge(
            "vip_router_outputs_backlog", "Log records from the oldest with an unconfirmed output to the end."
        )
        full = _gauge(
            "vip_router_outputs_backlog_full", "1 while the lane decides nothing until outputs are confirmed."
        )
        waiting = _gauge(
            "vip_router_passed_deadlines_wait_seconds",
            "How long deadlines that have passed wait for inputs that came before them; 0: none waits.",
        )
        unsaved = _gauge(
            "vip_router_records_since_snapshot", "Log records since the newest snapshot: a take-over folds so many."
        )
        skew = _gauge("vip_router_clock_skew_seconds", "This machine's clock minus the log's, at the last append.")
        for name, lane, figures in lanes:
            labels = (name, str(figures.partition))
            ready.add_metric(labels, float(lane.is_ready))
            end.add_metric(labels, figures.end)
            backlog.add_metric(labels, 0 if figures.mark is None else max(figures.end - figures.mark, 0))
            full.add_metric(labels, float(figures.is_full))
            waited_ms = 0 if figures.passed_ms is None else max(self._clock() - figures.passed_ms, 0)
            waiting.add_metric(labels, waited_ms / 1_000)
            unsaved.add_metric(labels, max(figures.end - figures.snapshot_end, 0))
            apart_ms = self._timings.apart_ms.get(TopicPartition(LOG_OF[name], figures.partition))
            if apart_ms is not None:
                skew.add_metric(labels, apart_ms / 1_000)
        yield from (ready, end, backlog, full, waiting, unsaved, skew)


def _gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=LANE)


def _build() -> Metric:
    words = {"version": version("vip-router"), "python": platform.python_version()}
    return InfoMetricFamily("vip_router_build", "What runs.", value=words)


def _owned(watched: Watched) -> Metric:
    owned = GaugeMetricFamily(
        "vip_router_owned", "1 for a role that this process works at, 0 if it stands by.", labels=["role"]
    )
    for role in watched.roles:
        owned.add_metric([role.name], float(role.is_owned))
    return owned


def _counted(lanes: list[tuple[str, LaneView]]) -> Iterator[Metric]:
    for key, name, documentation in LANE_COUNTS:
        family = CounterMetricFamily(name, documentation, labels=LANE)
        for role, lane in lanes:
            family.add_metric((role, str(lane.figures().partition)), lane.counts[key])
        yield family


def _policies(watched: Watched) -> Iterator[Metric]:
    family = InfoMetricFamily(
        "vip_router_policy", "The policy that new conversations start with.", labels=["workspace"]
    )
    for workspace in watched.book.workspaces():
        family.add_metric([workspace], {"version": watched.book.current(workspace).version})
    yield family
    yield CounterMetricFamily(
        "vip_router_policy_reloads_refused",
        "Times that a policy was read again and was so broken that the old one stayed.",
        value=watched.book.refused,
    )


def _log_says(reading: Reading) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "vip_router_log_up", "1 if the log answered at this scrape.", value=float(reading.log_answers)
    )
    lag = GaugeMetricFamily(
        "vip_router_lag", "Records of a topic that the role has not worked on yet.", labels=[*LANE, "topic"]
    )
    for (role, place), records in reading.lags.items():
        lag.add_metric((role, str(place.partition), place.topic), records)
    yield lag
    partitions = GaugeMetricFamily(
        "vip_router_partitions", "The role's partitions, whoever works on them.", labels=["role"]
    )
    for role, count in reading.partitions.items():
        partitions.add_metric([role], count)
    yield partitions


def _set_aside(timings: Timings) -> Iterator[Metric]:
    dead = CounterMetricFamily(
        "vip_router_dead_letters", "Inputs that could not be used.", labels=["role", "topic", "reason"]
    )
    for letters, count in timings.dead_letters.items():
        dead.add_metric(letters, count)
    rerouted = CounterMetricFamily(
        "vip_router_rerouted", "Inputs that lay on a foreign partition and were sent on.", labels=["role"]
    )
    for role, count in timings.rerouted.items():
        rerouted.add_metric([role], count)
    yield from (dead, rerouted)


def _look_ups(look_ups: LookUpFigures) -> Iterator[Metric]:
    counts = dict(look_ups.counts)
    yield GaugeMetricFamily("vip_router_crm_look_ups_in_flight", "CRM look-ups on their way.", value=look_ups.in_flight)
    attempts = counts.pop(ATTEMPTS, 0)
    yield CounterMetricFamily("vip_router_crm_attempts", "Requests to the CRM.", value=attempts)
    done = CounterMetricFamily("vip_router_crm_look_ups", "CRM look-ups that ended, by outcome.", labels=["outcome"])
    for outcome, count in sorted(counts.items()):
        done.add_metric([outcome], count)
    yield done
