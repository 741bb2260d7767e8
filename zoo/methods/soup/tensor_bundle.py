"""Read TensorFlow's checkpoint format V2 without TensorFlow: an index of named tensors, and their bytes in one shard.

The index is an SSTable as LevelDB writes it (https://github.com/google/leveldb, ``doc/table_format.md``): blocks of
prefix-compressed keys, found through an index block that the footer points to. Its values are ``BundleEntryProto``
messages (tensorflow, ``core/protobuf/tensor_bundle.proto``). Every block and tensor has a masked CRC-32C, checked here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_FLOAT = 1
_MASK = 0xA282EAD8
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CRC = 1, 2, 3, 4, 5, 6
_SHARDS, _ENDIANNESS = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _MalformedError(Exception):
    """The bytes are not what the format asks for."""


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of ``data``, rotated and offset as LevelDB and TensorFlow store it."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7
    raise _MalformedError("a number runs past its end")


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block of the table."""
    if offset + size + _TRAILER > len(index) or size < 4:
        raise _MalformedError("a block lies outside the file")
    block = index[offset : offset + size]
    kind, crc = struct.unpack_from("<BI", index, offset + size)
    if kind != 0:
        raise _MalformedError("its blocks are compressed, which TensorFlow does not do by itself")
    if masked_crc32c(block + bytes([kind])) != crc:
        raise _MalformedError("the checksum of a block does not agree")
    end = size - 4 - 4 * int(struct.unpack_from("<I", block, size - 4)[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise _MalformedError("an entry runs past its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _message(data: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of a protocol buffer message: (number, integer or bytes)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
            if wire == _BYTES:
                length, at = _varint(data, at)
            if length is None or at + length > len(data):
                raise _MalformedError("an entry is no message")
            raw = data[at : at + length]
            value = raw if wire == _BYTES else int.from_bytes(raw, "little")
            at += length
        yield tag >> 3, value


def _entries(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(index) < _FOOTER or struct.unpack_from("<Q", index, len(index) - 8)[0] != _MAGIC:
        raise _MalformedError("it does not end as one")
    footer = index[-_FOOTER:]
    at = 0
    for _ in range(2):
        _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    for _, handle in _block(index, offset, size):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        yield from _block(index, start, length)


def _shape(message: bytes) -> tuple[int, ...]:
    return tuple(dict(_message(value)).get(1, 0) for number, value in _message(message) if number == 2)


def _tensor(name: str, entry: bytes, shard: bytes) -> npt.NDArray[np.float32] | None:
    """The tensor an entry describes; None if it is not float32."""
    fields = dict(_message(entry))
    if fields.get(_DTYPE) != _FLOAT:
        return None
    shape = _shape(fields.get(_SHAPE, b""))
    offset, size = fields.get(_OFFSET, 0), fields.get(_SIZE, 0)
    if fields.get(_SHARD, 0) != 0 or size != 4 * math.prod(shape) or offset + size > len(shard):
        raise _MalformedError(f"the tensor {name} lies outside the data file")
    data = shard[offset : offset + size]
    if masked_crc32c(data) != fields.get(_CRC):
        raise _MalformedError(f"the checksum of the tensor {name} does not agree")
    return np.frombuffer(data, "<f4").reshape(shape)


def read_bundle(
    index: bytes, shard: bytes, source: str, wanted: Callable[[str], bool] = lambda _: True
) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 tensors of a checkpoint with one shard, by name.

    ``index`` is the content of ``variables.index``, ``shard`` that of ``variables.data-00000-of-00001``; ``source``
    names them in errors.

    Raises:
        UserError: they are damaged, or in several shards or big-endian.
    """
    try:
        found = {}
        for key, value in _entries(index):
            if key == b"":
                header = dict(_message(value))
                if header.get(_SHARDS) != 1 or header.get(_ENDIANNESS, 0) != 0:
                    raise _MalformedError("it has several shards or is big-endian")
                continue
            name = key.decode("utf-8")
            tensor = _tensor(name, value, shard) if wanted(name) else None
            if tensor is not None:
                found[name] = tensor
    except (_MalformedError, UnicodeDecodeError, TypeError, struct.error) as error:
        raise UserError(f"{source}: is not a readable TensorFlow checkpoint ({error}); fetch the file again") from error
    return found
