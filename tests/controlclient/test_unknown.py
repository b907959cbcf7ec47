"""What a newer operator may send and this release does not know: refused wherever it stands, and never a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from controlclient.test_decode_tests import full
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient.decode import decode
from postwarden_sidecar.controlclient.decode_values import Undecodable

Path = tuple[str | int, ...]


def whole() -> pb.Snapshot:
    """Every field of an enum is set in it, on whatever level."""
    message = full()
    message.rules.upstream.port = 2525
    message.rules.upstream.handoff = pb.HANDOFF_PROXY_V2
    message.rules.telemetry.sampling.add(verdict=pb.VERDICT_HANGUP, percent=1)
    return message


def enums(message: Message, path: Path = ()) -> Iterator[Path]:
    """Where the message holds an enum's value."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_ENUM:
            yield (*path, field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            parts = enumerate(value) if field.is_repeated else [(None, value)]
            for index, part in parts:
                yield from enums(part, (*path, field.name) if index is None else (*path, field.name, index))


def declared(message: type[Message]) -> int:
    """How many fields of enums there are in the message's type and in those that it holds, lists counted once."""

    def count(descriptor: object) -> int:
        fields = descriptor.fields  # type: ignore[attr-defined]  # a descriptor, of whatever implementation
        return sum(
            count(field.message_type) if field.message_type is not None else field.enum_type is not None
            for field in fields
        )

    return count(message.DESCRIPTOR)


PATHS = sorted(set(enums(whole())), key=str)


def test_every_enum_of_a_snapshot_is_tried() -> None:
    assert len(PATHS) == declared(pb.Snapshot)


@pytest.mark.parametrize("number", [0, 99], ids=["missing", "unknown"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_enum_value_that_is_missing_or_unknown_is_refused_wherever_it_stands(path: Path, number: int) -> None:
    message = whole()
    assert decode(message, {})
    part: object = message
    for step in path[:-1]:
        part = part[step] if isinstance(step, int) else getattr(part, step)  # type: ignore[index]
    setattr(part, str(path[-1]), number)
    with pytest.raises(Undecodable, match=rf"{path[-1]} has the unknown value {number}"):
        decode(message, {})


def test_field_that_no_required_feature_stands_for_may_be_passed_over() -> None:
    message = whole()
    unknown = b"\xba\x7d\x00"  # field 2007, empty
    assert decode(pb.Snapshot.FromString(message.SerializeToString() + unknown), {}) == decode(message, {})


@given(st.data())
def test_snapshot_with_any_bytes_changed_becomes_rules_or_is_refused(
    data: st.DataObject,
) -> None:
    content = bytearray(whole().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError, Undecodable):
        decode(pb.Snapshot.FromString(bytes(content)), {})
