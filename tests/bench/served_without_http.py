"""``serve`` with a CRM that answers at once, in the process: what the router costs, and not what a CRM does.

``python -m tests.bench.served_without_http serve --roles ...`` is the command itself otherwise.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from consumers import serve
from consumers.cli.main import main
from consumers.crm.outcomes import Answered, Failed, LookUp
from routing.policy import Policy

VIP_EVERY = 10


class InstantCrm:
    """Knows everybody; one contact in ten is a VIP."""

    def __init__(self, **_options: Any) -> None:
        pass

    async def look_up(self, ask: LookUp, policy: Policy) -> Answered | Failed:  # noqa: ARG002 - as the client has it
        """The answer."""
        kind = "VIP" if int(ask.contact[-7:]) % VIP_EVERY == 0 else "standard"
        return Answered(status=200, variables={"customer_type": kind}, personal={}, notes={}, attempts=1, latency_ms=0)

    def cached(self, _ask: LookUp, _policy: Policy) -> None:
        """Nothing is."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


if __name__ == "__main__":
    setattr(serve, "CrmClient", InstantCrm)  # noqa: B010 - the name is not the module's to give
    main()
