"""What the operator on files tells whoever runs it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selected:
    """This policy, compiled to this version, is the one that the sidecar is to have."""

    namespace: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The sidecar has acknowledged it: in force in every worker."""

    namespace: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One line.

    What is wrong, where, what to do. What is in force stays. Told once for as long as it lasts.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Conflicted:
    """The first policy is not in force because the other comes before it by namespace and name."""

    namespace: str
    name: str
    winner: str


FilesEvent = Selected | Applied | Problem | Conflicted


@dataclass(frozen=True, slots=True)
class Served:
    """Where and with what token the sidecar subscribes. address: gRPC's, `unix:PATH`."""

    address: str
    token: str


class NothingUsable(Exception):
    """The first load found no policy that can be put in force. errors: a line each."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))
