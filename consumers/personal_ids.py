"""Notices contact ids that are personal data themselves: they stand in keys and ids, where nothing can be erased."""

from __future__ import annotations

import logging
import re
from typing import Final

from routing.decider import LogRecord

logger = logging.getLogger(__name__)

_is_personal: Final = re.compile(
    r"[^@\s]+@[^@\s]+\.[^@\s]+"  # an e-mail address
    r"|(?:[a-z]+:)?\+[1-9](?:[ ().-]{0,2}[0-9]){6,14}"  # a phone number with its country; other digits are ids
).fullmatch


class PersonalIds:
    """Warns once for each workspace; the conversations are worked like all others."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look_at(self, record: LogRecord, place: str) -> None:
        """Look at the contact of a conversation that was started by the record at ``place``; tells no id."""
        if record.workspace in self._told or _is_personal(record.contact) is None:
            return
        self._told.add(record.workspace)
        logger.warning(
            "workspace %s: a contact id looks like an e-mail address or a phone number (%s at offset %d, and maybe "
            "others): ids cannot be erased from a log; let the producers send ids that mean nothing by themselves",
            record.workspace, place, record.offset,
        )  # fmt: skip
