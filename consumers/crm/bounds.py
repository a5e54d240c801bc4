"""How many look-ups a process may have on their way, in all and for one workspace."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

IN_FLIGHT_MAX: Final = 200_000
WORKSPACE_MAX: Final = 120_000


class Bounds:
    """Places for look-ups, shared by the consumers of one process."""

    def __init__(self, *, in_flight_max: int = IN_FLIGHT_MAX, workspace_max: int = WORKSPACE_MAX) -> None:
        self.slots = asyncio.Semaphore(in_flight_max)
        self.workspace_max = workspace_max
        self.held: Counter[str] = Counter()  #: on their way, by workspace

    async def enter(self) -> None:
        """Wait for a place."""
        await self.slots.acquire()

    def leave(self, workspace: str) -> None:
        """Give the place of a look-up back that ``held`` counts."""
        self.held[workspace] -= 1
        if not self.held[workspace]:
            del self.held[workspace]
        self.slots.release()
