"""Look-ups that were asked for so long ago that their deadline has passed, while nobody was there to do them.

Whether somebody still waits stands in the log: the router decides at the deadline, or, when it was away itself, gives
the look-up its full time once more. So such an ask is kept until the log says that it was decided without, or ends.
"""

from __future__ import annotations

from typing import TypeAlias

from consumers.crm.asks import Ask, moved_conversation
from events.log import StoredRecord, TopicPartition

_Key: TypeAlias = tuple[TopicPartition, str, str, str]  # its partition, workspace, contact and conversation


class Overdue:
    """Asks that were read past their deadline, at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._asks: dict[_Key, Ask] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._asks)

    def keep(self, ask: Ask) -> bool:
        """Keep one; False if there is no room: the router's deadline covers it then."""
        if len(self._asks) >= self._most:
            return False
        look_up = ask.look_up
        self._asks[ask.place, look_up.workspace, look_up.contact, look_up.conversation] = ask
        return True

    def settled_by(self, record: StoredRecord) -> Ask | None:
        """The ask that needs no answer any more, as this record, which comes after it, moves its conversation."""
        if not self._asks:
            return None
        moved = moved_conversation(record)
        return None if moved is None else self._asks.pop((record.place, *moved), None)

    def release(self) -> list[Ask]:
        """All that are kept, and keep none."""
        asks = list(self._asks.values())
        self._asks.clear()
        return asks
