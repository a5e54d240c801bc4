"""One look-up in the CRM: tried as often as the policy says, within its deadline, its answer as variables.

``CrmClient.look_up`` never raises because of a CRM: what goes wrong is a ``Failed`` with a reason out of ``REASONS``.
Which look-ups are wanted and where their outcome goes is ``consumers/crm/consumer.py``'s business, a single exchange
``endpoint.py``'s, when one may begin ``protection.py``'s, reading variables ``variables.py``'s.

A look-up passes, in this order: the cache; whoever asks the same already; a place in its workspace's line; the gate of
the host; a place among all connections. Only then its attempt begins, and the attempt's time with it.

Addresses and secrets stand in no log line, error or repr of this module.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from msgspec import structs

from consumers.crm.cache import AnswerCache
from consumers.crm.endpoint import Endpoint, silence_http_logs
from consumers.crm.limits import files_allow
from consumers.crm.outcomes import Answered, Failed, LookUp, TroubleError
from consumers.crm.protection import HostGate
from consumers.crm.slots import Slots
from consumers.crm.tls import tls_context
from consumers.crm.variables import read_variables
from consumers.secrets import SecretError, Secrets
from routing.policy import Policy

BACKOFF_BASE_MS: Final = 100  #: the second attempt comes at most this long after the first, the third twice this ...
BACKOFF_MAX_MS: Final = 5_000
CONNECTIONS_MAX: Final = 4_096  #: over all hosts; the limit of open files may lower it
ENDPOINTS_MAX: Final = 64  #: policy versions with connections of their own; one that nobody uses makes room
GATES_MAX: Final = 1_024  #: hosts whose state is kept; one that nobody uses makes room

_OUTAGES: Final = frozenset({"time-out", "dns", "refused", "tls", "connection"})
_SERVER_ERRORS: Final = 500
_REFUSALS: Final = frozenset({401, 403})  #: what a CRM says to a secret that holds no more

_log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """One request and what came of it. ``document`` is the CRM's whole answer, personal data included."""

    status: int | None
    outcome: str  #: ``answered``, or one of ``REASONS``
    took_s: float
    document: Any


class _Progress:
    """How far a look-up has come; outlives the cancellation of its attempt."""

    __slots__ = ("attempts", "is_out_of_time", "status")

    def __init__(self) -> None:
        self.attempts = 0
        self.status: int | None = None
        self.is_out_of_time = False  #: another attempt would have been made, had there been time

    def failed(self, reason: str) -> Failed:
        return Failed(reason=reason, status=self.status, attempts=self.attempts)


