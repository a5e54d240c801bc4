"""Plays the examples: each event is published when what it waits for has happened, never after a fixed time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from consumers.demo.comparing import is_settled
from consumers.demo.examples import Examples, Step
from consumers.demo.observed import Observed
from consumers.opening import Counts
from consumers.publisher import publish_all
from events.log import Log

STILL_S: Final = 30.0  #: a scene in which nothing happens for so long will not end any more

OnProgress = Callable[[int, int], None]  #: how many of the scene's conversations and agents are settled, of how many


class Player:
    """One playing of the examples on a log that ``serve`` works on."""

    def __init__(self, log: Log, counts: Counts, examples: Examples, observed: Observed) -> None:
        self._log = log
        self._counts = counts
        self._examples = examples
        self._observed = observed
        self._agent_events: Counter[str] = Counter()
        self._last_scene = {step.subject: step.scene for step in examples.steps if step.subject is not None}
        self.published = 0

    async def play(self, scene: str, *, on_progress: OnProgress) -> list[str]:
        """Publish a scene's events and wait until they have had their effect.

        Returns the conversations and agents that have not settled when nothing has happened for ``STILL_S``; empty:
        all have.
        """
        steps = [step for step in self._examples.steps if step.scene == scene]
        waiting: dict[str, deque[Step]] = {}
        for step in steps:
            waiting.setdefault(step.whose, deque()).append(step)
        subjects = list(dict.fromkeys(step.subject for step in steps if step.subject is not None))
        agents = {step.subject for step in steps if step.of_agent}
        while True:
            self._observed.changed.clear()
            published = await self._publish(waiting)
            unsettled = [name for name in subjects if not self._is_settled(name, scene, is_agent=name in agents)]
            on_progress(len(subjects) - len(unsettled), len(subjects))
            if not unsettled and not any(waiting.values()):
                return []
            if not published and not await self._something_happens():
                return unsettled or [step.whose for steps in waiting.values() for step in steps]

    async def _something_happens(self) -> bool:
        try:
            async with asyncio.timeout(STILL_S):
                await self._observed.changed.wait()
        except TimeoutError:
            return False
        return True

    async def _publish(self, waiting: dict[str, deque[Step]]) -> int:
        """Publish all that may be published now, in order for each contact and agent; returns how many."""
        steps: list[Step] = []
        for queue in waiting.values():
            while queue and self._may_go(queue[0]):
                steps.append(queue.popleft())
        await self._send(sorted(steps, key=lambda step: (not step.of_agent, step.number)))
        self._agent_events.update(step.subject for step in steps if step.of_agent and step.subject is not None)
        return len(steps)

    async def _send(self, steps: Sequence[Step]) -> None:
        records = [step.record(self._counts) for step in steps]
        if records:
            await publish_all(self._log, records)
            self.published += len(records)

    def _may_go(self, step: Step) -> bool:
        after = step.after
        if after is None:
            return True
        stories = (self._observed.stories, self._observed.agents)
        return any(
            after.subject in those and those[after.subject].happened[after.what] >= after.times for those in stories
        )

    def _is_settled(self, name: str, scene: str, *, is_agent: bool) -> bool:
        if is_agent:
            return self._observed.agent(name).happened["changed"] >= self._agent_events[name]
        expected, story = self._examples.expected.get(name), self._observed.stories.get(name)
        if story is None:
            return False
        return expected is None or is_settled(expected, story, at_its_end=self._last_scene[name] == scene)
