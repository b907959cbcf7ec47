"""The tests within the SMTP dialogue: what is a failure of each. Real mail servers do none of this.

Pipelining: input waits behind a command, though we never offered PIPELINING (RFC 2920, 3.1: not before it is offered). Non-SMTP command: a
header, an HTTP request or bytes that are no text where a command should be (an open proxy or a broken bot speaks). Bare newline: a line
that ends in LF without CR (RFC 5321, 2.3.8).
"""

from __future__ import annotations

import re

from postwarden_sidecar.rules.settings import Protocol, ProtocolTest

PIPELINING = "pipelining"
NON_SMTP_COMMAND = "non_smtp_command"
BARE_NEWLINE = "bare_newline"
TESTS: tuple[str, ...] = (PIPELINING, NON_SMTP_COMMAND, BARE_NEWLINE)

# A header's name and its colon, at the start of a command's first word (RFC 5322, 2.2); as postscreen has it.
_HEADER = re.compile(rb"[!-9;-~]+[\t]*:")


def settings(protocol: Protocol, test: str) -> ProtocolTest:
    """The policy's word on a test."""
    if test == PIPELINING:
        return protocol.pipelining
    return protocol.non_smtp_command if test == NON_SMTP_COMMAND else protocol.bare_newline


def is_non_smtp(word: bytes, forbidden: tuple[str, ...]) -> bool:
    """word: the first word of a line that is no SMTP command. An empty line is a mistake, no failure. Tells headers, invalid UTF-8, the
    forbidden commands in any case, and whatever begins with no letter."""
    if not word:
        return False
    if not word[:1].isalpha() or _HEADER.match(word):
        return True
    try:
        return word.decode("utf-8").upper() in forbidden
    except UnicodeDecodeError:
        return True
