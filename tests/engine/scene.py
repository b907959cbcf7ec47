"""A driver for engines in virtual time: sockets as byte strings, a pass store, and an MTA that says what a real one would."""

from __future__ import annotations

from collections.abc import Callable

from postwarden_sidecar.engine.actions import (
    IDLE,
    Close,
    DnsblAnswer,
    EngineAction,
    HandOff,
    HandoffOutcome,
    HandOver,
    HandoverOutcome,
    Interest,
    Load,
    LookupPass,
    Observe,
    QueryDnsbl,
    Replay,
    Send,
    StorePass,
)
from postwarden_sidecar.engine.connection import Connection
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Record
from postwarden_sidecar.rules.intervals import EMPTY, AddressTable
from postwarden_sidecar.rules.settings import (
    Access,
    AccessAction,
    AccessRule,
    Action,
    Dnsbl,
    Limits,
    LogFormat,
    Mode,
    PolicyRef,
    Pregreet,
    Protocol,
    Rules,
    Session,
)

WALL = 1_700_000_000.0  # epoch seconds at the scene's time 0
LEARNED_EHLO = (
    "PIPELINING",
    "SIZE 10240000",
    "VRFY",
    "ETRN",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
    "ENHANCEDSTATUSCODES",
    "8BITMIME",
    "DSN",
    "SMTPUTF8",
    "CHUNKING",
)
HOST = "mx.example.org"
POLICY = PolicyRef("default", "mx", "uid-1", 3, "rev-1", "ver-1")


def make_rules(
    *,
    mode: Mode = Mode.ENFORCE,
    permit: tuple[str, ...] = (),
    reject: tuple[str, ...] = (),
    my_networks: tuple[str, ...] = (),
    reject_action: Action = Action.ENFORCE,
    pregreet: Action = Action.ENFORCE,
    wait: float = 6.0,
    banner: str | None = f"{HOST} ESMTP",
    ttl: float = 86400.0,
    trusted: tuple[str, ...] = (),
    hostname: str | None = HOST,
    protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
    session: Session = Session(),  # noqa: B008
    dnsbl: Dnsbl = Dnsbl(),  # noqa: B008
    limits: Limits = Limits(),  # noqa: B008
    pass_addresses: tuple[str, ...] = (),
    stress_wait: float | None = None,
    exempt: tuple[str, ...] = (),
) -> Rules:
    """Rules of a test: permit is spec.access.rules[0], reject rules[1]; lines are counted from 1."""

    def table(networks: tuple[str, ...], action: AccessAction) -> AddressTable:
        return AddressTable.from_networks((net, action, line) for line, net in enumerate(networks, 1))

    return Rules(
        policy=POLICY,
        mode=mode,
        access=Access(
            my_networks=table(my_networks, AccessAction.PERMIT),
            reject_action=reject_action,
            rules=(
                AccessRule("spec.access.rules[0]", table(permit, AccessAction.PERMIT)),
                AccessRule("spec.access.rules[1]", table(reject, AccessAction.REJECT)),
            ),
        ),
        pregreet=Pregreet(pregreet, wait, banner, ttl),
        upstream=None,
        proxy_trusted=table(trusted, AccessAction.PERMIT) if trusted else EMPTY,
        proxy_timeout=5.0,
        hostname=hostname,
        log_format=LogFormat.JSON,
        stress_wait=stress_wait,
        pass_addresses=table(pass_addresses, AccessAction.PERMIT) if pass_addresses else None,
        dnsbl=dnsbl,
        protocol=protocol,
        session=session,
        limits=limits,
        exempt_recipients=exempt,
    )


def make_context(
    rules: Rules | None,
    *,
    banner: str = f"{HOST} ESMTP",
    ehlo: tuple[str, ...] | None = LEARNED_EHLO,
    defer: bool = False,
) -> Context:
    return Context(rules, defer, banner, ehlo)


