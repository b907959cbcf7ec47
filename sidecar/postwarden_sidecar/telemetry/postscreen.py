"""Log lines in postscreen's own words, for the programs that read Postfix's log (pflogsumm, fail2ban, an operator's grep).

`Mon DD HH:MM:SS HOST postfix/postscreen[PID]: EVENT`, a line an event, all lines of a connection together when its verdict is known; the
times are those of the events, local time as syslog has it. The vocabulary is that of Postfix 3.6 and newer; `legacy` has the older
WHITELISTED and BLACKLISTED. Words and escapes are those of recorded sessions with Postfix 3.7.11. Events that were left out for want
of room (`Record.events_lost`) have no line: postscreen has no word for them; the JSON format counts them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from postwarden_sidecar.engine.footer import MONTHS
from postwarden_sidecar.engine.record import Event, EventKind, Record
from postwarden_sidecar.telemetry.escape import octal, printable, question_marks

MAX_PREGREET = 100  # characters of what was said before the greeting; postscreen prints %.100s
_LISTED = {
    EventKind.ALLOWLISTED: "ALLOWLISTED",
    EventKind.DENYLISTED: "DENYLISTED",
    EventKind.VETO: "ALLOWLIST VETO",
    EventKind.PASS_OLD: "PASS OLD",
    EventKind.PASS_NEW: "PASS NEW",
    EventKind.DISCONNECT: "DISCONNECT",
}
_LEGACY = {"ALLOWLISTED": "WHITELISTED", "DENYLISTED": "BLACKLISTED", "ALLOWLIST VETO": "WHITELIST VETO"}
# What a client is turned away for, and before it the words that postscreen begins the line with (it has no NOQUEUE with the last).
_TURNED_AWAY = {
    EventKind.TOO_MANY_CONNECTIONS: ("NOQUEUE: reject: CONNECT", "too many connections"),
    EventKind.SERVER_PORTS_BUSY: ("NOQUEUE: reject: CONNECT", "all server ports busy"),
    EventKind.SCREENING_PORTS_BUSY: ("reject: connect", "all screening ports busy"),
}
MAX_DEEP = 100  # bytes of what failed a test within the dialogue, before they are escaped (measured)
_LIMITS = {
    EventKind.COMMAND_TIME_LIMIT: "TIME",
    EventKind.COMMAND_COUNT_LIMIT: "COUNT",
    EventKind.COMMAND_LENGTH_LIMIT: "LENGTH",
}


def lines(record: Record, hostname: str, pid: int, *, legacy: bool = False) -> Iterator[str]:
    """The lines of one connection, without line ends."""
    client = f"[{question_marks(record.client_address)}]:{record.client_port}"
    second, head = None, ""
    for event in record.events:
        moment = math.floor(record.started + event.offset)
        if moment != second:  # most events of a connection share their second
            second, head = moment, f"{timestamp(moment)} {printable(hostname)} postfix/postscreen[{pid}]: "
        yield head + _event(record, event, client, legacy)


def stress_line(moment: float, on: bool, connections: int, hostname: str, pid: int) -> str:
    """Of no client: the sidecar as a whole is short of room, or no longer. moment: epoch seconds."""
    change = "entering" if on else "leaving"
    said = f"{change} STRESS mode with {connections} connections"
    return f"{timestamp(moment)} {printable(hostname)} postfix/postscreen[{pid}]: {said}"


def timestamp(moment: float) -> str:
    """`Nov  2 03:04:05`, local time (RFC 3164 section 4.1.2)."""
    local = time.localtime(moment)
    return f"{MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"


def delay(seconds: float) -> str:
    """A time with two significant digits, whole seconds kept, as Postfix prints delays: `0.04`, `2.1`, `12`, `0`."""
    seconds = max(0.0, seconds)
    decimals = next(
        (n for n, least in enumerate((10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)) if seconds >= least), 6
    )
    text = f"{seconds:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _event(record: Record, event: Event, client: str, legacy: bool) -> str:
    kind = event.kind
    if kind in _LISTED:
        word = _LISTED[kind]
        return f"{_LEGACY.get(word, word) if legacy else word} {client}"
    if kind in _LIMITS:
        return f"COMMAND {_LIMITS[kind]} LIMIT from {client} after {question_marks(event.text)}"
    if kind in _TURNED_AWAY:
        begin, why = _TURNED_AWAY[kind]
        return f"{begin} from {client}: {why}"
    match kind:
        case EventKind.DNSBL:
            return f"DNSBL rank {event.count} for {client}"
        case EventKind.COMMAND_PIPELINING:
            command = question_marks(event.command, MAX_DEEP)
            return f"COMMAND PIPELINING from {client} after {command}: {octal(event.text[:MAX_DEEP])}"
        case EventKind.NON_SMTP_COMMAND:
            word, _, rest = event.text.partition(" ")
            said = f"{question_marks(word, MAX_DEEP)} {octal(rest[:MAX_DEEP])}".rstrip()
            return f"NON-SMTP COMMAND from {client} after {question_marks(event.command)}: {said}"
        case EventKind.BARE_NEWLINE:
            return f"BARE NEWLINE from {client} after {octal(event.text[:MAX_DEEP])}"
        case EventKind.CONNECT:
            return f"CONNECT from {client} to [{question_marks(record.server_address)}]:{record.server_port}"
        case EventKind.PREGREET:
            said = octal(event.text, MAX_PREGREET)
            return f"PREGREET {event.count} after {delay(event.offset)} from {client}: {said}"
        case EventKind.HANGUP:
            stage = question_marks(event.text)
            return f"HANGUP after {delay(event.offset)} from {client} in tests {stage} SMTP handshake"
        case EventKind.REJECT:
            # Without HELO postscreen writes proto=SMTP, helo=<> (recorded case v-engine-07).
            return (
                f"NOQUEUE: reject: RCPT from {client}: {question_marks(event.text)};"
                f" from=<{question_marks(event.sender)}>, to=<{question_marks(event.recipient)}>,"
                f" proto={question_marks(event.proto) or 'SMTP'}, helo=<{question_marks(event.helo)}>"
            )
        case EventKind.DATA_WITHOUT_RCPT:
            return f"{question_marks(event.text)} without valid RCPT from {client}"
        case _:
            # Postfix has a warning of its own here (`connect to private/smtpd service: …`), which no known reader parses.
            return f"warning: hand-off of {client} to the upstream failed: {question_marks(event.text)}"
