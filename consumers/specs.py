"""The two kinds of lane: the router's and the assigner's."""

from __future__ import annotations

from typing import Final

from consumers.lane_spec import LaneSpec, SettledParts
from events import topics
from events.decode import decode_agent, decode_conversation, decode_crm_answer, decode_request
from events.outputs import assignment_outputs, routing_outputs
from routing.contacts import Contacts
from routing.inputs import AgentsConfigured, Cause, Event
from routing.policy import Policy
from routing.workspace_parts import RULES
from routing.workspace_state import is_settled, read_settled
from routing.workspaces import Workspaces

ROUTER: Final = LaneSpec(
    role="router",
    log_topic=topics.ROUTING_LOG,
    snapshot_topic=topics.ROUTING_SNAPSHOTS,
    decoders={topics.CONVERSATION_EVENTS: decode_conversation, topics.CRM_ANSWERS: decode_crm_answer},
    public_inputs=frozenset({topics.CONVERSATION_EVENTS}),
    new_state=Contacts,
    outputs=routing_outputs,
    home=lambda event: event.contact,
    decides_ahead=True,
    records_policies=True,
)


def _agents_of(workspace: str, policy: Policy) -> Event:
    """What the policy says of agents and hours, as an input of the assigner; repeated, it changes nothing."""
    return Event(
        workspace=workspace,
        contact="",
        conversation=None,
        source=f"/vip-router/{workspace}/policy",
        time_ms=0,
        cause=Cause(id=f"agents/{policy.version}"),
        body=AgentsConfigured(
            max_open=policy.agents.max_open,
            agents=policy.agents.agents,
            presence_ttl_ms=policy.agents.presence_ttl_ms,
            wrap_up_ms=policy.agents.wrap_up_ms,
            missed_offers_max=policy.agents.missed_offers_max,
            rules=RULES,
            hours={name: hours.rules for name, hours in policy.hours.items()},
            zones={hours.rules.zone: hours.offsets for hours in policy.hours.values()},
        ),
    )


ASSIGNER: Final = LaneSpec(
    role="assigner",
    log_topic=topics.ASSIGNMENTS_LOG,
    snapshot_topic=topics.ASSIGNMENTS_SNAPSHOTS,
    decoders={topics.ASSIGNMENT_REQUESTS: decode_request, topics.AGENT_EVENTS: decode_agent},
    public_inputs=frozenset({topics.AGENT_EVENTS}),
    new_state=Workspaces,
    outputs=assignment_outputs,
    home=lambda event: event.workspace,
    decides_ahead=False,
    records_policies=False,
    configure=_agents_of,
    settled=SettledParts(is_settled, read_settled, Workspaces.load_settled),
)