class Mta:
    """What the upstream says to a client that was handed over: enough of Postfix's smtpd for the recorded cases."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_data = False
        self.closed = False
        self.heard = b""

    def receive(self, data: bytes) -> bytes:
        self.heard += data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._answer(line.removesuffix(b"\r")) for line in lines)

    def _answer(self, line: bytes) -> bytes:
        if self._in_data:
            self._in_data = line != b"."
            return b"" if self._in_data else b"250 2.0.0 Ok: queued as ID\r\n"
        match line.split(b" ")[0].upper():
            case b"EHLO":
                words = [
                    HOST,
                    *(word for word in LEARNED_EHLO if word.split()[0] not in ("STARTTLS", "AUTH")),
                ]
                return (
                    "".join(f"250-{word}\r\n" for word in words[:-1]).encode()
                    + f"250 {words[-1]}\r\n".encode()
                )
            case b"HELO":
                return f"250 {HOST}\r\n".encode()
            case b"MAIL":
                return b"250 2.1.0 Ok\r\n"
            case b"RCPT":
                return b"250 2.1.5 Ok\r\n"
            case b"RSET" | b"NOOP":
                return b"250 2.0.0 Ok\r\n"
            case b"DATA":
                self._in_data = True
                return b"354 End data with <CR><LF>.<CR><LF>\r\n"
            case b"QUIT":
                self.closed = True
                return b"221 2.0.0 Bye\r\n"
        return b"502 5.5.2 Error: command not recognized\r\n"


class Wire:
    """A client's connection. output: (time, bytes) of what it got; record: what was observed; closed: by us or by the MTA."""

    def __init__(self, scene: Scene, context: Context, address: str, port: int, local: str) -> None:
        self._scene = scene
        self.address = address
        self._waiting = b""
        self._eof = False
        self._eof_told = False
        self._mta: Mta | None = None
        self.output: list[tuple[float, bytes]] = []
        self.actions: list[EngineAction] = []
        self.record: Record | None = None
        self.close: Close | None = None
        self.closed = False
        self.replay: Replay | None = None  # of a hand-over that is under way, or is done
        self.engine = Connection(
            context, address, port, local, 25, scene.now, WALL + scene.now, scene.load_of(self)
        )
        self.pump()

    @property
    def received(self) -> bytes:
        """All that the client got."""
        return b"".join(data for _, data in self.output)

    @property
    def handed_over(self) -> bool:
        return self._mta is not None

    @property
    def heard_by_mta(self) -> bytes:
        return b"" if self._mta is None else self._mta.heard

    def send(self, data: bytes) -> None:
        if not self.closed:
            self._waiting += data
            self.pump()

    def half_close(self) -> None:
        self._eof = True
        self.pump()

    def reset(self) -> None:
        if self._mta is None and not self.closed:
            self.engine.connection_lost(self._scene.now)
            self.pump()
        self.closed = True

    def pump(self) -> None:
        """What a driver does until nothing more is to be done at this moment."""
        while True:
            while (action := self.engine.next_action()) is not None:
                self.actions.append(action)
                self._carry_out(action)
            if self._mta is not None:
                self._give(self._mta.receive(self._waiting))
                self._waiting = b""
                self.closed = self.closed or self._mta.closed or self._eof
            if self._mta is not None or self.closed or not self._feed():
                return

    def _feed(self) -> bool:
        """Tell the engine one thing; whether there was one."""
        now = self._scene.now
        if self._waiting and self.engine.interest is Interest.PEEK:
            before = self.engine.stage, self.engine.interest, self.engine.next_deadline()
            taken = self.engine.receive_peek(self._waiting, now)
            self._waiting = self._waiting[taken:]
            return bool(taken) or before != (
                self.engine.stage,
                self.engine.interest,
                self.engine.next_deadline(),
            )
        if self._waiting and self.engine.interest is Interest.READ:
            data, self._waiting = self._waiting, b""
            self.engine.receive_bytes(data, now)
            return True
        if self._eof and not self._eof_told:
            self._eof_told = True
            self.engine.receive_eof(now)
            return True
        return False

    def _carry_out(self, action: EngineAction) -> None:
        now = self._scene.now
        match action:
            case Send(data):
                self._give(data)
            case LookupPass(key):
                self.engine.receive_pass(self._scene.passes.get(key, {}), now)
            case StorePass(key, expiries):
                self._scene.passes[key] = self._scene.passes.get(key, {}) | expiries
            case QueryDnsbl(address):
                self._scene.ask(self, address)
            case HandOver(_, replay):
                self.replay = replay
                self._hand_over(replay)
            case HandOff():
                if self._scene.handoff is HandoffOutcome.DONE:
                    self._mta = Mta()
                    self._give(f"220 {HOST} ESMTP upstream\r\n".encode())
                    self.engine.receive_handoff(HandoffOutcome.DONE, "ProxyV2", now, greeting_ended=True)
                elif self._scene.handoff is not None:
                    self.engine.receive_handoff(
                        self._scene.handoff, self._scene.handoff_detail, now, greeting_ended=False
                    )
            case Observe(record):
                assert self.record is None, "a second record"
                self.record = record
            case Close():
                self.close = action
                self.closed = True

    def _hand_over(self, replay: Replay) -> None:
        """To the MTA of the scene, or as the scene says."""
        if self._scene.handover is None:
            return
        outcome, reply = self._scene.handover
        if outcome is not HandoverOutcome.DONE:
            self.engine.receive_handover(outcome, reply, self._scene.now)
            return
        mta = Mta()
        for line in (replay.hello, replay.mail):
            mta.receive(line)
        self._give(mta.receive(replay.request + replay.rest))
        self._mta = mta
        self.engine.receive_handover(outcome, b"ProxyV2", self._scene.now)

    def tell(self, answer: DnsblAnswer) -> None:
        """A block list has answered."""
        if not self.closed and self._mta is None:
            self.engine.receive_dnsbl(answer, self._scene.now)
            self.pump()

    def _give(self, data: bytes) -> None:
        if data:
            self.output.append((self._scene.now, data))


