"""Errors as exit codes and sentences: 2 unusable arguments or policy, 3 the log or a server, 70 a fault of ours.

The codes are part of the contract. A traceback is shown only with ``VIP_ROUTER_DEBUG=1``, and of an error that nobody
expected only its kind and place: its message may hold what nobody may read.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DONE: Final = 0
BAD_NEWS: Final = 1
UNUSABLE: Final = 2
UNREACHABLE: Final = 3
FAULT: Final = 70
DEBUG_VARIABLE: Final = "VIP_ROUTER_DEBUG"


class CommandError(Exception):
    """Ends the command with this exit code; ``str()`` is a sentence that says what to do."""

    def __init__(self, sentence: str, *, code: int = UNUSABLE) -> None:
        super().__init__(sentence)
        self.code = code


def ended_by(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence for what ended a command."""
    # Commands that cannot fail so have not imported these, and need not.
    loaded = sys.modules
    if isinstance(error, CommandError):
        return error.code, str(error)
    for module, name, code in _KNOWN:
        known = getattr(loaded.get(module), name, None)
        if known is not None and isinstance(error, known):
            return code, _of_damage(error) if name in _DAMAGE else str(error)
    return FAULT, f"a fault of vip-router: {type(error).__name__} at {_place(error)}; {DEBUG_VARIABLE}=1 shows more"


_KNOWN: Final = (
    ("routing.errors", "PolicyError", UNUSABLE),
    ("consumers.secrets", "SecretError", UNUSABLE),
    ("consumers.settings", "SettingsError", UNUSABLE),
    ("events.log", "DamagedLogError", UNREACHABLE),
    ("events.records", "RecordError", UNREACHABLE),
    ("events.log", "LogError", UNREACHABLE),
)
_DAMAGE: Final = frozenset({"DamagedLogError", "RecordError"})


def _of_damage(error: BaseException) -> str:
    return f'the log is damaged or was cut: {error}; "vip-router audit verify" says more'


def report(error: BaseException) -> int:
    """Say on stderr what ended the command; returns the exit code."""
    code, sentence = ended_by(error)
    if os.environ.get(DEBUG_VARIABLE, "") not in {"", "0"}:
        traceback.print_exception(error)
    sys.stderr.write(f"vip-router: {sentence}\n")
    return code


@contextmanager
def as_unusable(what: str) -> Iterator[None]:
    """Errors of the operating system about ``what``, a file that the user named, end the command with exit 2."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{what}: {error.strerror or error}; name a file that can be used") from None


def _place(error: BaseException) -> str:
    """File and line of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "an unknown place"  # noqa: PTH119
