"""Reading data of an older schema version as if it had been written in the newest.

A breaking change is a new type (``<type>.v2``), so most types stay at version 1 for ever and nothing is registered.
An upcast is a pure function from one version's ``data`` to the next one's; it does not change what it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from events.cloudevents import BadInputError

Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

_version: Final = re.compile(r"[1-9][0-9]{0,5}").fullmatch
_PREFIX: Final = "urn:vip-router:"


class Upcasts:
    """The upcasts that a reader knows. Register while starting, before anything is read."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Upcast] = {}
        self._newest: dict[str, int] = {}

    def register(self, type_: str, from_version: int, upcast: Upcast) -> None:
        """Let ``upcast`` turn data of ``type_`` in ``from_version`` into the version after it.

        Steps are registered from version 1 on, without a gap and each once; ``ValueError`` otherwise.
        """
        newest = self.newest(type_)
        if from_version != newest:
            raise ValueError(f"{type_}: the next step to register is from version {newest}, not {from_version}")
        self._steps[type_, from_version] = upcast
        self._newest[type_] = newest + 1

    def newest(self, type_: str) -> int:
        """The version that data of ``type_`` is read in."""
        return self._newest.get(type_, 1)

    def apply(self, type_: str, dataschema: str | None, data: dict[str, Any]) -> dict[str, Any]:
        """``data`` in the newest version of ``type_``.

        Raises ``BadInputError``: ``bad-envelope`` for a version that is newer than this code or a schema of another
        type, ``bad-data`` where an upcast does not find what it needs.
        """
        if dataschema is None and type_ not in self._newest:
            return data
        version = schema_version(type_, dataschema)
        newest = self.newest(type_)
        if version > newest:
            raise BadInputError(
                "bad-envelope", f"dataschema: version {version} is newer than this router, which knows {newest}"
            )
        for step in range(version, newest):
            data = self._step(type_, step, data)
        return data

    def _step(self, type_: str, version: int, data: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._steps[type_, version](data)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"data: does not have what version {version} has ({type(error).__name__})"
            raise BadInputError("bad-data", problem) from None


@lru_cache(maxsize=1024)  # what we write ourselves names one each time
def schema_version(type_: str, dataschema: str | None) -> int:
    """The version that ``dataschema`` names; 1 if there is none or it is not ours (a producer's own schema).

    Raises ``BadInputError`` if it is ours but of another type, or its version is no number.
    """
    if dataschema is None or not dataschema.startswith(_PREFIX):
        return 1
    name, _, version = dataschema.removeprefix(_PREFIX).rpartition(":")
    if name != type_ or _version(version) is None:
        raise BadInputError(
            "bad-envelope", "dataschema: must be urn:vip-router:<type>:<version> with the event's own type, or absent"
        )
    return int(version)


UPCASTS: Final = Upcasts()  #: what the readers of this release know
