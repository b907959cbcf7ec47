"""Clients that passed all tests before, decided without the objects of a connection: on a server that is up for a day, most of those that
have mail.

Contract: where `KnownClients` lets a client in, `connection.Connection` says of the same client under the same context, told the same
passes: HandOff at once, and this record once that is done; nothing else. Where that takes more (a PROXY header, a row of the access list,
passes kept by prefix) it says nothing, and the engine is asked. The engine is its oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping

from postwarden_sidecar.checks import passes
from postwarden_sidecar.engine import outcome
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.ordinary import is_ordinary
from postwarden_sidecar.engine.record import EventKind, Record, Verdict
from postwarden_sidecar.rules.settings import Rules

# All happens in the moment of accept.
_EVENTS = (EventKind.CONNECT, EventKind.PASS_OLD)


class KnownClients:
    """Of one context."""

    __slots__ = ("_suspect", "_templates", "rules")

    def __init__(self, rules: Rules, suspect: str) -> None:
        """Made by `known_clients`."""
        self.rules = rules
        self._suspect = suspect
        # By the test that is named and the way of the hand-off: there are a few.
        self._templates: dict[tuple[str, str], Record] = {}

    def lets_in(self, address: str, packed: bytes, known: Mapping[str, float], wall: float) -> bool:
        """Whether the client is to be handed off at once; False: the engine is to be asked. address, packed: as in Facts. known: its
        passes, as `Connection.receive_pass` would get them. wall: epoch seconds."""
        rules = self.rules
        return (
            bool(known)
            and not passes.due(rules, known, wall)
            and is_ordinary(rules, self._suspect, address, packed)
        )

    def template(self, known: Mapping[str, float], handoff: str) -> Record:
        """Of the record of a client that was let in. handoff: as `Connection.receive_handoff` would get it."""
        test = outcome.first_passed(known)
        template = self._templates.get((test, handoff))
        if template is None:
            reason = passes.passed_before("")
            template = outcome.template(self.rules, Verdict.PASS_OLD, test, reason, _EVENTS)
            template.handoff, template.handoff_start = handoff, 0.0
            self._templates[test, handoff] = template
        return template


def known_clients(context: Context) -> KnownClients | None:
    """Of a context; None where no pass counts."""
    rules = context.rules
    if rules is None or not passes.enabled(rules):
        return None
    return KnownClients(rules, context.suspect)
