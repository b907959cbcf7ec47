"""One readable line a connection, for a person at a terminal: time, verdict, address, reason."""

from __future__ import annotations

from datetime import UTC, datetime

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
    clock = _clock(moment)
    change = "begins" if on else "ends"
    return f"{clock}  stress mode {change} with {connections} connections"


def pretty_line(record: Record, *, colour: bool) -> str:
    """The line, with no line end. The only terminal sequences in it are our own colours."""
    shown = verdict_line(
        record.verdict,
        record.verdict.value,
        printable(record.client_address),
        record.client_port,
        printable(record.reason, MAX_REASON),
        printable(record.would),
        colour=colour,
    )
    return f"{_clock(record.started)}  {shown}"


def _clock(moment: float) -> str:
    """The local time, rounded as in the JSON lines."""
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%H:%M:%S")


def verdict_line(
    verdict: Verdict | None, word: str, address: str, port: int, reason: str, would: str, *, colour: bool
) -> str:
    """All but the time. Texts are escaped already; verdict: None: one that this release does not know, and word is its name."""
    client = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    shown = f"{word:<{_VERDICT_WIDTH}}"
    if colour and verdict is not None:
        shown = f"{_COLOURS.get(verdict, _GREEN)}{shown}{_RESET}"
    noted = f" (under Enforce: {would})" if would else ""
    return f"{shown}  {client:<{_ADDRESS_WIDTH}}  {without_address(reason, address)}{noted}".rstrip()


def without_address(reason: str, address: str) -> str:
    """A reason beside a column that has the address already: `is rejected by …`."""
    rest = reason.removeprefix(address)
    return reason if rest == reason or rest[:1] not in (" ", ":") else rest.lstrip(": ").removeprefix("it ")
