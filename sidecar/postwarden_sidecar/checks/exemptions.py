"""Which RCPT names a recipient that everybody may write to.

Strict where the dialogue is lenient: what is matched here is what the MTA will read. So the address stands in angle brackets and is whole,
a quoted local part or a source route never matches, and a command line that holds a control character is not passed on at all: an MTA that
takes a bare CR for a line's end would find a second RCPT behind it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ATOM = rb"[-A-Za-z0-9!#$%&'*+/=?^_`{|}~]+"  # RFC 5321, 4.1.2, as is all of this
_LABEL = rb"[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?"
_PARAMETER = rb"[A-Za-z0-9][-A-Za-z0-9]*(?:=[!-<>-~]+)?"
_RCPT = re.compile(
    rb" *RCPT +TO: *<(%b(?:\.%b)*)(?:@(%b(?:\.%b)*))?>(?: +%b)* *\r?\n"
    % (_ATOM, _ATOM, _LABEL, _LABEL, _PARAMETER),
    re.IGNORECASE,
)
_CLEAN = re.compile(rb"[^\x00-\x1f\x7f]*\r?\n")


def exempt(line: bytes, recipients: Collection[str]) -> bool:
    """line: RCPT's, with its end. recipients: lower case: `postmaster@` (at any domain, or at none), `abuse@example.com`, `@example.org`.
    A local part with `%` or `!` may route on to another domain (RFC 5321, appendix F.2): it does not match a whole domain."""
    match = _RCPT.fullmatch(line)
    if match is None:
        return False
    local = match[1].decode("ascii").lower()
    if f"{local}@" in recipients:
        return True
    if match[2] is None:
        return False
    domain = match[2].decode("ascii").lower()
    routed = "%" in local or "!" in local
    return f"{local}@{domain}" in recipients or (not routed and f"@{domain}" in recipients)


def passable(*lines: bytes) -> bool:
    """Whether command lines, with their ends, are one line each to every MTA."""
    return all(_CLEAN.fullmatch(line) for line in lines if line)


def whole(line: bytes) -> bytes:
    """A command line with its end as RFC 5321 wants it."""
    return line[:-1].removesuffix(b"\r") + b"\r\n" if line else b""
