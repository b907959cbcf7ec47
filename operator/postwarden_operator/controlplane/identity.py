"""Who a sidecar is: only what its token proves.

Contract: an Authenticator turns a token into the pod that it is bound to. The cluster's asks the API server;
the one for files knows a single token. Nothing that the sidecar says of itself widens what it gets.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """A pod, as its token names it."""

    pod_uid: str
    namespace: str
    name: str


class Refusal(Enum):
    """The names of gRPC's status codes: a bad token, a good token of nobody we serve, nobody to ask now."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAVAILABLE = "UNAVAILABLE"


class AuthenticationFailed(Exception):
    """`code` goes to the sidecar, and the text: one sentence that never holds the token."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.code = code


class Authenticator(Protocol):
    """Raises AuthenticationFailed. UNAVAILABLE wherever the fault may be ours: a sidecar then tries again."""

    async def authenticate(self, token: str) -> Identity: ...
