"""``serve``: the roles of one process under one supervisor.

It reads the policy, opens the log, owns its roles, runs their lanes and the CRM consumer, and ends all of them when one
of them cannot go on. Deciding is the lanes' business, signals ``consumers/signals.py``'s, words and exit codes the
command line's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from consumers.crm.bounds import Bounds
from consumers.crm.client import CrmClient
from consumers.crm.consumer import GROUP, CrmConsumer
from consumers.lane import Lane
from consumers.lane_spec import LaneLimits, LaneSpec
from consumers.opening import Counts, counts_of, opened_or_made
from consumers.policies import load_policies
from consumers.policy_book import PolicyBook
from consumers.roles import Role, Worker, first_error
from consumers.secrets import Secrets, missing_secrets
from consumers.settings import ServeSettings
from consumers.specs import ASSIGNER, ROUTER
from consumers.telemetry.telemetry import Telemetry
from consumers.telemetry.views import Followed, Watched
from events.clock import unix_ms
from events.log import Log, LogError, TopicPartition
from events.open_log import OwnedLog
from events.topics import DEAD_LETTERS, ROUTING_LOG
from routing.errors import PolicyError
from routing.policy import Policy

LOOK_INTERVAL_S: Final = 0.02  #: how often readiness and idleness are looked at
FLAWS_TOLD_MAX: Final = 10
LIMITS: Final = LaneLimits(wait_max_s=1.0)  #: so long until an idle lane sees that policies were exchanged

Tell = Callable[[str], None]

logger = logging.getLogger(__name__)


class Served(NamedTuple):
    """What a ``serve`` has done."""

    inputs: int
    records: int
    dead_letters: int  #: that came while it ran, from whomever


async def serve(
    settings: ServeSettings,
    stop: asyncio.Event,
    *,
    reload: asyncio.Event | None = None,
    tell: Tell = logger.info,
) -> Served:
    """Run the roles until ``stop`` is set, or until they are idle if the settings say so; then drain.

    ``reload``: read the policy again whenever it is set; one that is broken is refused and the old one stays.
    ``tell`` gets sentences for people, and ``ready`` once all lanes read. Raises ``PolicyError`` before the log is
    opened, and ``LogError`` when the log cannot be used (any more), or when another serve has a role for as long as
    ``until_idle_s``: nothing that was acknowledged is lost.
    """
    secrets = Secrets.from_environment()
    book = PolicyBook(read_policies(settings, secrets))
    async with (
        Telemetry(settings.metrics, stop, clock=unix_ms, tell=tell) as telemetry,
        opened_or_made(
            settings.log_url,
            partitions=settings.partitions,
            workspace_partitions=settings.workspace_partitions,
            topic_prefix=settings.topic_prefix,
            tell=tell,
        ) as log,
        CrmClient(clock=unix_ms, secrets=secrets, connections_max=settings.look_ups_max) as client,
    ):
        await refuse_flaws(log, tell)
        counts = await counts_of(log)
        _tell_counts(settings, counts, tell)
        dead_letters = await _end(log, DEAD_LETTERS)
        roles = _roles(settings, log, book, client, counts, telemetry)
        telemetry.watch(Watched(log=log, roles=roles, book=book, followed=_followed(roles)))
        await _Supervisor(settings, log, roles, stop, tell).run(reload, book, secrets)
        return Served(
            inputs=sum(role.count("inputs") for role in roles),
            records=sum(role.count("records") for role in roles),
            dead_letters=await _end(log, DEAD_LETTERS) - dead_letters,
        )


def read_policies(settings: ServeSettings, secrets: Secrets) -> dict[str, Policy]:
    """The policies that the settings name; raises ``PolicyError``, also for secrets that are not there."""
    policies = load_policies(settings.policy, workspace=settings.workspace)
    if "crm" in settings.roles:  # it alone holds them
        for policy in policies.values():
            for problem in missing_secrets(policy, secrets):
                raise PolicyError(str(problem), key="crm", source=str(settings.policy))
    return policies


def _roles(
    settings: ServeSettings, log: Log, book: PolicyBook, client: CrmClient, counts: Counts, telemetry: Telemetry
) -> list[Role]:
    bounds, watched_client = Bounds(), telemetry.watched_look_ups(client)

    def lanes(spec: LaneSpec, partitions: int) -> Role:
        watched = telemetry.watched_log(log, spec.role)
        return Role(
            spec.role, partitions, lambda number: Lane(watched, spec, number, book, clock=unix_ms, limits=LIMITS)
        )

    def crm(partition: int) -> Worker:
        return CrmConsumer(log, [partition], client=watched_client, clock=unix_ms, bounds=bounds, cached=client.cached)

    known = {
        "router": lambda: lanes(ROUTER, counts.contacts),
        "crm": lambda: Role("crm", counts.contacts, crm),
        "assigner": lambda: lanes(ASSIGNER, counts.workspaces),
    }
    return [known[name]() for name in settings.roles]


def _followed(roles: Sequence[Role]) -> list[Followed]:
    """The CRM role keeps its position as a group's, over the partitions that it has now."""

    def places(role: Role) -> list[TopicPartition]:
        return [TopicPartition(ROUTING_LOG, number) for number in role.partitions]

    return [Followed("crm", GROUP, partial(places, role)) for role in roles if role.name == "crm"]


