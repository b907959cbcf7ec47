"""The control socket of a `pass` service of Postfix: the client's descriptor and its addresses go over it in one packet.

postscreen sends the descriptor's byte and the attributes one after the other. smtpd reads that one byte first however much is there, so
both may be one message (tried with Postfix 3.7.11): a system call and a waking of smtpd less, and no client whose addresses are missing.
"""

from __future__ import annotations

import socket
import sys

from postwarden_sidecar.handoff.smtpd_pass import DESCRIPTOR_PAYLOAD


def pass_descriptor(control: socket.SocketType, descriptor: int, attributes: bytes) -> bool:
    """Whether all was sent; what of it was is smtpd's. control: connected, and nothing was sent yet, so that its buffer takes it whole.
    Raises OSError: then nothing was sent."""
    message = DESCRIPTOR_PAYLOAD + attributes
    rights = ((socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder)),)  # a C int
    return control.sendmsg((message,), rights, socket.MSG_NOSIGNAL) == len(message)
