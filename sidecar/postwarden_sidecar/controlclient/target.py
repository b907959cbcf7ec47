"""Where the operator's control plane is, and how the sidecar shows who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class TokenUnreadable(Exception):
    """The token's file can't be read; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTarget:
    """address: `HOST:PORT` or `unix:PATH`. Exactly one of token and token_file.

    ca_pem: certificates that are trusted to sign the server's; None: no TLS, for a unix socket only (the
    one-machine mode): a token must not cross a network in the clear. ca_file: where they came from, if they may change there.
    """

    address: str
    token: str | None = None
    token_file: Path | None = None
    ca_pem: bytes | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a combination that can't work."""
        if (self.token is None) == (self.token_file is None):
            raise ValueError("a control target has either a token or a file with it")
        if self.ca_pem is None and not self.address.startswith("unix:"):
            raise ValueError(f"the control address {self.address} is no unix socket and needs a CA")

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
