"""A name server for tests: dnspython's messages on real loopback sockets, UDP and TCP, one port; scripted by zone."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

RECORD = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x02"  # the name asked for is listed, for 60 seconds
# Answer sections that stand for nothing, each with its number of records.
MANGLED: dict[str, tuple[int, bytes]] = {
    "thousands of records": (4000, RECORD * 4000),
    "thousands of records announced": (0xFFFF, RECORD),
    "longer than the message": (1, RECORD[:10] + b"\xff\xff" + RECORD[12:]),
    "cut off": (2, RECORD + RECORD[:7]),
    "a name that points at itself": (1, b"\xc0\x2a" * 8 + RECORD[2:]),
    "an address of three octets": (1, RECORD[:10] + b"\0\x03\x7f\0\0"),
    "an address of another name": (1, b"\x05other\0" + RECORD[2:]),
    "an alias of itself": (1, RECORD[:2] + b"\0\x05" + RECORD[4:10] + b"\0\x02\xc0\x0c"),
}


@dataclass
class Zone:
    """listed: addresses by the reversed client, `2.0.0.127`; "*": of everyone. mode: "" answers; else "silent", "servfail", "refused",
    "garbage", "other name", "truncated" (by UDP only), "truncated, no tcp" (closed without a reply), "truncated, silent tcp", "other id
    first", or of MANGLED. delay: seconds. lost: so many queries by UDP
    are not answered, the first ones."""

    listed: dict[str, list[str]] = field(default_factory=dict)
    ttl: int = 60
    negative_ttl: int = 30
    mode: str = ""
    delay: float = 0.0
    lost: int = 0


class NameServer:
    """Use as a context manager."""

    def __init__(self, zones: dict[str, Zone], address: str = "127.0.0.1", port: int = 0) -> None:
        self.zones = zones
        self.queries: list[str] = []
        self.ports: set[int] = set()  # of those who asked by UDP
        self.by_tcp = 0
        self._tcp = socket.create_server((address, port))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, self.port))
        self.target = f"{address}:{self.port}"
        self._wake, self._stop = socket.socketpair()
        self._timers: list[threading.Timer] = []
        self._silent: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for owned in (self._tcp, self._udp, self._wake, self._stop, *self._silent):
            owned.close()

    def count(self, zone: str) -> int:
        """Queries to a zone, probes aside."""
        probes = ("1.0.0.127.", "2.0.0.127.")
        return sum(query.endswith(f".{zone}.") and not query.startswith(probes) for query in self.queries)

    def _run(self) -> None:
        while True:
            readable, _, _ = select.select([self._tcp, self._udp, self._wake], [], [])
            if self._wake in readable:
                return
            if self._udp in readable:
                packet, peer = self._udp.recvfrom(4096)
                self.ports.add(peer[1])
                self._answer(packet, partial(self._send, peer), tcp=False)
            if self._tcp in readable:
                self._serve_tcp()

    def _send(self, peer: tuple[str, int], reply: bytes) -> None:
        self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        if any(zone.mode == "truncated, silent tcp" for zone in self.zones.values()):
            self._silent.append(connection)
            return
        with connection, connection.makefile("rb") as stream:
            (size,) = struct.unpack("!H", stream.read(2))
            self.by_tcp += 1
            self._answer(
                stream.read(size),
                lambda reply: connection.sendall(struct.pack("!H", len(reply)) + reply),
                tcp=True,
            )

    def _answer(self, packet: bytes, send: Callable[[bytes], object], *, tcp: bool) -> None:
        query = dns.message.from_wire(packet)
        name = query.question[0].name
        self.queries.append(str(name))
        for text, zone in self.zones.items():
            origin = dns.name.from_text(text)
            if name.is_subdomain(origin):
                if zone.lost and not tcp:
                    zone.lost -= 1
                    return
                for reply in self._replies(query, name, origin, zone, tcp=tcp):
                    if zone.delay:
                        timer = threading.Timer(zone.delay, send, [reply])
                        self._timers.append(timer)
                        timer.start()
                    else:
                        send(reply)
                return
        send(self._coded(query, dns.rcode.REFUSED))

    def _coded(self, query: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response.to_wire()

    def _mangled(self, query: dns.message.Message, records: int, section: bytes) -> bytes:
        name = query.question[0].name.to_wire()
        assert name is not None
        return struct.pack("!HHHHHH", query.id, 0x8180, 1, records, 0, 0) + name + b"\0\1\0\1" + section

    def _replies(
        self, query: dns.message.Message, name: dns.name.Name, origin: dns.name.Name, zone: Zone, *, tcp: bool
    ) -> list[bytes]:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        client = str(name.relativize(origin))
        addresses = zone.listed.get(client, zone.listed.get("*", []))
        if addresses:
            response.answer.append(dns.rrset.from_text(name, zone.ttl, "IN", "A", *addresses))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
            soa = f"ns.{origin} root.{origin} 1 2 3 4 {zone.negative_ttl}"
            response.authority.append(dns.rrset.from_text(origin, 3600, "IN", "SOA", soa))
        wire = response.to_wire(max_size=65535)
        match zone.mode:
            case "silent":
                return []
            case "servfail":
                return [self._coded(query, dns.rcode.SERVFAIL)]
            case "refused":
                return [self._coded(query, dns.rcode.REFUSED)]
            case "garbage":
                return [wire[:-20]]  # 11 bytes are EDNS's
            case "truncated, no tcp" | "truncated, silent tcp" if tcp:
                return []
            case "truncated" | "truncated, no tcp" | "truncated, silent tcp" | "thousands by tcp" if not tcp:
                response.answer.clear()
                response.flags |= dns.flags.TC
                return [response.to_wire()]
            case "other name":
                other = dns.message.make_query("x.other.example.", "A", id=query.id)
                return [self._coded(other, dns.rcode.NOERROR)]
            case "thousands by tcp":
                return [self._mangled(query, *MANGLED["thousands of records"])]
            case mode if mode in MANGLED:
                return [self._mangled(query, *MANGLED[mode])]
            case "other id first":
                return [bytes((wire[0] ^ 1,)) + wire[1:], b"", b"\0", wire]
        return [wire]
