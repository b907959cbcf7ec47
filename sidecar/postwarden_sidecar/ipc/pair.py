"""One end of a pair of SOCK_SEQPACKET sockets between supervisor and worker: packets in and out, without
blocking.

A packet is whole or a fault, never a part: the receive buffer is as large as the largest packet, and
MSG_TRUNC says that the other side broke the rule. No stream socket, for it would need framing and could tear
a message from its descriptor.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Sequence

from postwarden_sidecar.ipc.messages import MAX_MESSAGE

BUFFER = 64 * 1024  # bytes each way: two of the largest packets (the kernel doubles it for its own overhead)
MAX_DESCRIPTORS = 4  # with one packet; one is used (the rules' memory file)


_CUT_OFF = int(
    socket.MSG_TRUNC | socket.MSG_CTRUNC
)  # a number: to combine members of a Flag takes a microsecond each time
_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)  # for now: another try is worth it


class ChannelClosed(Exception):
    """The other side has closed its end, or is dead."""


class ChannelFault(Exception):
    """The other side sent what the contract excludes; the message says what. The pair is of no use any
    more."""


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends, non-blocking, with buffers of BUFFER bytes, closed on exec unless passed on."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        prepare(end)
    return ends


def prepare(end: socket.socket, send_buffer: int = BUFFER) -> None:
    """Make an inherited end non-blocking and give it the buffers' size. send_buffer: bytes; the kernel takes net.core.wmem_max for more."""
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def send_packet(end: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> bool:
    """Send one packet; False if the buffer is full now, or the kernel has no memory (nothing was sent). Raises ChannelClosed, and OSError
    where descriptors can't be passed."""
    ancillary = []
    if descriptors:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)))
    try:
        end.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)
    except (BlockingIOError, InterruptedError):
        return False
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ChannelClosed from error
    except OSError as error:
        if error.errno not in _NO_MEMORY:
            raise
        return False
    return True


def receive_packet(end: socket.socket) -> tuple[bytes, tuple[int, ...]] | None:
    """One packet and its descriptors (closed on exec, the caller's to close); None if none waits.

    Raises ChannelClosed at the end, ChannelFault for a packet above MAX_MESSAGE.
    """
    try:
        packet, ancillary, flags, _ = end.recvmsg(
            MAX_MESSAGE,
            socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize),
            socket.MSG_CMSG_CLOEXEC,
        )
    except (BlockingIOError, InterruptedError):
        return None
    except ConnectionResetError as error:
        raise ChannelClosed from error
    except OSError as error:
        if error.errno not in _NO_MEMORY:
            raise
        return None
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & _CUT_OFF:
        close_all(descriptors)
        raise ChannelFault(f"a packet above {MAX_MESSAGE} bytes or {MAX_DESCRIPTORS} descriptors came in")
    if not packet:  # no message is empty
        close_all(descriptors)
        raise ChannelClosed
    return packet, tuple(descriptors)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a message and are of no use."""
    for descriptor in descriptors:
        os.close(descriptor)
