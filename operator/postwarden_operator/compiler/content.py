"""What the compiler is given for a list, and what it gives for the wire. Data only."""

from dataclasses import dataclass, field
from typing import Literal

from postwarden.screening.v1 import screening_pb2

from postwarden_operator.policy import FieldError


@dataclass(frozen=True, slots=True)
class Missing:
    """No such ConfigMap or Secret, or (keys is given: those that it has) no such key in it."""

    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NotLabelled:
    """The ConfigMap exists, but without the label `postwarden.dev/watch: "true"`, so it is not read."""


ListContent = bytes | Missing | NotLabelled
"""A ConfigMap key's content: `data` as UTF-8, or `binaryData` decoded from base64 (which may be gzip)."""


@dataclass(frozen=True, slots=True)
class NotPermitted:
    """The API server refuses to show the Secret."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A Secret's key. version: another one whenever the Secret changed; it says nothing of the value. used_for: its annotation."""

    value: bytes = field(repr=False)
    version: str
    used_for: str | None


SecretContent = SecretValue | Missing | NotPermitted


@dataclass(frozen=True, slots=True)
class BlobContent:
    """An interval table as it goes over the wire. hash: SHA-256 of data, hex. format: `iv4/1` or `iv6/1`."""

    hash: str
    format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """An interval table by the hashes of its shards, and what is to be added to the line of each row of a shard (but to line 0)."""

    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    ipv4_lines_before: tuple[int, ...]
    ipv6_lines_before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompiledList:
    """A list as a table. blobs: its shards by hash."""

    table: CompiledTable
    blobs: dict[str, BlobContent]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy that sidecars can be given. blobs: by hash. revision and version: see `revision`."""

    rules: screening_pb2.Rules = field(repr=False)
    """With the keys of DNSBL zones in it."""
    blobs: dict[str, BlobContent]
    revision: str
    version: str
    required_features: tuple[str, ...]


CompileReason = Literal["RefNotFound", "RefNotLabelled", "RefNotPermitted", "RefNotAllowed", "BadList"]
"""Reasons of the condition ResolvedRefs."""


class CompileFailed(ValueError):
    """The policy is valid, but what it refers to is not usable. reason: that of the first error."""

    def __init__(self, reason: CompileReason, errors: tuple[FieldError, ...]) -> None:
        self.reason: CompileReason = reason
        self.errors = errors
        super().__init__("; ".join(map(str, errors)))
