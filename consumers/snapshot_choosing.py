"""Of all snapshot entries that there are, those that one snapshot is made of: each part's newest up to its F.

Whether they are as many as they have to be is ``snapshots.py``'s to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from consumers.lane_spec import SettledParts

Entries: TypeAlias = Mapping[str, Mapping[int, bytes]]  #: per key and F what the entry holds


class Chosen(NamedTuple):
    """What a snapshot is made of."""

    own: dict[str, tuple[int, bytes]]  #: of the parts that have an entry of their own: its F, and the part
    settled: dict[str, msgspec.Struct]  #: those that stand many together
    places: dict[str, tuple[int, str]]  #: of each part that does so anywhere: F and key of the newest such entry

    def __len__(self) -> int:
        return len(self.own) + len(self.settled)

    def end_of(self, part: str) -> int:
        """The F of the part's newest entry; -1: there is none."""
        found = self.own.get(part) or self.places.get(part)
        return -1 if found is None else found[0]

    def entries(self) -> set[tuple[str, int]]:
        """Keys and Fs of the entries that it needs."""
        together = {self.places[part] for part in self.settled}
        return {(key, end) for key, (end, _) in self.own.items()} | {(key, end) for end, key in together}


def choose(entries: Entries, end: int, settled: SettledParts | None, together: Collection[str]) -> Chosen:
    """Each part's newest entry up to ``end``; ``together`` are the keys of those that hold many settled parts."""
    chosen = Chosen({}, {}, {})
    for key, versions in entries.items():
        fitting = [at for at in versions if at <= end]
        if fitting and "/" in key:
            chosen.own[key] = (max(fitting), versions[max(fitting)])
    if settled is not None:
        _choose_settled(chosen, entries, end, settled, together)
    return chosen


def _choose_settled(
    chosen: Chosen, entries: Entries, end: int, settled: SettledParts, together: Collection[str]
) -> None:
    """Add the settled parts, and take those out whose other form is the later one."""
    for at, key in sorted((at, name) for name in together for at in entries[name] if at <= end):
        parts = settled.read(entries[key][at])
        chosen.settled.update(parts)
        chosen.places.update(dict.fromkeys(parts, (at, key)))
    for part in chosen.settled.keys() & chosen.own.keys():
        if chosen.own[part][0] > chosen.places[part][0]:
            del chosen.settled[part]
        else:
            del chosen.own[part]
