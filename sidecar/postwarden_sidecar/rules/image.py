"""The image of Rules: one run of bytes that the supervisor writes once and every worker maps; also the last known good
on disk.

Layout, little-endian: magic, 8 bytes | CRC-32 of all that follows, 4 | length of the header, 4 | header, MessagePack of
the rules, in which a table is the list of its shards' places | the shards, each at a multiple of 8 bytes. The tables are
views into the buffer, so that a mapped image is shared and its size is no cost. It is written in pieces, from wherever the
tables lie: a list of a million networks must not be in memory several times. Not pickle: the file on disk is
input. A release that changes `rules.settings` in a way that old bytes do not fit changes the magic.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec

from postwarden_sidecar.rules.intervals import AddressTable, BadTable, Buffer
from postwarden_sidecar.rules.settings import Rules

MAGIC = b"PWRULES1"
_PREFIX = struct.Struct("<8sII")  # magic, checksum, length of the header
_ALIGNMENT = 8  # bytes; the widest column's element


class ImageError(ValueError):
    """The bytes are no image of rules that this release reads; the message says why in one sentence."""


def pieces(rules: Rules) -> list[Buffer]:
    """The image of rules, in pieces that follow each other: the header, and views of the tables as they are. The same rules give the
    same bytes."""
    shards: list[memoryview] = []
    data_size = 0

    def places(value: Any) -> list[list[tuple[int, int, int]]]:
        """Of a table: for each family the (offset from the data's start, length, lines before) of its shards."""
        nonlocal data_size
        if not isinstance(value, AddressTable):
            raise NotImplementedError(f"{type(value).__name__} has no place in an image of rules")
        families: list[list[tuple[int, int, int]]] = []
        for family, lines_before in zip((value.v4, value.v6), value.lines_before, strict=True):
            families.append([])
            for shard, before in zip(family, lines_before, strict=True):
                families[-1].append((data_size, len(shard), before))
                shards.append(shard)
                data_size += _aligned(len(shard))
        return families

    header = msgspec.msgpack.encode(rules, enc_hook=places)
    rest: list[Buffer] = [header + bytes(_aligned(_PREFIX.size + len(header)) - _PREFIX.size - len(header))]
    for shard in shards:
        rest += [shard, bytes(_aligned(len(shard)) - len(shard))]
    checksum = zlib.crc32(struct.pack("<I", len(header)))
    for piece in rest:
        checksum = zlib.crc32(piece, checksum)
    return [_PREFIX.pack(MAGIC, checksum, len(header)), *rest]


def tables(rules: Rules) -> list[AddressTable]:
    """All that rules have."""
    found: list[AddressTable] = []

    def note(value: Any) -> None:
        if not isinstance(value, AddressTable):
            raise NotImplementedError(f"{type(value).__name__} has no place in an image of rules")
        found.append(value)

    msgspec.msgpack.encode(rules, enc_hook=note)
    return found


def encode(rules: Rules) -> bytes:
    """The image of rules as one run of bytes."""
    return b"".join(pieces(rules))


def decode(buffer: Buffer, *, checked: bool = False) -> Rules:
    """The rules of an image. Their tables are views into buffer, which must stay as it is while they live.

    checked: the bytes are known to be those that were written, and the checksum, which would read them all (some 5 ms for a million
    networks), is not looked at. Raises ImageError.
    """
    image = memoryview(buffer).toreadonly().cast("B")
    if len(image) < _PREFIX.size:
        raise ImageError(f"an image of rules has at least {_PREFIX.size} bytes, this has {len(image)}")
    magic, checksum, header_size = _PREFIX.unpack_from(image)
    if magic != MAGIC:
        raise ImageError("this is no image of rules, or one of another release")
    if not checked and zlib.crc32(image[_PREFIX.size :], zlib.crc32(image[12:16])) != checksum:
        raise ImageError("the image of rules is damaged: its checksum is wrong")
    header = image[_PREFIX.size : _PREFIX.size + header_size]
    data = image[_aligned(_PREFIX.size + header_size) :]

    def table(kind: type, value: Any) -> Any:
        if kind is not AddressTable:
            raise NotImplementedError(f"{kind.__name__} has no place in an image of rules")
        v4, v6 = msgspec.convert(value, tuple[list[_Place], list[_Place]])
        return AddressTable(
            [_cut(data, place) for place in v4],
            [_cut(data, place) for place in v6],
            lines_before4=[place.lines_before for place in v4],
            lines_before6=[place.lines_before for place in v6],
        )

    try:
        return msgspec.msgpack.decode(header, type=Rules, dec_hook=table)
    except (msgspec.DecodeError, BadTable, ImageError) as error:
        raise ImageError(f"the image of rules does not fit this release: {error}") from error


class _Place(msgspec.Struct, array_like=True):
    """lines_before: older images have none."""

    offset: int
    length: int
    lines_before: int = 0


def _cut(data: memoryview, place: _Place) -> memoryview:
    offset, length = place.offset, place.length
    if offset < 0 or length < 0 or offset % _ALIGNMENT or offset + length > len(data):
        raise ImageError(f"a table lies outside of the image ({offset}, {length} bytes)")
    return data[offset : offset + length]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