class Scene:
    """Connections side by side, in virtual time. handoff: how hand-offs end; None: they do not end."""

    def __init__(
        self, handoff: HandoffOutcome | None = HandoffOutcome.DONE, handoff_detail: str = "down"
    ) -> None:
        self.now = 0.0
        self.handoff = handoff
        self.handoff_detail = handoff_detail
        self.handover: tuple[HandoverOutcome, bytes] | None = (HandoverOutcome.DONE, b"")
        self.passes: dict[str, dict[str, float]] = {}
        self.wires: list[Wire] = []
        self.load: Callable[[Wire, str], Load] = lambda wire, key: IDLE
        self.queries: list[str] = []  # addresses that the lists were asked about
        self.answers: Callable[[str], list[tuple[float, DnsblAnswer]]] = lambda address: []
        self._due: list[tuple[float, Wire, DnsblAnswer]] = []

    def load_of(self, wire: Wire) -> Callable[[str], Load]:
        return lambda key: self.load(wire, key)

    def ask(self, wire: Wire, address: str) -> None:
        """Ask the lists: answers gives each answer's delay, seconds."""
        self.queries.append(address)
        self._due += [(self.now + delay, wire, answer) for delay, answer in self.answers(address)]

    def connect(
        self, context: Context, address: str = "192.0.2.7", port: int = 40000, local: str = "198.51.100.25"
    ) -> Wire:
        wire = Wire(self, context, address, port, local)
        self.wires.append(wire)
        return wire

    def next_deadline(self) -> float | None:
        deadlines = [deadline for wire in self.wires if (deadline := wire.engine.next_deadline()) is not None]
        return min([*deadlines, *(due for due, _, _ in self._due)], default=None)

    def step(self, until: float) -> None:
        """Go on to the next timer, or to until if there is none before."""
        deadline = self.next_deadline()
        self.now = max(self.now, min(until, until if deadline is None else deadline))
        told = [entry for entry in self._due if entry[0] <= self.now]
        self._due = [entry for entry in self._due if entry[0] > self.now]
        for _, wire, answer in told:
            wire.tell(answer)
        for wire in self.wires:
            due = wire.engine.next_deadline()
            if due is not None and due <= self.now:
                wire.engine.handle_timer(self.now)
                wire.pump()

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.step(until)
        self.step(until)
