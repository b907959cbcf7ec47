"""The replies of our own SMTP dialogue, as bytes; words and codes are postscreen's (recorded cases), for clients and their
operators know those. Refusals of tests are in `checks.action`.

A function makes those that name the host. Where a reply has no enhanced code, postscreen's has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from postwarden_sidecar.rules.settings import Session

# A greeting of the MTA that refuses (RFC 5321, 3.1), bounded as its lines are (4.5.3.1.5: 512 bytes).
REFUSAL = re.compile(r"[45][0-9]{2} [ -~]{0,500}", re.ASCII)
_ENHANCED = re.compile(rb"[45]\.[0-9]{1,3}\.[0-9]{1,3} ")  # RFC 3463

OK = b"250 2.0.0 Ok\r\n"
SENDER_OK = b"250 2.1.0 Ok\r\n"
BYE = b"221 2.0.0 Bye\r\n"

HELO_SYNTAX = b"501 Syntax: HELO hostname\r\n"
EHLO_SYNTAX = b"501 Syntax: EHLO hostname\r\n"
STARTTLS_SYNTAX = b"501 Syntax: STARTTLS\r\n"
MAIL_SYNTAX = b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n"
RCPT_SYNTAX = b"501 5.5.4 Syntax: RCPT TO:<address>\r\n"
DATA_SYNTAX = b"501 5.5.4 Syntax: DATA\r\n"
BDAT_SYNTAX = b"501 5.5.4 Syntax: BDAT count [LAST]\r\n"
VRFY_SYNTAX = b"501 5.5.4 Syntax: VRFY address\r\n"
ETRN_SYNTAX = b"500 Syntax: ETRN domain\r\n"

HELO_FIRST = b"503 5.5.1 Error: send HELO/EHLO first\r\n"
NOT_VERIFIED = b"252 2.0.0 Not verified here, but mail for it is taken\r\n"
COME_BACK = b"450 4.3.2 Service currently unavailable\r\n"
NOT_QUEUED = b"458 Unable to queue messages\r\n"
NOT_RECOGNIZED = b"502 5.5.2 Error: command not recognized\r\n"
NOT_IMPLEMENTED = b"502 5.5.1 Error: command not implemented\r\n"
NESTED_MAIL = b"503 5.5.1 Error: nested MAIL command\r\n"
NEED_MAIL = b"503 5.5.1 Error: need MAIL command\r\n"
NEED_RCPT = b"503 5.5.1 Error: need RCPT command\r\n"
BDAT_NEEDS_MAIL = b"554 5.5.1 Error: need MAIL command\r\n"
BARE_NEWLINE = b"550 5.5.2 Error: bare <CR> or <LF> in the data\r\n"
NO_RECIPIENTS = b"554 5.5.1 Error: no valid recipients\r\n"

# Our own faults: always 421 (RFC 5321, 3.8: the client is to try again later), never 5xx.
PORTS_BUSY = b"421 4.3.2 All server ports are busy\r\n"
NO_RESOURCES = b"421 4.3.2 No system resources\r\n"
TOO_MANY = b"421 4.7.0 Error: too many connections\r\n"
SCREENING_BUSY = b"421 4.3.2 All screening ports are busy\r\n"
ONE_MAIL = b"421 4.3.2 One mail a connection is taken from you\r\n"
DRAINING = b"421 4.3.2 Service currently unavailable\r\n"

# What we offer after EHLO, of what the upstream offers (design): what our dialogue, or a session handed over in its middle,
# can keep. Never PIPELINING (the client is to wait for each reply), AUTH, XCLIENT or XFORWARD.
EXTENSIONS = frozenset(
    ("SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "CHUNKING", "STARTTLS", "VRFY", "ETRN")
)
HARMLESS = (
    "ENHANCEDSTATUSCODES",
    "8BITMIME",
)  # what we offer a client whose every recipient we refuse, not knowing the MTA's


def dressed(reply: bytes, session: Session) -> bytes:
    """A reply of ours as the policy wants it; the MTA's words are left as they are."""
    return with_footer(softened(reply) if session.soft_fail else reply, session.reject_footer)


def teaser(banner: str) -> bytes:
    """The first line of a greeting that is not complete yet."""
    return f"220-{banner}\r\n".encode("ascii", "replace")


def greeting(banner: str) -> bytes:
    """The line that completes the greeting."""
    return f"220 {banner}\r\n".encode("ascii", "replace")


def hello(hostname: str) -> bytes:
    """The reply to HELO."""
    return f"250 {hostname}\r\n".encode("ascii", "replace")


def extended_hello(hostname: str, offered: Iterable[str]) -> bytes:
    """The reply to EHLO (RFC 5321, 4.1.1.1): what we may offer, of what is offered."""
    lines = [hostname, *(line for line in offered if line.partition(" ")[0].upper() in EXTENSIONS)]
    body = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
    return body.encode("ascii", "replace")


def without(offered: Iterable[str], hidden: Iterable[str]) -> tuple[str, ...]:
    """offered, less the keywords in hidden (upper case)."""
    names = frozenset(hidden)
    return tuple(line for line in offered if line.partition(" ")[0].upper() not in names)


def softened(reply: bytes) -> bytes:
    """A 5xx as the 4xx that stands for it: code and enhanced code."""
    if not reply.startswith(b"5"):
        return reply
    return b"4" + reply[1:4] + (b"4" + reply[5:] if reply[4:6] == b"5." else reply[4:])


def with_footer(reply: bytes, footer: str) -> bytes:
    """A one-line 4xx or 5xx with further lines that repeat its code (RFC 5321, 4.2.1), and its enhanced code if it has one. In the
    footer `\\n` begins a further line, and `\\c` at its start goes on with the reply's own (postconf(5), postscreen_reject_footer)."""
    if not footer or reply[:1] not in (b"4", b"5"):
        return reply
    enhanced = _ENHANCED.match(reply, 4)
    code, prefix = reply[:3], b"" if enhanced is None else enhanced[0]
    lines = [reply[4:].removesuffix(b"\r\n")]
    first, *others = footer.encode("ascii", "replace").split(b"\\n")
    if first.startswith(b"\\c"):
        lines[0] += first[2:]
    else:
        others.insert(0, first)
    lines += [prefix + line for line in others]
    return b"".join(code + b"-" + line + b"\r\n" for line in lines[:-1]) + code + b" " + lines[-1] + b"\r\n"


def timeout(hostname: str) -> bytes:
    """The command time limit is over."""
    return f"421 4.4.2 {hostname} Error: timeout exceeded\r\n".encode("ascii", "replace")


def limit(hostname: str) -> bytes:
    """Too many commands, or too long a line."""
    return f"421 {hostname} Service unavailable - try again later\r\n".encode("ascii", "replace")
