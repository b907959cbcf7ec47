"""The address of MAIL or RCPT as postscreen's log shows it: without brackets, route and needless quotes (measured).

Lenient, as postscreen is: the address is for the log only (what is replayed to the MTA are the client's own bytes), and nearly anything
is taken for one (`FROM:`, `FOO:<a>`, an unclosed `<`).
"""

from __future__ import annotations

import re

from postwarden_sidecar.engine.record import MAX_TEXT

# A local part that needs no quotes: atoms with dots between (RFC 5322, 3.4.1; bytes above 127 pass).
_DOT_STRING = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"\[\].]+(\.[^\x00-\x20\x7f()<>@,;:\\\"\[\].]+)*")
_QUOTED = re.compile(r'["\\\r]')  # what gets a backslash between quotes


def logged_address(arguments: str) -> str | None:
    """Of what stands behind the command's name; None if the colon is missing."""
    _, colon, path = arguments.partition(":")
    return _quote(_extract(path.lstrip(" ")))[:MAX_TEXT] if colon else None


def _extract(path: str) -> str:
    """Up to the `>`, or to the first blank without brackets; quotes and backslashes are taken out."""
    start, end = (1, ">") if path.startswith("<") else (0, " ")
    characters = iter(path[start:])
    found = []
    quoted = False
    for character in characters:
        if character == end and not quoted:
            break
        if character == '"':
            quoted = not quoted
        else:
            found.append(next(characters, "") if character == "\\" else character)
    address = "".join(found)
    return address.partition(":")[2] if address.startswith("@") and ":" in address else address


def _quote(address: str) -> str:
    """With quotes around a local part that needs them."""
    if not address:
        return ""
    route = address[: address.find(":") + 1] if address.startswith("@") else ""  # a second one stays as it is
    local, at, domain = address[len(route) :].rpartition("@")
    if not at:
        local, domain = domain, ""
    if _DOT_STRING.fullmatch(local):
        return address
    escaped = _QUOTED.sub(r"\\\g<0>", local)
    return f'{route}"{escaped}"{at}{domain}'
