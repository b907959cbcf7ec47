"""What goes over the unix socket of a `pass` service of Postfix, besides the client's descriptor.

First a one-byte payload that carries the descriptor (SCM_RIGHTS), then the attributes as NUL-terminated
strings. smtpd checks that all four are there, sends no answer, and serves the descriptor; it does not ask the
kernel whose it is, so that the announced address of a client behind a proxy, and even one end of a
socketpair, will do (measured with Postfix 3.7.11).
"""

from __future__ import annotations

DESCRIPTOR_PAYLOAD = b"\0"  # the one byte that goes with the descriptor


def encode_attributes(client_address: str, client_port: int, server_address: str, server_port: int) -> bytes:
    """The attributes; addresses are bare, without brackets or zone."""
    pairs = (
        ("client_address", client_address),
        ("client_port", str(client_port)),
        ("server_address", server_address),
        ("server_port", str(server_port)),
    )
    return b"".join(f"{name}\0{value}\0".encode("ascii") for name, value in pairs) + b"\0"
