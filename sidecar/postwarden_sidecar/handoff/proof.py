"""The proof that a hand-off is what the MTA expects: it is spoken to the MTA before any client is handed
over.

Greeting, EHLO, QUIT: exactly one 220 and one 250, and nothing between. (Measured: a PROXY header to an MTA
that expects none makes senders bounce, or shifts every reply by one.) In `Plain` the MTA sees our address,
which it may trust, so the proof also asks whether it would relay for the world. What the MTA offers is
learned on the way. Pure: the caller has the socket, the deadlines, and for `Pass` hands one end of a
socketpair to the MTA and speaks over the other.

Use: `begin()` when the connection stands, send `data_to_send()`, then after each `receive_bytes` send again,
until `result`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from postwarden_sidecar.handoff.proxy_header import encode_v1, encode_v2, encode_v2_local
from postwarden_sidecar.handoff.replies import BadReply, Reply, ReplyParser, escaped
from postwarden_sidecar.rules.settings import Handoff

# What our own dialogue may offer of what the MTA offers (design, data-path.md); never AUTH, PIPELINING,
# XCLIENT, XFORWARD.
OFFERED = (
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "CHUNKING",
    "STARTTLS",
    "VRFY",
    "ETRN",
)
# Exim's, and its name in Exim 4.93: a client that was offered it says EHLO before the greeting when it comes back.
_INVITES_EARLY_TALK = ("PIPECONNECT", "X_PIPE_CONNECT")
_EARLY_TALK = (
    "but the MTA offers {}, so that good clients talk before the greeting and fail our test of it when their pass "
    "has expired; have it not offer that (Exim: pipelining_connect_advertise_hosts = )"
)
RELAY_RECIPIENT = b"x@relay-test.invalid"  # a domain that is no one's (RFC 6761)
# The domain was refused, not the relay: bad destination system address, null MX (RFC 3463, RFC 7505). Proves
# nothing.
_DOMAIN_REFUSED = ("1.2", "1.10")
_MAX_BANNER = 200  # characters of the learned banner
_MAX_KEYWORD = 100  # characters of one learned EHLO line

PROVED = "Proved"
UNPROVED = "Unproved"  # down, silent, or refusing for now: nothing speaks against the setting
WRONG_ANSWER = "WrongAnswer"  # the MTA does not expect this hand-off
OPEN_RELAY = "OpenRelay"  # it would relay for the world
_WORST_FIRST = (OPEN_RELAY, WRONG_ANSWER, UNPROVED, PROVED)


@dataclass(frozen=True, slots=True)
class ProofResult:
    """state: Proved | Unproved | WrongAnswer | OpenRelay. detail: one sentence for a person, escaped and
    bounded; with Proved what is to be changed at the MTA, mostly "". banner: the first two words of the MTA's
    greeting, "" if not learned. ehlo: keywords with their parameters that our dialogue may offer."""

    state: str
    detail: str
    banner: str = ""
    ehlo: tuple[str, ...] = ()


class _Header(enum.StrEnum):
    NONE = ""
    V1 = "a PROXY v1 header"
    V2 = "a PROXY v2 header"
    V2_LOCAL = "a PROXY v2 header (LOCAL)"


class _Step(enum.StrEnum):
    """Which reply is awaited, by the words for it."""

    GREETING = "the greeting"
    EHLO = "EHLO"
    MAIL = "MAIL FROM:<>"
    RCPT = "RCPT TO:<x@relay-test.invalid>"
    RSET = "RSET"
    QUIT = "QUIT"


class Proof:
    """One connection of a proof. `proofs` makes them."""

    def __init__(self, header: _Header, *, ask_relay: bool) -> None:
        self._header = header
        self._ask_relay = ask_relay
        self._parser = ReplyParser()
        self._step = _Step.GREETING
        self._output = b""
        self._name = b""
        self._banner = ""
        self._ehlo: tuple[str, ...] = ()
        self._advice = ""
        self.result: ProofResult | None = None

    def begin(self, local: tuple[str, int] | None, remote: tuple[str, int] | None) -> None:
        """The connection stands. local, remote: the socket's own addresses (bare) and ports; None for a unix
        socket, then loopback's."""
        source, source_port = local or ("127.0.0.1", 0)
        destination, destination_port = remote or ("127.0.0.1", 25)
        if self._header is _Header.V1:
            self._output = encode_v1(source, source_port, destination, destination_port)
        elif self._header is _Header.V2:
            self._output = encode_v2(source, source_port, destination, destination_port)
        elif self._header is _Header.V2_LOCAL:
            self._output = encode_v2_local()
        # An address literal is what a client without a name says (RFC 5321, 4.1.3); "localhost" is refused by
        # some.
        self._name = f"[IPv6:{source}]".encode() if ":" in source else f"[{source}]".encode()

    def data_to_send(self) -> bytes:
        """Bytes to send now; each call gives them once. Empty: wait for the MTA."""
        output, self._output = self._output, b""
        return output

    def receive_bytes(self, data: bytes) -> None:
        """What the MTA said; `result` may stand afterwards."""
        self._parser.receive(data)
        while self.result is None:
            try:
                reply = self._parser.next_reply()
            except BadReply as error:
                self._finish(WRONG_ANSWER, f"in answer to {self._step.value} the MTA sent {error}")
                return
            if reply is None:
                return
            if not self._parser.empty and self._step is not _Step.QUIT:
                self._finish(WRONG_ANSWER, f"more than one reply to {self._spoken()}: {reply}")
                return
            self._receive_reply(reply)

    def receive_eof(self) -> None:
        """The MTA closed the connection, or it broke."""
        if self.result is None:
            self._broken("closed the connection")

    def timed_out(self) -> None:
        """The caller's deadline passed."""
        if self.result is None:
            self._broken("fell silent")

    def _broken(self, how: str) -> None:
        if self._step is _Step.QUIT:  # all that was asked is answered
            self._finish(PROVED, self._advice)
        elif self._step is _Step.GREETING and self._header is _Header.NONE:
            self._finish(UNPROVED, f"the MTA {how} before its greeting (does it wait for a PROXY header?)")
        else:
            self._finish(UNPROVED, f"the MTA {how} before it answered {self._spoken()}")

    def _spoken(self) -> str:
        if self._step is _Step.GREETING and self._header is not _Header.NONE:
            return self._header.value
        return self._step.value

    def _receive_reply(self, reply: Reply) -> None:
        match self._step:
            case _Step.GREETING:
                self._receive_greeting(reply)
            case _Step.EHLO:
                self._receive_ehlo(reply)
            case _Step.MAIL:
                if reply.positive:
                    self._ask(_Step.RCPT, b"RCPT TO:<%s>" % RELAY_RECIPIENT)
                else:
                    self._finish(
                        UNPROVED,
                        f"the MTA answered MAIL FROM:<> with {reply}: an open relay or not, is not known",
                    )
            case _Step.RCPT:
                self._receive_rcpt(reply)
            case _Step.RSET:
                self._ask(_Step.QUIT, b"QUIT")
            case _Step.QUIT:
                if reply.code in (221, 421):
                    self._finish(PROVED, self._advice)
                else:
                    self._finish(WRONG_ANSWER, f"the MTA answered QUIT with {reply}: its replies are shifted")

    def _receive_greeting(self, reply: Reply) -> None:
        if reply.code == 220:
            words = reply.lines[0].split()[:2]
            self._banner = escaped(b" ".join(words), _MAX_BANNER)
            self._ask(_Step.EHLO, b"EHLO " + self._name)
        elif reply.out_of_step or reply.positive:
            self._finish(WRONG_ANSWER, f"the MTA's greeting is {reply}")
        else:
            self._finish(UNPROVED, f"the MTA refused us with {reply}")

    def _receive_ehlo(self, reply: Reply) -> None:
        if reply.code == 250:
            self._ehlo = offered_keywords(reply)
            keywords = {line.strip().upper() for line in reply.lines[1:]}
            self._advice = next(
                (_EARLY_TALK.format(k) for k in _INVITES_EARLY_TALK if k.encode() in keywords), ""
            )
            if self._ask_relay:
                self._ask(_Step.MAIL, b"MAIL FROM:<>")
            else:
                self._ask(_Step.QUIT, b"QUIT")
        elif reply.out_of_step or reply.positive:
            what = "" if self._header is _Header.NONE else f" after {self._header.value} (it expects none?)"
            self._finish(WRONG_ANSWER, f"the MTA answered EHLO{what} with {reply}")
        else:
            self._finish(UNPROVED, f"the MTA refused EHLO with {reply}")

    def _receive_rcpt(self, reply: Reply) -> None:
        if reply.positive or reply.enhanced.partition(".")[2] in _DOMAIN_REFUSED:
            proves = "" if reply.positive else ", which refuses the domain and not the relay"
            self._finish(
                OPEN_RELAY,
                "the MTA trusts the address of this sidecar and would relay for the world: it answered "
                f"{_Step.RCPT.value} with {reply}{proves}; use another hand-off, or take the address "
                "out of what the MTA trusts (Postfix: mynetworks)",
            )
        elif reply.code == 421:
            self._finish(UNPROVED, f"the MTA answered {_Step.RCPT.value} with {reply}")
        else:
            self._ask(_Step.RSET, b"RSET")

    def _ask(self, step: _Step, command: bytes) -> None:
        self._step = step
        self._output += command + b"\r\n"

    def _finish(self, state: str, detail: str) -> None:
        self.result = ProofResult(state, detail, self._banner, self._ehlo)


