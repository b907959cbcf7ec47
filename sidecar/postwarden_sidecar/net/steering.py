"""Which worker has a client: by a hash of its address, so that all connections of one client meet in one worker.

The kernel asks a classic BPF program that hangs on the SO_REUSEPORT group (socket(7), SO_ATTACH_REUSEPORT_CBPF); clients that a trusted
proxy announces are found by the same hash here. Classic BPF and not eBPF: it needs no capability.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from dataclasses import dataclass

_SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
_NET_OFF = -0x100000  # linux/filter.h, SKF_NET_OFF: counted from the network header
_V4_SOURCE, _V6_SOURCE = 12, 8  # RFC 791 3.1, RFC 8200 3: offset of the source address
V6_BITS = 64  # the longest prefix of IPv6 that is looked at: what one subscriber gets (RFC 6177)
_MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio, the nearest prime (Knuth, 6.4)
_SHIFT = 16  # bits; the upper half of a product is the well-mixed one
_WORD = 0xFFFFFFFF

# Codes of linux/bpf_common.h, class | size or operation | source.
_LOAD_WORD, _LOAD_BYTE, _LOAD_MEMORY, _STORE = 0x20, 0x30, 0x60, 0x02
_AND, _MULTIPLY, _DIVIDE, _MODULO, _RIGHT, _XOR_X = 0x54, 0x24, 0x34, 0x94, 0x74, 0xAC
_TO_X, _IF_EQUAL, _JUMP, _RETURN, _RETURN_A = 0x07, 0x15, 0x05, 0x06, 0x16

_Step = tuple[int, int, int, int]  # code, steps to skip if true, if false, operand


@dataclass(frozen=True, slots=True)
class Steering:
    """workers: sockets of the group, in the order in which they began to listen. ipv4, ipv6: bits of the prefix that is one client.
    out: workers that get no clients; never all."""

    workers: int
    ipv4: int = 32
    ipv6: int = V6_BITS
    out: tuple[int, ...] = ()

    def owner(self, address: str) -> int:
        """The worker of a client. address: v4-mapped ones as v4. Raises ValueError if it is no address."""
        packed = ipaddress.ip_address(address).packed
        if len(packed) == 4:
            mixed = (int.from_bytes(packed) & _mask(self.ipv4, 32)) * _MULTIPLIER & _WORD
        else:
            prefix = int.from_bytes(packed[:8]) & _mask(min(self.ipv6, V6_BITS), 64)
            mixed = (prefix >> 32) * _MULTIPLIER & _WORD ^ prefix & _WORD
            mixed = mixed * _MULTIPLIER & _WORD
        mixed >>= _SHIFT
        first = mixed % self.workers
        if first not in self.out:
            return first
        there = self._there()
        return there[mixed // self.workers % len(there)]

    def attach(self, member: socket.socket) -> None:
        """To the whole group of this socket, at once, in place of the program before. Raises OSError."""
        program = b"".join(struct.pack("=HBBI", *step) for step in self._program())
        _attach(member, ctypes.create_string_buffer(program, len(program)))

    def _there(self) -> list[int]:
        return [index for index in range(self.workers) if index not in self.out]

    def _program(self) -> list[_Step]:
        v6_mask = _mask(min(self.ipv6, V6_BITS), 64)
        v4 = [
            _step(_LOAD_WORD, _NET_OFF + _V4_SOURCE),
            _step(_AND, _mask(self.ipv4, 32)),
            _step(_MULTIPLY, _MULTIPLIER),
        ]
        v6 = [
            _step(_LOAD_WORD, _NET_OFF + _V6_SOURCE + 4),
            _step(_AND, v6_mask & _WORD),
            _step(_TO_X, 0),
            _step(_LOAD_WORD, _NET_OFF + _V6_SOURCE),
            _step(_AND, v6_mask >> 32),
            _step(_MULTIPLY, _MULTIPLIER),
            _step(_XOR_X, 0),
            _step(_MULTIPLY, _MULTIPLIER),
        ]
        program = [
            _step(_LOAD_BYTE, _NET_OFF),
            _step(_RIGHT, 4),
            (_IF_EQUAL, len(v4) + 1, 0, 6),
            *v4,
            _step(_JUMP, len(v6)),
            *v6,
            _step(_RIGHT, _SHIFT),
            _step(_STORE, 0),
            _step(_MODULO, self.workers),
        ]
        for position, index in enumerate(self.out):
            # to behind the remaining comparisons and the RETURN_A
            program.append((_IF_EQUAL, len(self.out) - position, 0, index))
        program.append(_step(_RETURN_A, 0))
        if self.out:
            there = self._there()
            program += [_step(_LOAD_MEMORY, 0), _step(_DIVIDE, self.workers), _step(_MODULO, len(there))]
            for rank, index in enumerate(there):
                program += [(_IF_EQUAL, 0, 1, rank), _step(_RETURN, index)]
            program.append(_step(_RETURN, there[0]))  # never reached; a program must end so
        return program


def _attach(member: socket.socket, program: ctypes.Array[ctypes.c_char]) -> None:
    """program is the caller's, who holds it until this returns: a compiled function lets go of a variable of its own once it is not used
    any more, and the kernel would read what is free."""
    reference = struct.pack("@HP", len(program) // 8, ctypes.addressof(program))
    member.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, reference)


def _mask(bits: int, width: int) -> int:
    return (1 << width) - (1 << (width - bits))


def _step(code: int, operand: int) -> _Step:
    return code, 0, 0, operand & _WORD
