"""What a policy keeps from being shown: HELO names, senders and recipients, hashed or left out, before any signal is made.

A record says itself what may be shown (`Record.envelope`: the word of the rules that its connection began with), so that nothing is shown
between two policies. A client can put an address into anything that it says: of what it said beyond these three, only the command word
stays. A hash is HMAC-SHA-256, keyed with the policy's uid: the same address has the same hash in every pod of the policy and none
elsewhere. It is a pseudonym: who knows the uid and guesses the address can tell.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

from msgspec.structs import replace

from postwarden_sidecar.engine.record import Event, EventKind, Record, TestResult
from postwarden_sidecar.rules.settings import EnvelopeAddresses

HASH_DIGITS = 16  # hexadecimal, 64 bits: two of a million addresses share a hash once in 40 million
LEFT_OUT = "[...]"
# Texts of events that are the client's own words; those of others are ours, or the MTA's.
_SAID = {
    EventKind.PREGREET,
    EventKind.COMMAND_PIPELINING,
    EventKind.NON_SMTP_COMMAND,
    EventKind.BARE_NEWLINE,
    EventKind.COMMAND_TIME_LIMIT,
    EventKind.COMMAND_COUNT_LIMIT,
    EventKind.COMMAND_LENGTH_LIMIT,
    EventKind.DATA_WITHOUT_RCPT,
}
# Commands of RFC 5321 and its extensions, and the methods of HTTP: none of them says who writes to whom.
_COMMAND = re.compile(
    r"(HELO|EHLO|LHLO|MAIL|RCPT|DATA|BDAT|RSET|NOOP|QUIT|VRFY|EXPN|HELP|AUTH|STARTTLS|ETRN|XCLIENT|XFORWARD|"
    r"CONNECT|GET|POST|HEAD|PUT|OPTIONS)(?=[\s:]|$)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"<[^<>]*>|[^\s<>]*@[^\s<>]*")  # in a reply of the MTA


def shows_all(record: Record) -> bool:
    """Whether all of it may be shown."""
    return not record.envelope or record.envelope == EnvelopeAddresses.FULL


def shown(record: Record) -> Record:
    """The record with what may be shown of it; the same one where all may."""
    if shows_all(record):
        return record
    hide: Callable[[str], str] = lambda text: ""  # noqa: E731
    if record.envelope == EnvelopeAddresses.HASHED:
        key = record.envelope_key.encode()
        hide = lambda text: hashed(text, key) if text else ""  # noqa: E731
    return replace(
        record,
        reason=without_addresses(record.reason),
        helo=hide(record.helo),
        sender=hide(record.sender),
        recipient=hide(record.recipient),
        tests=[_test(result) for result in record.tests],
        events=[_event(event, hide) for event in record.events],
    )


def hashed(text: str, key: bytes) -> str:
    """text: latin-1, as in a record. Case is no difference: no mail system that matters tells senders apart by it."""
    return hmac.digest(key, text.lower().encode("latin-1", "replace"), "sha256").hex()[:HASH_DIGITS]


def without_addresses(text: str) -> str:
    """A sentence of ours or the MTA's without the addresses in it."""
    return _ADDRESS.sub(LEFT_OUT, text)


def command_word(text: str) -> str:
    """What the client said, but for its first word where that is a command."""
    found = _COMMAND.match(text)
    if found is None:
        return LEFT_OUT if text else ""
    return found[0] if len(text.rstrip()) == len(found[0]) else f"{found[0]} {LEFT_OUT}"


def _event(event: Event, hide: Callable[[str], str]) -> Event:
    text = command_word(event.text) if event.kind in _SAID else without_addresses(event.text)
    return replace(
        event,
        text=text,
        command=command_word(event.command),
        sender=hide(event.sender),
        recipient=hide(event.recipient),
        helo=hide(event.helo),
    )


def _test(result: TestResult) -> TestResult:
    return replace(result, detail=without_addresses(result.detail)) if result.detail else result
