"""Asks a broker, in Kafka's own protocol, what it is and whom it sees: the proof that a real broker answers.

One blocking socket and two requests (ApiVersions, Metadata). A TCP connection alone proves nothing: a Docker
engine accepts it before the broker listens.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

API_VERSIONS, METADATA = 18, 3
METADATA_VERSION = 4  # the last one before tagged fields and offline replicas: plain to read, still served
ANSWER_BYTES_MAX = 16 * 1024 * 1024
CLIENT_ID = b"vip-router-probe"


class Partition(NamedTuple):
    """Where one partition lives, by brokers' ids."""

    topic: str
    number: int
    leader: int  #: -1: none
    replicas: list[int]
    in_sync: list[int]


class Seen(NamedTuple):
    """What one broker says about its cluster."""

    cluster_id: str
    brokers: set[int]
    partitions: list[Partition]

    @property
    def whole(self) -> bool:
        """Every partition has a leader, and all its replicas are in sync."""
        return all(part.leader >= 0 and len(part.in_sync) == len(part.replicas) for part in self.partitions)


class Reader:
    """Reads Kafka's primitive types from an answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._at = 0

    def take(self, form: str) -> int:
        """One number of this `struct` format."""
        (value,) = struct.unpack_from(f">{form}", self._answer, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        """A string; null reads as empty."""
        length = max(0, self.take("h"))
        self._at += length
        return self._answer[self._at - length : self._at].decode()

    def numbers(self) -> list[int]:
        """An array of int32."""
        return [self.take("i") for _ in range(self.take("i"))]


def api_keys(address: str, *, timeout_s: float) -> set[int]:
    """The APIs that the broker serves, by key; raises `OSError` where none answers in time."""
    answer = Reader(_ask(address, API_VERSIONS, 0, b"", timeout_s))
    if code := answer.take("h"):
        raise OSError(f"{address} refuses ApiVersions with error {code}")
    return {(answer.take("h"), answer.take("h"), answer.take("h"))[0] for _ in range(answer.take("i"))}


def metadata(address: str, *, timeout_s: float) -> Seen:
    """What the broker sees of its cluster; raises `OSError` where none answers in time."""
    all_topics_create_none = struct.pack(">ib", -1, 0)
    answer = Reader(_ask(address, METADATA, METADATA_VERSION, all_topics_create_none, timeout_s))
    answer.take("i")  # throttle time
    brokers = {_broker(answer) for _ in range(answer.take("i"))}
    cluster_id = answer.text()
    answer.take("i")  # controller
    topics = [_topic(answer) for _ in range(answer.take("i"))]
    return Seen(cluster_id, brokers, [part for topic in topics for part in topic])


def _broker(answer: Reader) -> int:
    node = answer.take("i")
    answer.text()  # host
    answer.take("i")  # port
    answer.text()  # rack
    return node


def _topic(answer: Reader) -> list[Partition]:
    answer.take("h")  # error: a topic that is being deleted has no partitions
    name = answer.text()
    answer.take("b")  # internal
    return [_partition(answer, name) for _ in range(answer.take("i"))]


def _partition(answer: Reader, topic: str) -> Partition:
    answer.take("h")  # error: a missing leader shows as -1, too
    index, leader = answer.take("i"), answer.take("i")
    return Partition(topic, index, leader, answer.numbers(), answer.numbers())


def _ask(address: str, api_key: int, version: int, body: bytes, timeout_s: float) -> bytes:
    host, _, port = address.rpartition(":")
    head = struct.pack(">hhih", api_key, version, 1, len(CLIENT_ID)) + CLIENT_ID
    with socket.create_connection((host, int(port)), timeout=timeout_s) as line:
        line.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        length = int.from_bytes(_exactly(line, 4), "big")
        if not 4 <= length <= ANSWER_BYTES_MAX:
            raise OSError(f"{address} does not speak Kafka: an answer of {length} bytes")
        return _exactly(line, length)[4:]


def _exactly(line: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        some = line.recv(count - len(got))
        if not some:
            raise OSError("the broker closed the connection before it had answered")
        got += some
    return bytes(got)
