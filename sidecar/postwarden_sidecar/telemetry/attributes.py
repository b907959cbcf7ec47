"""What is said of a connection: one table of attributes for spans, OTLP log records, JSON lines and the reference page.

Names are those of OpenTelemetry's semantic conventions where it has one, else `postwarden.*`. An attribute without a value is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from postwarden_sidecar.engine import alike
from postwarden_sidecar.engine.record import Record, Verdict, Visit
from postwarden_sidecar.telemetry.escape import MAX_REASON, printable

Value = str | int
# The conventions' value for an error that has no class of its own: a fault of ours is told by its reason.
ERROR_OTHER = "_OTHER"
TRANSPORT = "tcp"
PROTOCOL = "smtp"


@dataclass(frozen=True, slots=True)
class Attribute:
    """value: None leaves it out."""

    key: str
    meaning: str
    value: Callable[[Record], Value | None]


def dnsbl_score(record: Record) -> int | None:
    """None: no list was asked, or the client was gone before all had answered."""
    for result in record.tests:
        if result.test == "dnsbl":
            words = result.detail.split()
            if len(words) > 1 and words[0] == "score":
                return int(words[1])
    return None


def _envelope_sender(record: Record) -> str | None:
    """The null sender of a bounce is shown as an empty text, once there is a recipient."""
    return printable(record.sender) if record.sender or record.recipient else None


ATTRIBUTES = (
    Attribute(
        "client.address",
        "who connected, as announced by a trusted proxy or as seen",
        lambda r: printable(r.client_address),
    ),
    Attribute("client.port", "its port", lambda r: r.client_port),
    Attribute("server.address", "the address it connected to", lambda r: printable(r.server_address)),
    Attribute("server.port", "the port it connected to", lambda r: r.server_port),
    Attribute(
        "network.peer.address",
        "the other end of the socket: the client or, with PROXY, the proxy",
        lambda r: printable(r.peer_address),
    ),
    Attribute("network.peer.port", "its port", lambda r: r.peer_port),
    Attribute("network.transport", f"`{TRANSPORT}`", lambda r: TRANSPORT),
    Attribute("network.protocol.name", f"`{PROTOCOL}`", lambda r: PROTOCOL),
    Attribute(
        "error.type",
        f"`{ERROR_OTHER}`, with the verdict `error` only",
        lambda r: ERROR_OTHER if r.verdict is Verdict.ERROR else None,
    ),
    Attribute("postwarden.verdict", "exactly one a connection", lambda r: r.verdict.value),
    Attribute("postwarden.reason", "why, in one sentence", lambda r: printable(r.reason, MAX_REASON) or None),
    Attribute(
        "postwarden.test",
        "the test that decided, as in `postwarden.tests`",
        lambda r: printable(r.test) or None,
    ),
    Attribute("postwarden.action", "what the policy has that test do", lambda r: printable(r.action) or None),
    Attribute(
        "postwarden.dnsbl.score", "what the DNS lists' weights add up to, if they were asked", dnsbl_score
    ),
    Attribute(
        "postwarden.would",
        "mode Observe: the verdict that Enforce would have given",
        lambda r: printable(r.would) or None,
    ),
    Attribute("postwarden.handoff", "how the client was handed over", lambda r: printable(r.handoff) or None),
    Attribute("postwarden.policy.name", "the policy in force", lambda r: printable(r.policy_name) or None),
    Attribute(
        "postwarden.policy.namespace", "its namespace", lambda r: printable(r.policy_namespace) or None
    ),
    Attribute("postwarden.policy.revision", "its revision", lambda r: printable(r.policy_revision) or None),
    Attribute(
        "postwarden.helo",
        "the last HELO or EHLO name in our own dialogue; this and the next two as `telemetry.envelopeAddresses` says",
        lambda r: printable(r.helo) or None,
    ),
    Attribute("postwarden.sender", "the last MAIL FROM there", _envelope_sender),
    Attribute("postwarden.recipient", "the last RCPT TO there", lambda r: printable(r.recipient) or None),
)


def attributes(record: Record) -> dict[str, Value]:
    """All attributes of a record, escaped and bounded."""
    found = {}
    for attribute in ATTRIBUTES:
        value = attribute.value(record)
        if value is not None:
            found[attribute.key] = value
    return found


def of_visit(template: Record, visit: Visit) -> dict[str, Value]:
    """Those of `attributes` of the visit's record that may differ from another visit's of the template."""
    address, port = printable(visit.address), visit.port
    return {
        "client.address": address,
        "client.port": port,
        "server.address": printable(visit.server_address),
        "server.port": visit.server_port,
        "network.peer.address": address,
        "network.peer.port": port,
        "postwarden.reason": printable(alike.reason(template, visit), MAX_REASON),
    }