def offered_keywords(reply: Reply) -> tuple[str, ...]:
    """Of an EHLO reply what our own dialogue may offer, keyword and parameters as the MTA wrote them, in the
    MTA's order."""
    lines = (escaped(line.strip(), _MAX_KEYWORD) for line in reply.lines[1:])
    return tuple(line for line in lines if line.partition(" ")[0].upper() in OFFERED)


def proofs(handoff: Handoff) -> tuple[Proof, ...]:
    """New proofs for a way of handing over; all must succeed, each on a connection of its own."""
    match handoff:
        case Handoff.PLAIN:
            return (Proof(_Header.NONE, ask_relay=True),)
        case Handoff.PROXY_V1:
            return (Proof(_Header.V1, ask_relay=False),)
        case Handoff.PROXY_V2:
            return (Proof(_Header.V2_LOCAL, ask_relay=False), Proof(_Header.V2, ask_relay=False))
        case Handoff.PASS:
            return (Proof(_Header.NONE, ask_relay=False),)


def combined(results: Sequence[ProofResult]) -> ProofResult:
    """The result of several proofs: the worst; of equal ones the last, which learned what clients see."""
    worst = min(_WORST_FIRST.index(result.state) for result in results)
    return [result for result in results if result.state == _WORST_FIRST[worst]][-1]
