"""Where the operator's control plane is, and how the sidecar shows who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KEEPALIVE = 30.0  # seconds between two pings of a silent operator (design)
SHORTEST_KEEPALIVE = 10.0  # seconds; the operator sends away who pings more often


class TokenUnreadable(Exception):
    """The token's file can't be read; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTarget:
    """address: `HOST:PORT` or `unix:PATH`. Exactly one of token and token_file.

    keepalive: seconds that the operator may be silent before it is asked whether it is there; it has a third of that to answer.
    ca_pem: certificates that are trusted to sign the server's; None: no TLS, for a unix socket only (the
    one-machine mode): a token must not cross a network in the clear. ca_file: where they came from, if they may change there.
    """

    address: str
    token: str | None = None
    token_file: Path | None = None
    ca_pem: bytes | None = None
    keepalive: float = KEEPALIVE
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a combination that can't work."""
        if (self.token is None) == (self.token_file is None):
            raise ValueError("a control target has either a token or a file with it")
        if self.ca_pem is None and not self.address.startswith("unix:"):
            raise ValueError(f"the control address {self.address} is no unix socket and needs a CA")
        if self.keepalive < SHORTEST_KEEPALIVE:
            raise ValueError(
                f"the operator may not be pinged every {self.keepalive:g} s, only every {SHORTEST_KEEPALIVE:.0f}"
            )

    @property
    def keepalive_options(self) -> list[tuple[str, int]]:
        """gRPC's, for a channel."""
        answer = round(self.keepalive * 1000 / 3)
        return [
            ("grpc.keepalive_time_ms", round(self.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", answer),  # TCP's: for data that is not acknowledged
            # What counts for an operator that is frozen, whose kernel still acknowledges: a minute by
            # default, whatever the other one says (measured with grpcio 1.85).
            ("grpc.http2.ping_timeout_ms", answer),
        ]

    def read_ca(self) -> bytes | None:
        """ca_pem as it is in its file now. Raises OSError."""
        return self.ca_pem if self.ca_file is None else self.ca_file.read_bytes()

    def read_token(self) -> str:
        """The token as it is now: kubelet writes a projected one anew before it expires. Raises
        TokenUnreadable."""
        if self.token is not None:
            return self.token
        assert self.token_file is not None
        try:
            token = self.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenUnreadable(f"the token's file {self.token_file} can't be read: {error}") from error
        if not token:
            raise TokenUnreadable(f"the token's file {self.token_file} is empty")
        return token
