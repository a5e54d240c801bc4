"""What happens to a simulated support desk whoever gets what: contacts who come, agents' shifts, how long work takes.

All of it is drawn from one seed, the same for every strategy, so that strategies differ by their choices alone.
``month_loop.py`` lets it happen.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from routing.inputs import PoolTarget, PresenceStatus, RouteName, RouteTarget

StrategyName: TypeAlias = Literal["round-robin", "least-open", "longest-idle", "sticky"]
STRATEGIES: Final[tuple[StrategyName, ...]] = ("round-robin", "least-open", "longest-idle", "sticky")

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
START_MS: Final = DAY_MS  #: when conversations begin to come; shifts of the day before reach into the first night
STICKY_MS: Final = 7 * DAY_MS
ROUTES: Final[tuple[RouteName, ...]] = ("vip", "escalated", "regular")
#: how many of a day's conversations come in each hour, relative to one another
ARRIVALS: Final = (
    1.0, 0.7, 0.5, 0.4, 0.5, 0.8, 1.6, 2.8, 4.2, 5.6, 6.4, 6.6,
    6.0, 5.8, 6.2, 6.2, 5.8, 5.2, 4.6, 4.2, 3.6, 2.8, 2.0, 1.4,
)  # fmt: skip
#: at which hours shifts begin, and how many of them relative to one another
SHIFTS: Final = {0: 6, 4: 3, 5: 6, 6: 5, 7: 14, 8: 12, 9: 12, 10: 8, 12: 7, 13: 4, 14: 12, 15: 8, 16: 14}
SHIFT_MS: Final = 8 * HOUR_MS
BREAK_AFTER_MS: Final = 4 * HOUR_MS
BREAK_MS: Final = 30 * MINUTE_MS
DAYS_ON: Final = 5  #: of seven


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How large the desk is, and how busy."""

    seed: int = 6
    days: int = 30
    agents: int = 300
    conversations_a_day: int = 20_000
    contacts: int = 150_000
    vip_share: float = 0.03
    escalated_share: float = 0.02
    max_open: int = 4
    work_ms: int = 8 * MINUTE_MS  #: the median of how long a conversation takes an agent who has no other
    work_sigma: float = 0.7  #: of the logarithm: a few take much longer
    pace_sigma: float = 0.15  #: of the logarithm: agents differ too
    crowding: float = 0.2  #: how much longer it takes for each other conversation that the agent has

    @property
    def end_ms(self) -> int:
        """When no more conversations come."""
        return START_MS + self.days * DAY_MS


class Shown(NamedTuple):
    """An agent's presence changes."""

    at_ms: int
    agent: str
    status: PresenceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Everything that does not depend on the strategy. Conversations are numbers, in the order of their coming."""

    setting: Setting
    arrives_ms: array[int]
    contacts: array[int]
    routes: bytes  #: of each conversation the place of its route in ``ROUTES``
    work_ms: array[int]
    paces: dict[str, float]  #: of each agent how long he takes, relative to the others
    shown: list[Shown]
    shift_ms: dict[str, int] = field(default_factory=dict)  #: of each agent how long he is online in these days


@lru_cache(maxsize=1)
def drawn(setting: Setting) -> Month:
    """The month of a setting: the same for the same setting."""
    rng = Random(setting.seed)
    arrives_ms = array("q", _arrivals(setting, rng))
    contacts = array("q", (int(setting.contacts * rng.random() ** 2) for _ in arrives_ms))
    work_ms = array("q", (int(setting.work_ms * rng.lognormvariate(0, setting.work_sigma)) for _ in arrives_ms))
    paces = {agent: rng.lognormvariate(0, setting.pace_sigma) for agent in agents(setting)}
    month = Month(
        setting=setting,
        arrives_ms=arrives_ms,
        contacts=contacts,
        routes=bytes(_route(setting, contact, rng) for contact in contacts),
        work_ms=work_ms,
        paces=paces,
        shown=_presence(setting, rng),
    )
    _add_shifts(month)
    return month


def agents(setting: Setting) -> list[str]:
    """Their ids."""
    return [f"agent-{number:03}" for number in range(setting.agents)]


def teams_of(agent: str) -> tuple[str, ...]:
    """All work for support; one in ten for VIPs too, one in fifteen is a manager too."""
    number = int(agent.removeprefix("agent-"))
    more = (("managers", number % 15 == 1), ("vip-desk", number % 10 == 0))
    return ("support", *(team for team, belongs in more if belongs))


def targets(strategy: StrategyName) -> dict[RouteName, RouteTarget]:
    """The routes of the desk's policy. Sticky: the agent of the contact's last conversation, else longest idle."""
    rest: Literal["round-robin", "least-open", "longest-idle"] = "longest-idle" if strategy == "sticky" else strategy
    sticky_ms = STICKY_MS if strategy == "sticky" else None
    support = PoolTarget(team="support", strategy=rest)
    vip = RouteTarget(
        team="vip-desk", strategy=rest, sticky_ms=sticky_ms, fallback=support, fallback_after_ms=MINUTE_MS
    )
    escalated = RouteTarget(
        team="managers", strategy=rest, sticky_ms=sticky_ms, fallback=support, fallback_after_ms=2 * MINUTE_MS
    )
    return {
        "vip": vip,
        "escalated": escalated,
        "regular": RouteTarget(team="support", strategy=rest, sticky_ms=sticky_ms),
    }


def _arrivals(setting: Setting, rng: Random) -> Iterator[int]:
    cum_weights = list(accumulate(ARRIVALS))
    for day in range(setting.days):
        hours = rng.choices(range(len(ARRIVALS)), cum_weights=cum_weights, k=setting.conversations_a_day)
        yield from sorted(START_MS + day * DAY_MS + hour * HOUR_MS + int(rng.random() * HOUR_MS) for hour in hours)


def _route(setting: Setting, contact: int, rng: Random) -> int:
    """Whether somebody is a VIP is the contact's, whether he is escalated the conversation's."""
    if contact % 100 >= 100 - 100 * setting.vip_share:  # not the first: they come most often
        return 0
    return 1 if rng.random() < setting.escalated_share else 2


def _presence(setting: Setting, rng: Random) -> list[Shown]:
    """Everybody has a shift of his own, a break in its middle, and two days off in seven."""
    shown: list[Shown] = []
    for number, agent in enumerate(agents(setting)):
        hour = rng.choices(list(SHIFTS), weights=list(SHIFTS.values()))[0]
        start_ms = hour * HOUR_MS + int(rng.random() * HOUR_MS)
        shown.append(Shown(0, agent, "offline"))
        for day in range(setting.days + 2):  # on the last those are served who still wait
            if (day + number) % 7 < DAYS_ON:
                shown += _shift(agent, day * DAY_MS + start_ms)
    return sorted(shown)


def _shift(agent: str, start_ms: int) -> list[Shown]:
    break_ms = start_ms + BREAK_AFTER_MS
    return [
        Shown(start_ms, agent, "online"),
        Shown(break_ms, agent, "away"),
        Shown(break_ms + BREAK_MS, agent, "online"),
        Shown(start_ms + SHIFT_MS, agent, "offline"),
    ]


def _add_shifts(month: Month) -> None:
    since_ms: dict[str, int] = {}
    end_ms = month.setting.end_ms
    for at_ms, agent, status in month.shown:
        if status == "online":
            since_ms[agent] = at_ms
        elif agent in since_ms:
            worked_ms = max(min(at_ms, end_ms) - max(since_ms.pop(agent), START_MS), 0)
            month.shift_ms[agent] = month.shift_ms.get(agent, 0) + worked_ms
