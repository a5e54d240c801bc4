"""A loopback proxy before one broker that knows Kafka's frames: it delays, swallows, cuts, or loses exactly one.

It runs on a thread and a loop of its own, so that tests of any kind, and other processes, can go through it. Clients
are led to it by `Extra.advertised` (see `proxied`). It reads the frames of the plaintext listener, not of TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, Self

from tests.brokers.cluster import Cluster
from tests.brokers.fixtures import Brokers
from tests.brokers.node import Extra, free_port

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT = 0, 1, 2, 3, 8, 11, 12
START_TIMEOUT_S = 10.0


class Kind(StrEnum):
    """Which half of an exchange got lost."""

    REQUEST = "request"  #: the broker never got it
    RESPONSE = "response"  #: the broker did it, and the client does not know


class Lost(NamedTuple):
    """A frame that the proxy lost; the connection was reset in its place."""

    kind: Kind
    api_key: int


class Proxy:
    """Listens at ``address`` while in its context; passes everything to ``target`` until told otherwise."""

    def __init__(self) -> None:
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.target = ""  #: host:port of the broker; set once it is known
        self.latency_ms = 0  #: added to each frame, both ways
        self.silent = False  #: swallow all frames, keep the connections: a network that drops packets
        self.closed = False  #: reset every new connection: a broker that cannot be reached
        self.lost: list[Lost] = []
        self.seen: Counter[int] = Counter()  #: requests by API key
        self._to_lose: Counter[Lost] = Counter()
        self._changed = threading.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=f"proxy {self.address}")
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_TIMEOUT_S), "the proxy does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def lose(self, kind: Kind, api_key: int, *, times: int = 1) -> None:
        """Lose exactly the next ``times`` frames of this kind, each with its connection."""
        with self._changed:
            self._to_lose[Lost(kind, api_key)] += times

    def wait_lost(self, count: int, *, timeout_s: float) -> None:
        """Block until so many frames have been lost in all; `AssertionError` after the time-out."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.lost) >= count, timeout_s)
        assert done, f"{len(self.lost)} of {count} frames were lost within {timeout_s} s"

    def cut(self) -> None:
        """Reset every connection now; returns when that is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._abort)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(START_TIMEOUT_S), "the proxy does not answer"

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._started.set()
        await self._stop.wait()
        server.close()
        while self._serving:
            self._abort()
            await asyncio.wait(self._serving, timeout=0.1)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed or self._stop.is_set():
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = self._loop.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        try:
            host, _, port = self.target.rpartition(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            ends.add(up_writer)
            self._writers.add(up_writer)
            asked: dict[int, int] = {}  # correlation id -> API key
            pumps = [
                asyncio.create_task(self._pump(Kind.REQUEST, reader, up_writer, asked)),
                asyncio.create_task(self._pump(Kind.RESPONSE, up_reader, writer, asked)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
        except OSError:
            pass  # the broker is down: the client sees its own connection reset
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, kind: Kind, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, int]
    ) -> None:
        """Pass frames one way until an end closes or a frame is to be lost."""
        due_s = 0.0
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = await reader.readexactly(4)
                frame = await reader.readexactly(int.from_bytes(size, "big"))
                if self._loses(kind, self._api_key(kind, frame, asked)):
                    return
                if self.silent:
                    continue
                due_s = max(due_s, self._loop.time() + self.latency_ms / 1000)
                self._loop.call_at(due_s, writer.write, size + frame)
                await writer.drain()

    def _api_key(self, kind: Kind, frame: bytes, asked: dict[int, int]) -> int:
        if kind is Kind.RESPONSE:
            return asked.pop(int.from_bytes(frame[:4], "big", signed=True), -1)
        api_key, _, correlation = struct.unpack_from(">hhi", frame)
        asked[correlation] = api_key
        self.seen[api_key] += 1
        return int(api_key)

    def _loses(self, kind: Kind, api_key: int) -> bool:
        frame = Lost(kind, api_key)
        with self._changed:
            if not self._to_lose[frame]:
                return False
            self._to_lose[frame] -= 1
            self.lost.append(frame)
            self._changed.notify_all()
            return True


class Proxied(NamedTuple):
    """A cluster whose clients only ever talk through one proxy for each broker."""

    cluster: Cluster
    proxies: Mapping[int, Proxy]  #: by broker id


@contextlib.contextmanager
def proxied(brokers: Brokers, n: int) -> Iterator[Proxied]:
    """Start ``n`` brokers by the fixture `brokers`, each behind a proxy, which ``cluster.bootstrap`` names."""
    with contextlib.ExitStack() as stack:
        proxies = {node_id: stack.enter_context(Proxy()) for node_id in range(1, n + 1)}
        told = Extra(advertised={node_id: proxy.address for node_id, proxy in proxies.items()})
        cluster = stack.enter_context(brokers(n, told))
        for node_id, proxy in proxies.items():
            proxy.target = cluster[node_id].address
        yield Proxied(cluster, proxies)
