"""What the CRM consumer writes on ``crm.answers``. Reading it is ``events/decode.py``'s business."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from events.cloudevents import STRUCTURED_HEADERS, envelope
from events.ids import crm_answer_id, crm_source
from events.log import NewRecord
from events.topics import CRM_ANSWERS
from routing.inputs import CrmAnswered, CrmFailed


def encode_crm_answer(
    answer: CrmAnswered | CrmFailed,
    *,
    workspace: str,
    contact: str,
    conversation: str,
    seq: int,
    partition: int,
    now_ms: int,
) -> NewRecord:
    """The answer to the look-up that record ``seq`` of ``conversation`` asked for, as a record to publish.

    ``partition`` is that of the record that asked. The event's id is made of what was asked, so that an answer given
    twice is one event. Personal variables stand apart, under ``personal_variables``; there are none in ids and keys.
    """
    type_ = "crm.answered" if isinstance(answer, CrmAnswered) else "crm.failed"
    data: dict[str, Any] = to_builtins(answer)
    del data["type"]
    value = envelope(
        id=crm_answer_id(contact, conversation, seq),
        source=crm_source(workspace),
        type=type_,
        subject=conversation,
        time_ms=now_ms,
        partitionkey=contact,
        workspace=workspace,
        data=data,
    )
    return NewRecord(CRM_ANSWERS, partition, contact.encode(), value, STRUCTURED_HEADERS)
