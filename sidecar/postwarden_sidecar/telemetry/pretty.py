"""One readable line a connection, for a person at a terminal: time, verdict, address, reason."""

from __future__ import annotations

import time

from postwarden_sidecar.engine.record import Record, Verdict
from postwarden_sidecar.telemetry.escape import MAX_REASON, printable

_GREEN, _YELLOW, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
_COLOURS = {
    Verdict.REJECTED: _RED,
    Verdict.DROPPED: _RED,
    Verdict.ERROR: _RED,
    Verdict.TOLERATED: _YELLOW,
    Verdict.DEFERRED: _YELLOW,
    Verdict.OVERLOADED: _YELLOW,
    Verdict.HANGUP: _DIM,
}
_VERDICT_WIDTH = max(len(verdict) for verdict in Verdict)
_ADDRESS_WIDTH = 21  # 255.255.255.255:65535; a longer IPv6 address moves the reason to the right


def stress_line(moment: float, on: bool, connections: int) -> str:
    """Of no client. moment: epoch seconds."""
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    change = "begins" if on else "ends"
    return f"{clock}  stress mode {change} with {connections} connections"


def pretty_line(record: Record, *, colour: bool) -> str:
    """The line, with no line end. The only terminal sequences in it are our own colours."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.started))
    address = printable(record.client_address)
    client = f"[{address}]:{record.client_port}" if ":" in address else f"{address}:{record.client_port}"
    verdict = f"{record.verdict.value:<{_VERDICT_WIDTH}}"
    if colour:
        verdict = f"{_COLOURS.get(record.verdict, _GREEN)}{verdict}{_RESET}"
    reason = printable(record.reason, MAX_REASON)
    would = f" (Enforce: {printable(record.would)})" if record.would else ""
    return f"{clock}  {verdict}  {client:<{_ADDRESS_WIDTH}}  {reason}{would}".rstrip()
