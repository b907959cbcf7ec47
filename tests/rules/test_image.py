"""The image of rules: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

import msgspec
import pytest
from engine.scene import make_rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postwarden_sidecar.rules import image
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import Rules
from strategies import rules

RULES = make_rules(
    permit=("192.168.0.1", "2001:db8::1"), reject=("192.168.0.0/16", "10.0.0.0/8"), trusted=("10.0.0.0/24",)
)


@given(rules())
# Rules have many fields, and drawing them takes a while on a busy machine.
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rules_come_out_as_they_went_in(value: Rules) -> None:
    encoded = image.encode(value)
    assert image.decode(encoded) == value
    assert image.encode(value) == encoded


def test_the_tables_of_a_mapped_image_lie_in_the_map(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_bytes(image.encode(RULES))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    decoded = image.decode(mapped)
    table = decoded.access.rules[1].table
    assert table.lookup(bytes([192, 168, 7, 7])) == (2, 1)
    assert table.v4[0].obj is mapped
    with pytest.raises(BufferError):  # the views hold the map
        mapped.close()


def test_every_truncation_is_refused() -> None:
    whole = image.encode(RULES)
    for size in range(len(whole)):
        with pytest.raises(image.ImageError):
            image.decode(whole[:size])


def test_every_flipped_bit_is_refused() -> None:
    whole = image.encode(RULES)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(image.ImageError):
            image.decode(damaged)


def test_an_image_from_before_shards_counted_lines_is_read() -> None:
    content = bytes(4) + b"\x09\0\0\0" + b"\x07\0\0\0" + b"\x02"

    def hook(value: object) -> object:
        return [[(0, 13)], []] if isinstance(value, AddressTable) else value

    header = msgspec.msgpack.encode(RULES, enc_hook=hook)
    decoded = image.decode(sealed(header, content + bytes(3)))
    assert decoded.access.my_networks.lookup(bytes(4)) == (2, 7)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(image.ImageError):
        image.decode(data)


def test_pieces_follow_each_other_and_hold_the_tables_as_they_are() -> None:
    pieces = image.pieces(RULES)
    assert b"".join(pieces) == image.encode(RULES)
    shards = [shard for table in image.tables(RULES) for family in (table.v4, table.v6) for shard in family]
    assert len(shards) > 2
    assert [piece.obj for piece in pieces if isinstance(piece, memoryview)] == [shard.obj for shard in shards]


def test_what_is_known_to_be_whole_is_not_read_for_its_checksum() -> None:
    whole = bytearray(image.encode(RULES))
    whole[8] ^= 1
    with pytest.raises(image.ImageError, match="checksum"):
        image.decode(whole)
    assert image.decode(whole, checked=True) == RULES


def sealed(header: bytes, data: bytes = b"") -> bytes:
    """An image with a right checksum."""
    length = struct.pack("<I", len(header))
    rest = header + bytes(-(16 + len(header)) % 8) + data
    return image.MAGIC + struct.pack("<I", zlib.crc32(rest, zlib.crc32(length))) + length + rest


@given(st.binary(max_size=200))
def test_a_header_of_any_bytes_is_refused_in_words(header: bytes) -> None:
    with pytest.raises(image.ImageError, match="does not fit this release"):
        image.decode(sealed(header))


@pytest.mark.parametrize("place", [(8, 13), (0, 26), (-8, 13), (4, 13), (0, 12), (0, -1)])
def test_a_table_outside_of_the_image_or_out_of_shape_is_refused(place: tuple[int, int]) -> None:
    def hook(value: object) -> object:
        return [[place], []] if isinstance(value, AddressTable) else value

    header = msgspec.msgpack.encode(RULES, enc_hook=hook)
    with pytest.raises(image.ImageError):
        image.decode(sealed(header, bytes(16)))
