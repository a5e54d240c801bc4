"""The workspaces of one partition, as a lane drives them (``LaneState`` of ``decider.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, json
from msgspec.structs import replace

from routing.assignment import decide, follow_up, next_step
from routing.decider import Decision, LogRecord, Policies
from routing.inputs import Cause, DeadlinePassed, Event
from routing.queues import Due
from routing.workspace_parts import ConversationPart, WorkspacePart, config_key
from routing.workspace_state import WorkspacesState


class Workspaces:
    """Agents, loads and queues of all workspaces of a partition, and the decider over them. For one task at a time."""

    def __init__(self) -> None:
        self.state = WorkspacesState()

    def read(self, event: Event, policies: Policies) -> Event:
        """The event as it is; raises ``InputRefusedError`` for a workspace unheard of that has no policy."""
        if self.state.parts.get(config_key(event.workspace)) is None:
            policies.current(event.workspace)
        return event

    def decide(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:  # noqa: ARG002 - the protocol's
        """What ``event`` leads to; None: nothing. A request carries its route, so no policy is read."""
        decision = decide(self.state.desk(event.workspace), event, now_ms)
        if decision is None or event.origin is None or decision.run == event.origin.run:
            return decision
        return replace(decision, run=event.origin.run)  # the first record of a request concerns its conversation

    def follow_up(self, event: Event, policies: Policies, now_ms: int) -> Decision | None:  # noqa: ARG002 - the protocol's
        """The next record that the same event causes; None: no further one, or the rest is left to a drain."""
        return follow_up(self.state.desk(event.workspace), self.state.follow_ups, now_ms)

    def evolve(self, record: LogRecord) -> None:
        """Fold one record."""
        self.state.evolve(record)

    def confirm(self) -> Mapping[str, Struct | None]:
        """Make the changes final; returns the parts that changed by key (None: the part is gone)."""
        return self.state.parts.confirm()

    def discard(self) -> None:
        """Forget all changes since the last ``confirm``."""
        self.state.discard()

    def next_due_ms(self) -> int | None:
        """When the earliest deadline passes, 0 where something is left to drain; None: there is none."""
        return 0 if self.state.is_busy else self.state.deadlines.next_due_ms()

    def due(self, now_ms: int, limit: int) -> list[Event]:
        """What has passed at ``now_ms``: what is left to drain, then deadlines, the earliest first."""
        drains: list[Event] = []
        for desk in self.state.busy_desks()[:limit]:
            step = next_step(desk, now_ms)
            assert step is not None, f"workspace {desk.workspace}: said to be busy, but there is nothing to do"
            drains.append(_drain(desk.workspace, step, now_ms))
        passed = self.state.deadlines.passed(now_ms, limit)
        return [*drains, *map(_deadline, passed)][:limit]

    def taken_over(self, now_ms: int) -> None:
        """A lane took over: nothing to do, no deadline of a workspace waits for anybody's answer."""

    def parts(self) -> Iterator[tuple[str, WorkspacePart]]:
        """Every part of the confirmed state, for a snapshot."""
        yield from self.state.parts.values.items()

    def load(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Put parts back that ``dump`` made, into an empty state."""
        self.state.load(parts)

    def load_settled(self, parts: Mapping[str, ConversationPart]) -> None:
        """Put parts back of which nothing follows (``is_settled``), into an empty state; before ``load``."""
        self.state.parts.values.update(parts)

    def dump(self, part: Struct) -> bytes:
        """A part as snapshot bytes."""
        return json.encode(part)


def _drain(workspace: str, step: Decision, now_ms: int) -> Event:
    """The deadline, due at once, that goes on with what an input left to do; it names what is to be done next."""
    return _event(workspace, step.contact, step.subject, DeadlinePassed(kind="drain", seq=step.seq - 1), now_ms)


def _deadline(due: Due) -> Event:
    body = DeadlinePassed(kind=due.kind, seq=due.seq)
    subject = due.conversation.conversation or None  # hours are nobody's in particular
    return _event(due.workspace, due.conversation.contact, subject, body, due.due_ms)


def _event(workspace: str, contact: str, subject: str | None, body: DeadlinePassed, due_ms: int) -> Event:
    return Event(
        workspace=workspace,
        contact=contact,
        conversation=subject,
        source="",
        time_ms=due_ms,
        cause=Cause(id=f"deadline/{body.kind}/{body.seq}"),
        body=body,
    )
