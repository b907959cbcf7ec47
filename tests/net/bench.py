"""The driver for tests: in a thread of its own, on a loopback port, with short times and a host that remembers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType

from postwarden_sidecar.engine.actions import DnsblAnswer
from postwarden_sidecar.engine.alike import whole
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record, Visit
from postwarden_sidecar.ipc.messages import UpstreamFault, UpstreamInForce
from postwarden_sidecar.ipc.page import CELLS, SCREENING, STAGES, UPSTREAM, Page, active
from postwarden_sidecar.net.driver import Driver
from postwarden_sidecar.net.environment import Inquiry
from postwarden_sidecar.net.listener import listen
from postwarden_sidecar.net.loop import Loop
from postwarden_sidecar.net.route import Route, make_route
from postwarden_sidecar.net.timeouts import Timeouts
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable
from postwarden_sidecar.rules.settings import (
    Access,
    AccessRule,
    Action,
    LogFormat,
    Mode,
    PolicyRef,
    Pregreet,
    Rules,
)

TIMEOUT = 10.0  # seconds; a test that gets here fails
FEW_TURNS = 30  # of the loop in a connection's life; one that spins makes thousands a second
SHORT = Timeouts(
    connect_unix=0.3, connect_tcp=0.3, greeting=0.3, half_closed=0.3, pass_control=0.3, flush=0.3
)


def make_rules(
    *,
    wait: float = 0.2,
    banner: str | None = "mx.example ESMTP",
    action: Action = Action.ENFORCE,
    permitted: AddressTable = EMPTY,
    listed: AddressTable = EMPTY,
    reject: Action = Action.ENFORCE,
    proxy_trusted: AddressTable = EMPTY,
) -> Rules:
    """listed: networks of one access rule."""
    return Rules(
        policy=PolicyRef("mail", "mx", "u", 1, "r1", "v1"),
        mode=Mode.ENFORCE,
        access=Access(permitted, reject, (AccessRule("spec.access.rules[0]", listed),)),
        pregreet=Pregreet(action, wait, banner, 3600.0),
        upstream=None,
        proxy_trusted=proxy_trusted,
        proxy_timeout=0.3,
        hostname="mx.example",
        log_format=LogFormat.JSON,
    )


class HeldInquiry:
    """A question to block lists; the test answers it."""

    def __init__(self, address: str, answer: Callable[[DnsblAnswer], None]) -> None:
        self.address = address
        self.answer = answer
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class MemoryHost:
    """The worker's part: what is in force, and what came of it."""

    def __init__(self, context: Context, upstream: UpstreamInForce) -> None:
        self.current = context
        self.current_route = make_route(upstream)
        self.passes: dict[str, dict[str, float]] = {}
        self.faults: list[UpstreamFault] = []
        self.inquiries: list[HeldInquiry] = []
        self.stress: list[tuple[bool, int]] = []
        self.prepared: list[str] = []
        self.pauses: list[str] = []
        self.offered: tuple[str, ...] | None = None
        self._records: list[Record] = []
        self._recorded = threading.Condition()

    def context(self) -> Context:
        return self.current

    def offer(self, *keywords: str) -> None:
        """What clients that come from now on are offered after EHLO."""
        self.current = replace(self.current, ehlo=keywords)

    def route(self) -> Route:
        return self.current_route

    def lookup_pass(self, key: str, answer: Callable[[Mapping[str, float]], None]) -> None:
        answer(self.passes.get(key, {}))

    def prepare_pass(self, key: str) -> None:
        self.prepared.append(key)

    def remembered(self, key: str) -> Mapping[str, float]:
        return self.passes.get(key, {})

    def store_pass(self, key: str, expiries: Mapping[str, float]) -> None:
        self.passes[key] = dict(expiries)

    def query_dnsbl(self, address: str, rules: Rules, answer: Callable[[DnsblAnswer], None]) -> Inquiry:
        inquiry = HeldInquiry(address, answer)
        self.inquiries.append(inquiry)
        return inquiry

    def record(self, record: Record) -> None:
        with self._recorded:
            self._records.append(record)
            self._recorded.notify_all()

    def record_alike(self, template: Record, visit: Visit) -> None:
        self.record(whole(template, visit))

    def learned(self, route: Route, ehlo: tuple[str, ...]) -> None:
        self.offered = ehlo

    def upstream_fault(self, fault: UpstreamFault) -> None:
        self.faults.append(fault)

    def accept_paused(self, why: str) -> None:
        self.pauses.append(why)

    def stress_changed(self, on: bool, connections: int) -> None:
        self.stress.append((on, connections))

    def records(self, count: int = 1) -> list[Record]:
        """So many records, once they are there."""
        with self._recorded:
            assert self._recorded.wait_for(lambda: len(self._records) >= count, TIMEOUT)
            return list(self._records)


