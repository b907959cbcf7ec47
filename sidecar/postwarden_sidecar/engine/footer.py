"""The reject footer's `$name`s, as postconf(5) has them for postscreen_reject_footer: client_address, client_port, localtime, server_name.

`$name`, `${name}`, `$(name)`; `${name?text}` is the text where the name has a value, `${name:text}` where it has none; `$$` is one `$`. A
name that does not exist is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from postwarden_sidecar.engine.actions import Endpoints
from postwarden_sidecar.rules.settings import Session

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""As syslog and postscreen's $localtime have them in every locale."""

_NAME = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)(?:(?P<how>[?:])(?P<text>[^{}]*))?\}|\((?P<round>\w+)\)|(?P<plain>\w+))"
)


def expand(footer: str, names: Mapping[str, str]) -> str:
    """footer, with names in the place of their `$`."""

    def value(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        known = names.get(found["braced"] or found["round"] or found["plain"], "")
        if found["how"] is None:
            return known
        return found["text"] if bool(known) == (found["how"] == "?") else ""

    return _NAME.sub(value, footer)


def differs(session: Session) -> bool:
    """Whether the footer is another for each client."""
    return "$" in session.reject_footer


def filled_in(session: Session, who: Endpoints, hostname: str, wall: float) -> Session:
    """session, with the names in its footer. wall: epoch seconds of the connection's beginning."""
    if not differs(session):
        return session
    local = datetime.fromtimestamp(wall)
    clock = f"{local.hour:02d}:{local.minute:02d}:{local.second:02d}"
    names = {
        "client_address": who.client_address,
        "client_port": str(who.client_port),
        "server_name": hostname,
        "localtime": f"{MONTHS[local.month - 1]} {local.day:02d} {clock}",
    }
    return replace(session, reject_footer=expand(session.reject_footer, names))
