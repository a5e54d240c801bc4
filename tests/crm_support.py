"""What the tests of the CRM parts share: policies, questions, a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from consumers.crm.outcomes import LookUp
from routing.policy import AgentsRules, Branch, Crm, CrmVariable, EmailRules, Policy, Route, Routes, Trigger, Workflow

NOW_MS = 1_700_000_000_000
EMAIL = "ann.canary@example.com"
SECRET = "canary-s3cret"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_crm(url: str, **changes: Any) -> Crm:
    """A look-up with two attempts, each long enough for a busy machine."""
    values: dict[str, Any] = {
        "method": "GET",
        "url": url,
        "headers": {"Authorization": "Bearer ${CRM_TOKEN}"},
        "body": None,
        "timeout_ms": 2_000,
        "attempts": 2,
        "deadline_ms": 5_000,
        "on_failure": "regular",
        "not_found": "regular",
        "variables": {"customer_type": CrmVariable(path="$.customerType", personal=False)},
    }
    return Crm(**{**values, **changes})


def make_policy(url: str, **changes: Any) -> Policy:
    """A policy of which only ``[crm]`` matters."""
    crm = make_crm(url, **changes)
    return Policy(
        version=f"sha256:{sha256(repr(crm).encode()).hexdigest()[:16]}",
        text="",
        workflow=Workflow(name="test", languages=("en",), forget_after_ms=1),
        trigger=Trigger(opened_by=("contact",), once_per_contact=False, one_open_per_contact=True),
        email=EmailRules(
            retries=3,
            grace_ms=0,
            answer_timeout_ms=1,
            stop_words=frozenset(),
            skip_channels=frozenset(),
            messages={},
        ),
        crm=crm,
        branch_vip=Branch(match="all", conditions=()),
        routes=Routes(vip=Route(workspace=True), regular=Route(workspace=True), escalated=Route(workspace=True)),
        agents=AgentsRules(max_open=20, agents={}),
    )


def make_ask(**changes: Any) -> LookUp:
    """A question that has five seconds left at ``NOW_MS``."""
    values: dict[str, Any] = {
        "workspace": "default",
        "contact": "c-1",
        "conversation": "v-1",
        "lookup_id": "v-1/2",
        "email": EMAIL,
        "deadline_ms": NOW_MS + 5_000,
    }
    return LookUp(**{**values, **changes})


class Pauses:
    """Stands for ``asyncio.sleep``: takes no time and keeps what was asked for, in seconds."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        await asyncio.sleep(0)


def http(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer; ``length`` lies about the body's."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def say(*answers: bytes) -> Behaviour:
    """Send these bytes one after the other."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()

    return behave


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes."""
    await reader.read()


def drip(start: bytes) -> Behaviour:
    """Send ``start`` and then a byte every 10 ms for ever: each is in time, the whole never is."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    return behave


class Late:
    """When a server says what nobody asked for: at ``go``; ``sent`` is set when it has."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.sent = asyncio.Event()

    async def arrive(self) -> None:
        """Let it be said and come as far as it can: loopback delivers when it is sent."""
        self.go.set()
        await self.sent.wait()
        for _ in range(20):
            await asyncio.sleep(0)


def keep_saying(*answers: bytes, after: bytes = b"", late: Late | None = None) -> Behaviour:
    """Answer one request after the other on the same connection; ``after`` is sent unasked when ``late`` says so."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()
            if late is not None:
                await late.go.wait()
                writer.write(after)
                await writer.drain()
                late.sent.set()
            await reader.readuntil(b"\r\n\r\n")

    return behave


def reset_after(start: bytes) -> Behaviour:
    """Send ``start``, then break the connection."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        writer.transport.abort()

    return behave


class Misbehaving:
    """A server on loopback. Each connection gets the next behaviour, the last one repeats; requests are kept."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behaviours = list(behaviours)
        self._tls = tls
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                self.requests.append(await self._request(reader))
                behave = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                await behave(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return head + await reader.readexactly(int(line.partition(b":")[2]))
        return head