class Bench:
    """Use as a context manager. Its end checks that nothing is left behind."""

    def __init__(
        self,
        target: str = "127.0.0.1:1",
        handoff: str = "Plain",
        rules: Rules | None = None,
        *,
        usable: bool = True,
        timeouts: Timeouts = SHORT,
        limit: int = 4096,
    ) -> None:
        self.host = MemoryHost(
            Context(rules, False, "mx.example ESMTP", ("SIZE 1000",)),
            UpstreamInForce(
                target, handoff, usable, "" if usable else "not proved yet", "mx.example ESMTP", None
            ),
        )
        self.page = Page.create()
        self.cells = self.page.slot(0)
        (self.listener,) = listen("127.0.0.1", 0, 1)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.loop = Loop()
        self.driver = Driver(
            self.loop, self.listener, self.host, self.page, self.cells, limit=limit, timeouts=timeouts
        )
        self._calls: list[Callable[[], None]] = []
        self._turned = threading.Condition()
        self.loop.each_turn.append(self._after_turn)
        self._thread = threading.Thread(target=self.loop.run)
        self.turns = 0

    def __enter__(self) -> Bench:
        self.driver.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.await_idle()
        finally:
            self.loop.stop()
            self._thread.join()
            self.driver.close()
            self.loop.release()
            self.listener.close()
            gauges = (SCREENING, UPSTREAM, *map(active, STAGES))
            self.page_gauges = {gauge: self.cells[CELLS[gauge]] for gauge in gauges}
            self.cells.release()
            self.page.close()
            os.close(self.page.descriptor)
        if error is None:
            assert self.page_gauges == dict.fromkeys(gauges, 0)

    def _after_turn(self) -> None:
        self.turns += 1
        calls, self._calls = self._calls, []
        for call in calls:
            call()
        with self._turned:
            self._turned.notify_all()

    def call(self, function: Callable[[], None]) -> None:
        """Call in the loop's thread."""
        self._calls.append(function)
        self.loop.wake()

    def await_idle(self) -> None:
        """Until no connection is open in the driver, nor waits to be accepted: two whole turns see all that was there before."""
        for _ in range(2):
            self.await_turn()
        self.wait_for(lambda: self.driver.open_connections == 0)

    def await_turn(self) -> None:
        """Until what was called before has been called."""
        turned = threading.Event()
        self.call(turned.set)
        assert turned.wait(TIMEOUT)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until a turn of the loop leaves the condition true."""
        self.loop.wake()
        with self._turned:
            assert self._turned.wait_for(condition, TIMEOUT)

    def gauge(self, stage: str) -> int:
        return self.cells[CELLS[active(stage)]]

    def connect(self) -> Client:
        return Client(self.address)


class Client:
    """A scripted client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=TIMEOUT)
        self.address: tuple[str, int] = self.socket.getsockname()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear_line(self) -> bytes:
        """One line, byte by byte, so that nothing behind it is taken."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.socket.recv(1)
            if not byte:
                break
            line += byte
        return line

    def hear_reply(self) -> bytes:
        """One reply, all lines."""
        reply = b""
        while True:
            line = self.hear_line()
            reply += line
            if line[3:4] != b"-":
                return reply

    def hear_all(self) -> bytes:
        """All up to FIN; a RST fails the test."""
        data = b""
        while chunk := self.socket.recv(65536):
            data += chunk
        return data

    def end(self) -> None:
        """Send FIN."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()
