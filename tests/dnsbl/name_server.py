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


@dataclass
class Zone:
    """listed: addresses by the reversed client, `2.0.0.127`; "*": of everyone. mode: "" answers; else "silent", "servfail", "refused",
    "garbage", "other name", "truncated" (by UDP only), "truncated, no tcp" (closed without a reply), "other id first". delay: seconds."""

    listed: dict[str, list[str]] = field(default_factory=dict)
    ttl: int = 60
    negative_ttl: int = 30
    mode: str = ""
    delay: float = 0.0


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
        for owned in (self._tcp, self._udp, self._wake, self._stop):
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
            case "truncated, no tcp" if tcp:
                return []
            case "truncated" | "truncated, no tcp" if not tcp:
                response.answer.clear()
                response.flags |= dns.flags.TC
                return [response.to_wire()]
            case "other name":
                other = dns.message.make_query("x.other.example.", "A", id=query.id)
                return [self._coded(other, dns.rcode.NOERROR)]
            case "other id first":
                return [bytes((wire[0] ^ 1,)) + wire[1:], b"", b"\0", wire]
        return [wire]
