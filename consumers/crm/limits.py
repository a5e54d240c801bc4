"""How many connections the operating system lets a process have."""

from __future__ import annotations

import logging
import resource
from typing import Final

FILES_KEPT: Final = 256  #: open files for everything else

logger = logging.getLogger(__name__)


def files_allow(connections_max: int) -> int:
    """As many connections as wanted, or as the limit of open files leaves room for, at least one; says so if fewer."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or connections_max + FILES_KEPT <= soft:
        return connections_max
    room = max(1, soft - FILES_KEPT)
    logger.info(
        "at most %d CRM requests at a time, not %d: %d files may be open; raise that limit (ulimit -n)",
        room, connections_max, soft,
    )  # fmt: skip
    return room