class _Flight:
    """A look-up under way and those who wait for its outcome too."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[Answered | Failed | None]] = []

    async def outcome(self) -> Answered | Failed | None:
        """What came of it; None: it was given up, and somebody else has to ask."""
        future: asyncio.Future[Answered | Failed | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    def end(self, outcome: Answered | Failed | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(outcome)


class CrmClient:
    """Looks contacts up. Holds connections: ``close`` it, or use it as a context manager.

    ``clock`` gives Unix milliseconds, ``sleep`` waits for seconds, ``random_fraction`` gives [0, 1) for the jitter.
    ``tls`` replaces the context of ``tls_context``; it has to verify. ``connections_max`` bounds requests on their way
    over all hosts, ``workspace_max`` (default half of it) those of one workspace, waiting ones included.
    ``watch`` is told of each attempt, with what the CRM said: for people who try a policy out, not for logs.
    ``counts``: ``requests``, ``retries``, ``cached`` and ``shared`` look-ups, ``breaker-open`` ..., since the start.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        secrets: Secrets,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_fraction: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
        connections_max: int = CONNECTIONS_MAX,
        workspace_max: int | None = None,
        cache: AnswerCache | None = None,
        watch: Callable[[Attempt], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._watch = watch
        self._secrets = secrets
        self._sleep = sleep
        self._random_fraction = random_fraction
        self._tls = tls or tls_context()
        self._connections_max = files_allow(connections_max)
        self._workspace_max = workspace_max or max(1, self._connections_max // 2)
        self._connections = Slots(self._connections_max)
        self._workspaces: dict[str, Slots] = {}
        self._gates: dict[str, HostGate] = {}
        self._endpoints: dict[str, Endpoint] = {}  # by policy version, the one used last stands last
        self._flights: dict[bytes, _Flight] = {}
        self._cache = AnswerCache() if cache is None else cache
        self._told: set[str] = set()
        self._counts: Counter[str] = Counter()
        silence_http_logs()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def counts(self) -> Counter[str]:
        """What was done since the start; see the class."""
        total = Counter(self._counts)
        for gate in self._gates.values():
            total.update({f"breaker-{state}": count for state, count in gate.counts.items()})
        return total

    def breakers(self) -> dict[str, str]:
        """The state of each host's circuit breaker: ``closed``, ``open`` or ``half-open``."""
        return {host: gate.breaker.state.value for host, gate in self._gates.items()}

    async def close(self) -> None:
        """Close every connection; look-ups under way fail."""
        while self._endpoints:
            _, endpoint = self._endpoints.popitem()
            await endpoint.close()

    def cached(self, ask: LookUp, policy: Policy) -> Answered | None:
        """The answer, if the policy has a cache and it is there: what ``look_up`` would return at once."""
        endpoint = self._endpoints.get(policy.version)
        if endpoint is None or policy.crm.cache_ms is None:
            return None
        answered = self._cache.get(endpoint.key(ask), now_ms=self._clock(), ttl_ms=policy.crm.cache_ms)
        self._counts["cached"] += answered is not None
        return answered

    async def look_up(self, ask: LookUp, policy: Policy) -> Answered | Failed:
        """Ask the CRM as ``policy.crm`` says, until it answers, ``attempts`` are spent or the ask's deadline passes.

        Repeated is what may pass by itself: no connection, a time-out, 429, 5xx; a POST or PATCH only if the CRM has
        certainly not worked on it, or ``policy.crm.repeat`` says ``always``. Raises nothing but the cancellation of its
        task.
        """
        progress = _Progress()
        remaining_ms = min(ask.deadline_ms - self._clock(), policy.crm.deadline_ms)
        if remaining_ms <= 0:
            return progress.failed("deadline")
        try:
            async with asyncio.timeout(remaining_ms / 1000) as limit:
                endpoint = await self._endpoint(policy)
                return self.cached(ask, policy) or await self._shared(endpoint, ask, progress, limit)
        except TimeoutError:
            return progress.failed("deadline")
        except TroubleError as trouble:  # of the policy itself, whoever is looked up
            return progress.failed(trouble.reason)
        except SecretError as problem:
            self._tell_once(problem)
            return progress.failed("missing-secret")
        except Exception as error:  # noqa: BLE001  # one contact's odd data must not stop the look-ups of all others
            _log.error("look-up failed by a fault of ours: %s at %s", type(error).__name__, _place(error))
            return progress.failed("fault")

    async def _shared(
        self, endpoint: Endpoint, ask: LookUp, progress: _Progress, limit: asyncio.Timeout
    ) -> Answered | Failed:
        """The outcome of who asks the same already, or else of a request of one's own."""
        started_s = asyncio.get_running_loop().time()
        key = endpoint.key(ask)
        while (flight := self._flights.get(key)) is not None:
            outcome = await flight.outcome()
            if outcome is not None:
                self._counts["shared"] += 1
                waited_ms = round((asyncio.get_running_loop().time() - started_s) * 1000)
                return structs.replace(outcome, latency_ms=waited_ms) if isinstance(outcome, Answered) else outcome
        flight = self._flights[key] = _Flight()
        shared: Answered | Failed | None = None
        endpoint.users += 1
        try:
            try:
                outcome = shared = await self._asked(endpoint, ask, progress, limit)
            except TroubleError as trouble:
                outcome = progress.failed(trouble.reason)
                shared = None if progress.is_out_of_time else outcome
            if isinstance(outcome, Answered) and endpoint.crm.cache_ms is not None:
                self._cache.put(key, outcome, now_ms=self._clock())
            return outcome
        finally:
            endpoint.users -= 1
            del self._flights[key]
            flight.end(shared)

    async def _asked(self, endpoint: Endpoint, ask: LookUp, progress: _Progress, limit: asyncio.Timeout) -> Answered:
        """Try until an answer; raises the ``TroubleError`` of the last attempt."""
        loop = asyncio.get_running_loop()
        crm = endpoint.crm
        started_s = loop.time()
        while True:
            edition = endpoint.edition
            try:
                status, document = await self._in_line(endpoint, ask, progress)
            except TroubleError as trouble:
                progress.status = trouble.status or progress.status
                if trouble.status in _REFUSALS and endpoint.has_newer_secrets(edition):
                    continue  # the one that was refused was exchanged meanwhile
                may_repeat = trouble.retriable and (trouble.unsent or endpoint.is_repeatable)
                if not may_repeat or progress.attempts >= crm.attempts:
                    raise
                wait_s = self._wait_s(trouble, progress.attempts)
                if loop.time() + wait_s >= (limit.when() or 0.0):
                    progress.is_out_of_time = True
                    raise
            else:
                return _answered(status, document, endpoint, progress, loop.time() - started_s)
            self._counts["retries"] += 1
            await self._sleep(wait_s)

    async def _in_line(self, endpoint: Endpoint, ask: LookUp, progress: _Progress) -> tuple[int, Any]:
        """One attempt, when it is its turn in the workspace's line and at the host's gate."""
        slots, gate = self._slots_of(ask.workspace), self._gate_of(endpoint)
        await slots.enter()
        try:
            await gate.enter()
            return await self._inside(gate, endpoint, ask, progress)
        finally:
            slots.leave()
            if not slots.taken and not slots.waiting:
                self._workspaces.pop(ask.workspace, None)

    async def _inside(self, gate: HostGate, endpoint: Endpoint, ask: LookUp, progress: _Progress) -> tuple[int, Any]:
        """One attempt, inside the gate; tells the gate how the host did."""
        loop = asyncio.get_running_loop()
        epoch = gate.breaker.epoch
        good: bool | None = None
        started_s = math.inf
        try:
            await self._connections.enter()
            try:
                started_s = loop.time()
                result = await self._attempt(endpoint, ask, progress)
            finally:
                self._connections.leave()
            good = True
        except TroubleError as trouble:
            good = _tells(trouble)
            if trouble.unsent and trouble.retry_after_s > 0:
                gate.pause(trouble.retry_after_s)
            raise
        except asyncio.CancelledError:  # a deadline: held against the host if it has had time enough
            good = None if (loop.time() - started_s) * 2000 < endpoint.crm.timeout_ms else False
            raise
        finally:
            gate.end(epoch, good=good)
        return result

    async def _attempt(self, endpoint: Endpoint, ask: LookUp, progress: _Progress) -> tuple[int, Any]:
        request = endpoint.request(ask)  # not before its turn: it is most of what a look-up in line would hold
        progress.attempts += 1
        self._counts["requests"] += 1
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            async with asyncio.timeout(endpoint.crm.timeout_ms / 1000):
                result = await endpoint.exchange(request)
        except TimeoutError:
            trouble = TroubleError("time-out", retriable=True)
        except TroubleError as error:
            trouble = error
        else:
            self._watch(Attempt(result[0], "answered", loop.time() - started_s, result[1]))
            return result
        self._watch(Attempt(trouble.status, trouble.reason, loop.time() - started_s, None))
        raise trouble

    def _wait_s(self, trouble: TroubleError, attempts: int) -> float:
        """Exponential back-off with full jitter, but never less than the CRM asked for."""
        backoff_ms: int = min(BACKOFF_MAX_MS, BACKOFF_BASE_MS << max(0, attempts - 1))
        return max(backoff_ms / 1000 * self._random_fraction(), trouble.retry_after_s)

    def _slots_of(self, workspace: str) -> Slots:
        slots = self._workspaces.get(workspace)
        if slots is None:
            slots = self._workspaces[workspace] = Slots(self._workspace_max)
        return slots

    def _gate_of(self, endpoint: Endpoint) -> HostGate:
        gate = self._gates.get(endpoint.host)
        if gate is None:
            if len(self._gates) >= GATES_MAX:
                self._gates = {host: one for host, one in self._gates.items() if one.is_needed}
            gate = self._gates[endpoint.host] = HostGate(
                endpoint.host, endpoint.crm.rate, asyncio.get_running_loop().time
            )
        return gate

    async def _endpoint(self, policy: Policy) -> Endpoint:
        endpoint = self._endpoints.pop(policy.version, None)
        if endpoint is None:
            endpoint = Endpoint(
                policy.crm,
                version=policy.version,
                secrets=self._secrets,
                tls=self._tls,
                connections_max=self._connections_max,
                clock=self._clock,
            )
            self._gate_of(endpoint).limit(policy.crm.rate)  # of several policies the one seen last
        self._endpoints[policy.version] = endpoint
        surplus = len(self._endpoints) - ENDPOINTS_MAX
        if surplus > 0:
            idle = [version for version, one in self._endpoints.items() if one.users == 0 and one is not endpoint]
            for one in [self._endpoints.pop(version) for version in idle[:surplus]]:
                await one.close()
        return endpoint

    def _tell_once(self, problem: SecretError) -> None:
        if problem.name not in self._told:
            self._told.add(problem.name)
            _log.error("look-ups fail: %s", problem)


def _tells(trouble: TroubleError) -> bool | None:
    """Whether a failed attempt shows that the host works; None: it says nothing of that."""
    if trouble.reason in _OUTAGES or (trouble.status or 0) >= _SERVER_ERRORS:
        return False
    return None if trouble.status is None else True


def _answered(status: int, document: Any, endpoint: Endpoint, progress: _Progress, latency_s: float) -> Answered:
    found = read_variables(document, endpoint.paths)
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
