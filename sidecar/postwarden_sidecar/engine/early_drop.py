"""Early talkers that are dropped, decided without the objects of a connection: after who is on an access list they are most of what comes.

Contract: whatever `EarlyDrops` says is what `connection.Connection` says of the same client under the same context, if no pass is known of
it and it has spoken by the time that is known: this reply (teaser and refusal), this record, and a close after its input. Where that takes
more (a PROXY header, an access list's word, a limit, an action other than Drop, mode Observe, no banner, an address where no pass is
earned, passes by prefix, a reply that differs by client) it says nothing, and the engine is asked. The engine is its oracle in the tests.
"""

from __future__ import annotations

from postwarden_sidecar.checks import pregreet
from postwarden_sidecar.checks.action import REPLIES
from postwarden_sidecar.engine import footer, naming, outcome, replies
from postwarden_sidecar.engine.actions import Load
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.early import MAX_PREGREET
from postwarden_sidecar.engine.limits import screening_busy, too_many, upstream_busy
from postwarden_sidecar.engine.ordinary import is_ordinary
from postwarden_sidecar.engine.record import MAX_TEXT, EventKind, Visit
from postwarden_sidecar.rules.settings import Action, Mode, Rules

_EVENTS = (EventKind.CONNECT, EventKind.PREGREET, EventKind.DISCONNECT)


class EarlyDrops:
    """Of one context. reply: what a client hears that is dropped. template: of its record, of the `visit`."""

    __slots__ = ("_suspect", "reply", "rules", "template")

    def __init__(self, rules: Rules, banner: str, suspect: str) -> None:
        """Made by `early_drops`."""
        self.rules = rules
        refusal = replies.dressed(REPLIES[pregreet.TEST][1], rules.session)
        self.reply = replies.teaser(banner) + refusal
        self._suspect = suspect
        self.template = outcome.dropped(rules, pregreet.TEST, pregreet.failure("", 0.0), _EVENTS)

    def may_drop(self, address: str, packed: bytes) -> bool:
        """Whether the client, whose passes are kept by its address, may be dropped here. address, packed: as in Facts."""
        return is_ordinary(self.rules, self._suspect, address, packed)

    def limited(self, load: Load) -> bool:
        """Whether a client that finds this load meets a limit."""
        limits = self.rules.limits
        return too_many(limits, load) or upstream_busy(limits, load) or screening_busy(limits, load)

    def visit(
        self, said: bytes, address: str, port: int, local: tuple[str, int], wall: float, after: float
    ) -> Visit:
        """Of a client that has said this. wall: epoch seconds of its arrival; after: seconds from then until it was known that it has no
        pass."""
        text = said[:MAX_TEXT].decode("latin-1")
        return Visit(wall, address, port, local[0], local[1], "", after, text, min(len(said), MAX_PREGREET))


def early_drops(context: Context) -> EarlyDrops | None:
    """Of a context; None where nobody is dropped for what it says before the greeting, or not without more."""
    rules, banner = context.rules, naming.known_banner(context)
    if rules is None or rules.mode is not Mode.ENFORCE or rules.pregreet.action is not Action.DROP:
        return None
    if not banner or not pregreet.enabled(rules) or rules.pass_addresses is not None:
        return None
    return None if footer.differs(rules.session) else EarlyDrops(rules, banner, context.suspect)
