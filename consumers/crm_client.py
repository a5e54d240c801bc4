"""One look-up in the CRM: tried as often as the policy says, within its deadline, its answer as variables.

``CrmClient.look_up`` never raises because of a CRM: what goes wrong is a ``Failed`` with a reason out of ``REASONS``.
Which look-ups are wanted and where their outcome goes is ``consumers/crm.py``'s business, a single exchange
``consumers/crm_http.py``'s, reading variables ``consumers/crm_variables.py``'s. Rates, breakers and caches belong here.

Addresses and secrets stand in no log line, error or repr of this module.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import httpx
from msgspec import Struct

from consumers.crm_http import BODY_BYTES_MAX, Endpoint, TroubleError, silence_http_logs
from consumers.crm_variables import compile_paths, read_variables
from consumers.secrets import SecretError, Secrets
from routing.policy import Crm, Policy

BACKOFF_BASE_MS: Final = 100  #: the second attempt comes at most this long after the first, the third twice this ...
BACKOFF_MAX_MS: Final = 5_000
ENDPOINTS_MAX: Final = 16  #: policy versions with connections of their own; one that nobody uses makes room

#: Every reason that a look-up can fail for, and what it means. ``http-<status>`` stands for each status but the 2xx
#: (a redirect is never followed) and but a 404 where the policy's ``crm.not_found`` says ``regular``.
REASONS: Final = {
    "time-out": "no whole answer within crm.timeout, in the last attempt",
    "deadline": "crm.deadline passed during an attempt, or before the first",
    "dns": "the host name has no address",
    "refused": "nobody listens at the address",
    "tls": "no TLS connection: wrong certificate or host, or the handshake failed",
    "connection": "the connection could not be made or broke, or what came was not HTTP",
    "http-<status>": "the CRM answered with this status",
    "too-large": f"the answer has more than {BODY_BYTES_MAX:,} bytes",
    "encoded": "the answer is compressed, which was not asked for",
    "not-json": "the answer is not JSON (NaN and invalid UTF-8 included), or nested too deeply",
    "wrong-type": "the answer is neither an object nor an array",
    "unusable-request": "the request cannot be built from this contact's ids and address",
    "missing-secret": "a secret that the policy names is missing or unusable",
    "unusable-policy": "the policy that the conversation is pinned to cannot be read from the log",
    "fault": "a fault of ours; its kind and place are in the program log",
}

_log = logging.getLogger(__name__)


class LookUp(Struct, frozen=True, kw_only=True):
    """A question to the CRM. ``deadline_ms`` is when nobody waits for the answer any more, Unix milliseconds."""

    workspace: str
    contact: str
    conversation: str
    lookup_id: str
    email: str
    deadline_ms: int

    def __repr__(self) -> str:
        return f"LookUp(deadline_ms={self.deadline_ms})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("deadline_ms", self.deadline_ms)]


class Answered(Struct, frozen=True, kw_only=True):
    """The CRM answered. A variable that the answer does not have, or not as a usable value, is absent."""

    status: int
    variables: dict[str, Any]
    personal: dict[str, Any]  #: the variables that the policy marks as personal
    notes: dict[str, str]  #: why a variable is absent, by its name
    attempts: int
    latency_ms: int  #: the whole look-up, waits included

    def __repr__(self) -> str:
        return f"Answered(status={self.status}, attempts={self.attempts})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("attempts", self.attempts)]


class Failed(Struct, frozen=True, kw_only=True):
    """There is no answer. ``reason`` is one of ``REASONS``; ``status`` the last one that the CRM gave, if any."""

    reason: str
    status: int | None = None
    attempts: int


class _Progress:
    """How far a look-up has come; outlives the cancellation of its attempt."""

    __slots__ = ("attempts", "status")

    def __init__(self) -> None:
        self.attempts = 0
        self.status: int | None = None

    def failed(self, reason: str) -> Failed:
        return Failed(reason=reason, status=self.status, attempts=self.attempts)


class CrmClient:
    """Looks contacts up. Holds connections: ``close`` it, or use it as a context manager.

    ``clock`` gives Unix milliseconds, ``sleep`` waits for seconds, ``random_fraction`` gives [0, 1) for the jitter.
    ``tls`` replaces the context that trusts the bundled certificate authorities; it has to verify.
    ``connections_max`` is by policy version; a look-up that has to wait for one spends its own time-out.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        secrets: Secrets,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_fraction: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
        connections_max: int = 128,
    ) -> None:
        self._clock = clock
        self._secrets = secrets
        self._sleep = sleep
        self._random_fraction = random_fraction
        self._tls = tls or httpx.create_ssl_context(verify=True, cert=None, trust_env=False)
        self._connections_max = connections_max
        self._endpoints: dict[str, Endpoint] = {}  # by policy version, the one used last stands last
        self._told: set[str] = set()
        silence_http_logs()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; look-ups under way fail."""
        while self._endpoints:
            _, endpoint = self._endpoints.popitem()
            await endpoint.close()

    async def look_up(self, ask: LookUp, policy: Policy) -> Answered | Failed:
        """Ask the CRM as ``policy.crm`` says, until it answers, ``attempts`` are spent or the ask's deadline passes.

        Repeated is what may pass by itself: no connection, a time-out, 429, 5xx. Raises nothing but the cancellation
        of its task.
        """
        progress = _Progress()
        remaining_ms = min(ask.deadline_ms - self._clock(), policy.crm.deadline_ms)
        if remaining_ms <= 0:
            return progress.failed("deadline")
        try:
            async with asyncio.timeout(remaining_ms / 1000) as limit:
                return await self._attempts(ask, policy, progress, limit)
        except TimeoutError:
            return progress.failed("deadline")
        except TroubleError as trouble:
            return progress.failed(trouble.reason)
        except SecretError as problem:
            self._tell_once(problem)
            return progress.failed("missing-secret")
        except Exception as error:  # noqa: BLE001  # one contact's odd data must not stop the look-ups of all others
            _log.error("look-up failed by a fault of ours: %s at %s", type(error).__name__, _place(error))
            return progress.failed("fault")

    async def _attempts(self, ask: LookUp, policy: Policy, progress: _Progress, limit: asyncio.Timeout) -> Answered:
        """Try until an answer; raises the ``TroubleError`` of the last attempt."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        endpoint = await self._endpoint(policy)
        endpoint.users += 1
        try:
            while True:
                try:
                    status, document = await self._attempt(endpoint, ask, policy.crm, progress)
                    return _answered(status, document, policy.crm, progress, loop.time() - started_s)
                except TroubleError as trouble:
                    progress.status = trouble.status or progress.status
                    wait_s = self._wait_s(trouble, progress.attempts)
                    is_over = loop.time() + wait_s >= (limit.when() or 0.0)
                    if not trouble.retriable or progress.attempts >= policy.crm.attempts or is_over:
                        raise
                await self._sleep(wait_s)
        finally:
            endpoint.users -= 1

    async def _attempt(self, endpoint: Endpoint, ask: LookUp, crm: Crm, progress: _Progress) -> tuple[int, Any]:
        request = endpoint.request(email=ask.email, contact_id=ask.contact, conversation_id=ask.conversation)
        progress.attempts += 1
        try:
            async with asyncio.timeout(crm.timeout_ms / 1000):
                return await endpoint.exchange(request)
        except TimeoutError:
            raise TroubleError("time-out", retriable=True) from None

    def _wait_s(self, trouble: TroubleError, attempts: int) -> float:
        """Exponential back-off with full jitter, but never less than the CRM asked for."""
        backoff_ms: int = min(BACKOFF_MAX_MS, BACKOFF_BASE_MS << max(0, attempts - 1))
        return max(backoff_ms / 1000 * self._random_fraction(), trouble.retry_after_s)

    async def _endpoint(self, policy: Policy) -> Endpoint:
        endpoint = self._endpoints.pop(policy.version, None) or Endpoint(
            policy.crm, secrets=self._secrets, tls=self._tls, connections_max=self._connections_max
        )
        self._endpoints[policy.version] = endpoint
        surplus = max(0, len(self._endpoints) - ENDPOINTS_MAX)
        idle = [version for version, one in self._endpoints.items() if one.users == 0 and one is not endpoint]
        for one in [self._endpoints.pop(version) for version in idle[:surplus]]:
            await one.close()
        return endpoint

    def _tell_once(self, problem: SecretError) -> None:
        if problem.name not in self._told:
            self._told.add(problem.name)
            _log.error("look-ups fail: %s", problem)


def _answered(status: int, document: Any, crm: Crm, progress: _Progress, latency_s: float) -> Answered:
    found = read_variables(document, compile_paths(crm.variables))
    return Answered(
        status=status,
        variables=found.public,
        personal=found.personal,
        notes=found.notes,
        attempts=progress.attempts,
        latency_ms=round(latency_s * 1000),
    )


def _place(error: BaseException) -> str:
    """File and line of the innermost frame; the message may hold what nobody may read."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
