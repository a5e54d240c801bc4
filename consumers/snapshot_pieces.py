"""Cuts snapshot entries that no record may hold whole, and puts them together again.

The pieces are named by the hash of what they make up, so that those of two writers at the same F are never mixed.
What is not whole is no entry; whether the snapshot can do without it is ``snapshots.py``'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

PIECE: Final = "piece-"  #: no part's key begins so without a slash
PIECE_BYTES_MAX: Final = 500_000  #: of an entry's value in one record: far below what the topics take


class Joined(NamedTuple):
    """What was made of the pieces that are there."""

    records: Mapping[tuple[str, int], Sequence[str]]  #: per key and F of an entry the keys of its pieces
    unused: Sequence[str]  #: the keys of pieces that make up nothing, or what is there already


def records_of(key: str, end: int, value: bytes) -> Sequence[tuple[str, bytes]]:
    """Keys and values of the records that hold the entry ``key@end``: one, or pieces if it is too large."""
    if len(value) <= PIECE_BYTES_MAX:
        return [(f"{key}@{end}", value)]
    whole = b"{" + msgspec.json.encode(key) + b":" + value + b"}"
    cuts = range(0, len(whole), PIECE_BYTES_MAX)
    name = f"{PIECE}{_hash(whole)}-{len(cuts)}"
    return [(f"{name}-{i}@{end}", whole[at : at + PIECE_BYTES_MAX]) for i, at in enumerate(cuts)]


def join(entries: dict[str, dict[int, bytes]]) -> Joined:
    """Put the entries that stand in pieces into ``entries``, in the place of their pieces; per key and F the value."""
    sets: dict[tuple[int, str], dict[str, bytes]] = {}
    for key in [key for key in entries if key.startswith(PIECE) and "/" not in key]:
        for end, value in entries.pop(key).items():
            sets.setdefault((end, key.rpartition("-")[0]), {})[key] = value
    records: dict[tuple[str, int], Sequence[str]] = {}
    unused: list[str] = []
    for (end, name), pieces in sorted(sets.items()):  # of two that hold the same, every loader takes the same one
        keys = [f"{key}@{end}" for key in pieces]
        entry = _whole(name, pieces)
        if entry is None or end in entries.get(entry[0], {}):
            unused.extend(keys)
        else:
            entries.setdefault(entry[0], {})[end] = entry[1]
            records[entry[0], end] = tuple(keys)
    return Joined(records, unused)


def _whole(name: str, pieces: Mapping[str, bytes]) -> tuple[str, bytes] | None:
    """Key and value of the entry; None if a piece is missing or is not what was written."""
    _, hashed, count = name.split("-")
    wanted = [f"{name}-{i}" for i in range(int(count))]
    if any(key not in pieces for key in wanted):
        return None
    whole = b"".join(pieces[key] for key in wanted)
    if _hash(whole) != hashed:
        return None
    ((key, value),) = msgspec.json.decode(whole, type=dict[str, msgspec.Raw]).items()
    return key, bytes(value)


def _hash(whole: bytes) -> str:
    return sha256(whole).hexdigest()[:32]
