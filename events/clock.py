"""The machine's clock, for what may read one: adapters and commands. Lanes are given theirs."""

from __future__ import annotations

import time


def unix_ms() -> int:
    """Unix milliseconds, now."""
    return time.time_ns() // 1_000_000
