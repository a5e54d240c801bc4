"""Decompresses Kafka's record batches, never to more than a limit: a few kilobytes can hold gigabytes.

What a batch is, and what happens to one that cannot be read, is ``events/kafka/batches.py``'s business.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4
NAMES: Final = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}

GUESS_RATIO: Final = 8  #: most batches do not shrink by more; those that do are decompressed twice
GZIP_WINDOW_BITS: Final = 31  #: zlib's word for a gzip header and trailer
_XERIAL: Final = b"\x82SNAPPY\x00"  #: how the Java client frames snappy
_XERIAL_HEADER_BYTES: Final = 16


class CodecError(Exception):
    """A payload that cannot be decompressed; the message says why."""


def decompressed(codec: int, payload: bytes, *, bytes_max: int) -> bytes:
    """The plain bytes; raises ``CodecError`` for damage, an unknown codec, or more than ``bytes_max``."""
    name = NAMES.get(codec)
    if name is None:
        raise CodecError(f"it is compressed with codec {codec}, which nobody knows")
    try:
        if codec == GZIP:
            return _gzip(payload, bytes_max)
        library = _library()
        if library is None:
            raise CodecError(f"it is compressed with {name}: install the package cramjam")
        if codec == SNAPPY:
            return _snappy(library, payload, bytes_max)
        return _bounded(library, getattr(library, name).decompress_into, payload, bytes_max)
    except (zlib.error, struct.error) as error:
        raise CodecError(f"its {name} payload is damaged") from error


@lru_cache(maxsize=1)
def _library() -> Any:
    """cramjam, which aiokafka uses, too; None where it is not installed."""
    try:
        return importlib.import_module("cramjam")
    except ImportError:
        return None


def _gzip(payload: bytes, bytes_max: int) -> bytes:
    inflating = zlib.decompressobj(GZIP_WINDOW_BITS)
    plain = inflating.decompress(payload, bytes_max)
    if inflating.unconsumed_tail or (not inflating.eof and len(plain) == bytes_max):
        raise _too_large(bytes_max)
    if not inflating.eof:
        raise CodecError("its gzip payload is cut off")
    return plain


def _bounded(library: Any, decompress_into: Callable[[bytes, bytearray], int], payload: bytes, bytes_max: int) -> bytes:
    """Cramjam has no limit of its own, but a buffer that is given to it does not grow."""
    for size_bytes in (min(len(payload) * GUESS_RATIO, bytes_max), bytes_max):
        plain = bytearray(size_bytes)
        try:
            return bytes(memoryview(plain)[: decompress_into(payload, plain)])
        except library.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise CodecError("its payload is damaged") from error
    raise _too_large(bytes_max)


def _snappy(library: Any, payload: bytes, bytes_max: int) -> bytes:
    if not payload.startswith(_XERIAL):
        return _snappy_block(library, payload, bytes_max)
    blocks: list[bytes] = []
    position, room = _XERIAL_HEADER_BYTES, bytes_max
    while position < len(payload):
        (size_bytes,) = struct.unpack_from(">I", payload, position)
        position += 4
        blocks.append(_snappy_block(library, payload[position : position + size_bytes], room))
        room -= len(blocks[-1])
        position += size_bytes
    return b"".join(blocks)


def _snappy_block(library: Any, block: bytes, bytes_max: int) -> bytes:
    try:
        if library.snappy.decompress_raw_len(block) > bytes_max:
            raise _too_large(bytes_max)
        return bytes(library.snappy.decompress_raw(block))
    except library.DecompressionError as error:
        raise CodecError("its payload is damaged") from error


def _too_large(bytes_max: int) -> CodecError:
    return CodecError(f"it has more than {bytes_max:,} bytes when it is decompressed")
