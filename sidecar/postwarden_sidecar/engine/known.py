"""Clients that passed all tests before, decided without the objects of a connection: on a server that is up for a day, most of those that
have mail.

Contract: where `KnownClients` lets a client in, `connection.Connection` says of the same client under the same context, told the same
passes: HandOff at once, and this record once that is done; nothing else. Where that takes more (a PROXY header, a row of the access list,
passes kept by prefix) it says nothing, and the engine is asked. The engine is its oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping

from postwarden_sidecar.checks import access, passes, prefix
from postwarden_sidecar.engine import outcome
from postwarden_sidecar.engine.context import Context
from postwarden_sidecar.engine.record import Event, EventKind, Record, Verdict
from postwarden_sidecar.rules.settings import Rules

# All happens in the moment of accept. Nobody changes an event.
_EVENTS = (Event(EventKind.CONNECT, 0.0), Event(EventKind.PASS_OLD, 0.0))


class KnownClients:
    """Of one context."""

    __slots__ = ("_envelope", "_suspect", "rules")

    def __init__(self, rules: Rules, suspect: str) -> None:
        """Made by `known_clients`."""
        self.rules = rules
        self._suspect = suspect
        self._envelope = outcome.envelope(rules)

    def lets_in(self, address: str, packed: bytes, known: Mapping[str, float], wall: float) -> bool:
        """Whether the client is to be handed off at once; False: the engine is to be asked. address, packed: as in Facts. known: its
        passes, as `Connection.receive_pass` would get them. wall: epoch seconds."""
        rules = self.rules
        if not known or passes.due(rules, known, wall) or address == self._suspect:
            return False
        cache = rules.cache
        if prefix.key(address, packed, cache.prefix_ipv4, cache.prefix_ipv6) != address:
            return False
        return rules.proxy_trusted.lookup(packed) is None and access.find(rules.access, packed) is None

    def record(
        self,
        known: Mapping[str, float],
        address: str,
        port: int,
        local_address: str,
        local_port: int,
        wall: float,
        handoff: str,
    ) -> Record:
        """The record of a client that was let in. handoff: as `Connection.receive_handoff` would get it. wall: epoch seconds."""
        policy = self.rules.policy
        envelope, envelope_key = self._envelope
        return Record(
            wall,
            0.0,
            Verdict.PASS_OLD,
            passes.passed_before(address),
            address,
            port,
            local_address,
            local_port,
            address,
            port,
            False,
            test=outcome.first_passed(known),
            policy_namespace=policy.namespace,
            policy_name=policy.name,
            policy_revision=policy.revision,
            handoff=handoff,
            handoff_start=0.0,
            events=list(_EVENTS),
            envelope=envelope,
            envelope_key=envelope_key,
        )


def known_clients(context: Context) -> KnownClients | None:
    """Of a context; None where no pass counts."""
    rules = context.rules
    if rules is None or not passes.enabled(rules):
        return None
    return KnownClients(rules, context.suspect)
