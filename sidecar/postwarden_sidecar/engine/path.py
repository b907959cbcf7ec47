"""The address of MAIL and RCPT as the log shows it."""

from __future__ import annotations

import re

from postwarden_sidecar.engine.record import MAX_TEXT

_ROUTE = re.compile(r"@[^:]*:")  # a source route before an address (RFC 5321, appendix C); to be ignored


def address_of(arguments: str) -> str | None:
    """The address of MAIL's or RCPT's arguments, without brackets and source route; None if the colon is missing.

    Lenient, as postscreen is: the address is for the log only, and nearly anything is taken for one (`FROM:`, `FOO:<a>`, an unclosed `<`).
    """
    _, colon, path = arguments.partition(":")
    if not colon:
        return None
    path = path.lstrip(" ")
    if not path.startswith("<"):
        return path.partition(" ")[0][:MAX_TEXT]
    quoted = False
    end = len(path)
    for at, character in enumerate(path):
        if character == '"' and path[at - 1] != "\\":
            quoted = not quoted
        elif character == ">" and not quoted:
            end = at
            break
    address = path[1:end]
    return _ROUTE.sub("", address, count=1)[:MAX_TEXT] if address.startswith("@") else address[:MAX_TEXT]
