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
    return (
        f"client_address\0{client_address}\0client_port\0{client_port}\0"
        f"server_address\0{server_address}\0server_port\0{server_port}\0\0"
    ).encode("ascii")
