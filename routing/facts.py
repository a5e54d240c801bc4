"""The facts that a conversation's next state may depend on.

They are gathered by the conversation's decider; the guards of the state machine (``routing/machine.py``) are the only
readers. Each fact matters to one event only, the others may keep their defaults.
"""

from __future__ import annotations

from msgspec import Struct


class Facts(Struct, frozen=True, kw_only=True, gc=False):
    """What is true of an input and of the conversation that it meets."""

    owned: bool = False  #: open: somebody owns the conversation already
    email_known: bool = False  #: open: a valid address is known, so nobody needs to be asked
    askable: bool = True  #: open: the channel can carry a question
    first_vip: bool = False  #: join: the contact's first open conversation is ``routed-vip``
    first_regular: bool = False  #: join: ... is ``routed-regular``
    first_escalated: bool = False  #: join: ... is ``escalated``
    address: bool = False  #: answer: it holds exactly one valid address
    stop_word: bool = False  #: answer: it is exactly a stop word
    vip: bool = False  #: crm_answered, crm_late: the policy's branch says VIP
    failure_escalates: bool = False  #: crm_failed: the policy's ``crm.on_failure`` is ``escalated``