async def refuse_flaws(log: OwnedLog, tell: Tell) -> None:
    """Raise ``LogError`` if the log's own settings break the promises; tell what only weakens them.

    One problem a line, the worst first, and no more than can be read.
    """
    flaws = sorted(await log.flaws(), key=lambda flaw: not flaw.is_fatal)
    fatal = [flaw for flaw in flaws if flaw.is_fatal]
    if len(fatal) == 1:
        flaws.remove(fatal[0])  # it is what the last line says
    for flaw in flaws[:FLAWS_TOLD_MAX]:
        tell(flaw.sentence if flaw.is_fatal else f"warning: {flaw.sentence}")
    if len(flaws) > FLAWS_TOLD_MAX:
        tell(f"{len(flaws) - FLAWS_TOLD_MAX} more: vip-router topics check")
    if len(fatal) == 1:
        raise LogError(f"{fatal[0].sentence}; see vip-router topics check")
    if fatal:
        raise LogError(f"{len(fatal)} problems break what the log has to promise: see vip-router topics check")


def _tell_counts(settings: ServeSettings, counts: Counts, tell: Tell) -> None:
    """Counts that were asked for and are not had: they are fixed when a log is made."""
    for name, asked, has in (
        ("partitions", settings.partitions, counts.contacts),
        ("workspace-partitions", settings.workspace_partitions, counts.workspaces),
    ):
        if asked not in (None, has):
            tell(f"--{name} {asked} is left aside: this log was made with {has}, and that is fixed")


async def _end(log: Log, topic: str) -> int:
    """How many records a topic has had, over all partitions."""
    places = [TopicPartition(topic, number) for number in range(await log.partition_count(topic))]
    return sum([await log.end_offset(place) for place in places])


class _Supervisor:
    """Runs roles together: all of them, or none."""

    def __init__(
        self, settings: ServeSettings, log: OwnedLog, roles: Sequence[Role], stop: asyncio.Event, tell: Tell
    ) -> None:
        self._settings = settings
        self._log = log
        self._roles = roles
        self._stop = stop
        self._tell = tell

    async def run(self, reload: asyncio.Event | None, book: PolicyBook, secrets: Secrets) -> None:
        """Run until stopped; raises the first error of a role when all have ended, and ``LogError`` if one never began.

        That only ``until_idle_s`` brings about: without it a role is waited for as long as it takes.
        """
        missed: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                workers = {role.name: group.create_task(self._own(role)) for role in self._roles}
                helpers = [group.create_task(self._announce())]
                if self._settings.until_idle_s is not None:
                    helpers.append(group.create_task(self._stop_when_idle(self._settings.until_idle_s, missed)))
                if reload is not None:
                    helpers.append(group.create_task(self._reload_whenever(reload, book, secrets)))
                await self._stop.wait()
                for role in self._roles:
                    if not role.is_owned:
                        workers[role.name].cancel()
                await asyncio.wait(workers.values())
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as group_error:
            raise first_error(group_error) from None
        if missed:
            roles = f"role{'s' if len(missed) > 1 else ''} {', '.join(missed)}"
            raise LogError(
                f"another serve has the {roles} of this log, and did not end within --until-idle "
                f"{self._settings.until_idle_s:g}s: end it, or leave --until-idle out to wait for it"
            )

    async def _own(self, role: Role) -> None:
        def waiting() -> None:
            self._tell(f"another serve has the role {role.name} of this log: waiting until it ends")

        await role.run(self._log, self._stop, waiting=waiting)

    async def _announce(self) -> None:
        while not all(role.is_ready() for role in self._roles):  # noqa: ASYNC110  # a lane tells nobody
            await asyncio.sleep(LOOK_INTERVAL_S)
        self._tell("ready")

    async def _stop_when_idle(self, idle_s: float, missed: list[str]) -> None:
        """Set ``stop`` when for ``idle_s`` nothing came, nothing was decided and no look-up was on its way.

        To wait for a role that another serve has is to be idle; such roles are put into ``missed``.
        """
        loop = asyncio.get_running_loop()
        quiet_since_s, seen = loop.time(), -1
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            work = sum(role.count("inputs") for role in self._roles)
            if work != seen or not all(role.is_idle() or role.is_standby for role in self._roles):
                quiet_since_s, seen = loop.time(), work
            elif loop.time() - quiet_since_s >= idle_s:
                # A log that is slow to answer looks just as quiet: ask it.
                is_done = all([await role.is_caught_up() for role in self._roles])
                if self._stop.is_set():
                    return  # what a role lets go of now it has not missed
                if is_done:
                    missed += [role.name for role in self._roles if role.is_standby]
                    self._stop.set()
                    return
                quiet_since_s = loop.time()

    async def _reload_whenever(self, reload: asyncio.Event, book: PolicyBook, secrets: Secrets) -> None:
        while True:
            await reload.wait()
            reload.clear()
            try:
                policies = await asyncio.to_thread(read_policies, self._settings, secrets)
            except PolicyError as error:
                book.refused += 1
                self._tell(f"the policy is refused, the old one stays: {error}")
            else:
                gone = sorted(set(book.workspaces()) - set(policies))
                book.exchange(policies)
                versions = ", ".join(f"{name} {policy.version}" for name, policy in sorted(policies.items()))
                self._tell(f"the policy was read again, new conversations start with it: {versions}")
                if gone:
                    names = ", ".join(gone)
                    self._tell(f"no policy any more for {names}: new conversations there go to the dead letters")
