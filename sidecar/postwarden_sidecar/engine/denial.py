"""Clients that the access list drops at accept, decided without the objects of a connection: they are most of a mail server's
connections, and nothing is ever asked of them.

Contract: whatever `Denials` says is what `connection.Connection` says of the same client under the same context: this reply, this
record, and a close without lingering; nothing else. Where that takes more (a PROXY header, a limit, an action other than Drop, mode
Observe, a reply that differs by client) it says nothing, and the engine is asked. The engine is its oracle in the tests.
"""

from __future__ import annotations

from postwarden_sidecar.checks import access
from postwarden_sidecar.checks.action import REPLIES
from postwarden_sidecar.engine import footer, outcome, replies
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import EventKind
from postwarden_sidecar.rules.settings import AccessAction, Action, Mode, Rules

# All happens in the moment of accept.
_EVENTS = (EventKind.CONNECT, EventKind.DENYLISTED, EventKind.DISCONNECT)


class Denials:
    """Of one context. reply: what a denied client hears. template: of its record, of a visit that has the place of `find`."""

    __slots__ = ("_suspect", "reply", "rules", "template")

    def __init__(self, rules: Rules, suspect: str) -> None:
        """Made by `denials`."""
        self.rules = rules
        self.reply = replies.dressed(REPLIES[access.TEST][1], rules.session)
        self._suspect = suspect
        self.template = outcome.dropped(rules, access.TEST, access.denial("", ""), _EVENTS)

    def find(self, address: str, packed: bytes) -> str | None:
        """Where the row stands that denies the client; None: the engine is to be asked. address, packed: as in Facts."""
        rules = self.rules
        if address == self._suspect or rules.proxy_trusted.lookup(packed) is not None:
            return None
        match = access.find(rules.access, packed)
        return match.place if match is not None and match.action is AccessAction.REJECT else None


def denials(context: Context) -> Denials | None:
    """Of a context; None where nobody is dropped at accept."""
    rules = context.rules
    if rules is None or rules.mode is not Mode.ENFORCE or rules.access.reject_action is not Action.DROP:
        return None
    return None if footer.differs(rules.session) else Denials(rules, context.suspect)
