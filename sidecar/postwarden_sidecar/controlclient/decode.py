"""From the wire to rules: a Snapshot and its blobs become rules.settings.Rules, or one sentence why not.

Strict where proto3 is not: an unknown enum value, a required feature or a format that this release does not
know, is refused, for a reader that ignores a new field would reject mail that the field exempts. A message that an
older operator does not know is absent, and means the settings' defaults. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping

from postwarden.screening.v1 import screening_pb2 as pb

from postwarden_sidecar.controlclient.decode_telemetry import envelope_addresses, log_format, sampling
from postwarden_sidecar.controlclient.decode_tests import ACTIONS, dnsbl, protocol
from postwarden_sidecar.controlclient.decode_values import Undecodable, bits, known, seconds
from postwarden_sidecar.rules.intervals import AddressTable, BadTable, Buffer, verify_blob
from postwarden_sidecar.rules.settings import (
    Access,
    AccessRule,
    Cache,
    Dnsbl,
    Handoff,
    Limits,
    Mode,
    PolicyRef,
    Pregreet,
    Protocol,
    Rules,
    Session,
    Upstream,
)

RULES_FORMAT = "rules/1"
VERSIONS = {"iv4/1": 4, "iv6/1": 6}
"""IP versions, by the formats of blobs."""
TABLE_FORMATS = tuple(VERSIONS)
FORMATS = (RULES_FORMAT, *TABLE_FORMATS)
FEATURES = (
    "exemptions",
    "soft-fail",
    "dnsbl-allow",
    "envelope-addresses",
)  # what a Snapshot may require beyond rules/1
MAX_BLOBS = 256 * 1024 * 1024  # bytes of all blobs of a policy: 20 million IPv4 networks

_MODES = {pb.MODE_ENFORCE: Mode.ENFORCE, pb.MODE_OBSERVE: Mode.OBSERVE}
_HANDOFFS = {
    pb.HANDOFF_PLAIN: Handoff.PLAIN,
    pb.HANDOFF_PROXY_V1: Handoff.PROXY_V1,
    pb.HANDOFF_PROXY_V2: Handoff.PROXY_V2,
    pb.HANDOFF_PASS: Handoff.PASS,
}


def blobs_to_fetch(snapshot: pb.Snapshot, known: Container[str]) -> list[pb.Blob]:
    """Which blobs have their content neither inline nor in known (hashes). Raises Undecodable where
    a blob's format is unknown or all of them are too large, before anything is fetched."""
    for blob in snapshot.blobs:
        if blob.format not in TABLE_FORMATS:
            raise Undecodable(f"blob {blob.hash[:12]} has the unknown format {blob.format!r}")
    total = sum(blob.size for blob in snapshot.blobs)
    if total > MAX_BLOBS:
        raise Undecodable(f"the blobs have {total} bytes together, more than {MAX_BLOBS}")
    return [blob for blob in snapshot.blobs if blob.size and not blob.data and blob.hash not in known]


def check(blob: pb.Blob, content: Buffer) -> None:
    """Whether a content is what the snapshot says of it, and a table that can be searched: some 0.5 ms for a shard. Raises Undecodable."""
    name = f"blob {blob.hash[:12]}"
    if len(content) != blob.size:
        raise Undecodable(f"{name} has {len(content)} bytes in place of {blob.size}")
    if hashlib.sha256(content).hexdigest() != blob.hash:
        raise Undecodable(f"the content of {name} has another hash")
    try:
        verify_blob(content, VERSIONS[blob.format])
    except BadTable as error:
        raise Undecodable(f"{name}: {error}") from error


def policy_ref(snapshot: pb.Snapshot) -> PolicyRef:
    """Which policy it is of."""
    return PolicyRef(
        namespace=snapshot.namespace,
        name=snapshot.name,
        uid=snapshot.policy_uid,
        generation=snapshot.generation,
        revision=snapshot.revision,
        version=snapshot.version,
    )


def decode(snapshot: pb.Snapshot, contents: Mapping[str, Buffer]) -> Rules:
    """The rules of a snapshot. contents: by hash, what is not inline, each checked already. Raises Undecodable."""
    if snapshot.format != RULES_FORMAT:
        raise Undecodable(f"the rules have the unknown format {snapshot.format!r}")
    unknown = sorted(set(snapshot.required_features) - set(FEATURES))
    if unknown:
        raise Undecodable(f"the rules need features that this sidecar lacks: {', '.join(unknown)}")
    tables = _Tables(snapshot.blobs, contents)
    rules = snapshot.rules
    return Rules(
        policy=policy_ref(snapshot),
        mode=known("rules.mode", rules.mode, _MODES),
        access=Access(
            my_networks=tables.table("rules.access.my_networks", rules.access.my_networks),
            reject_action=known("rules.access.reject_action", rules.access.reject_action, ACTIONS),
            rules=tuple(
                AccessRule(rule.field, tables.table(f"rules.access.rules[{at}]", rule.table))
                for at, rule in enumerate(rules.access.rules)
            ),
        ),
        pregreet=Pregreet(
            action=known("rules.pregreet.action", rules.pregreet.action, ACTIONS),
            wait=seconds("rules.pregreet.wait_ms", rules.pregreet.wait_ms),
            banner=rules.pregreet.banner if rules.pregreet.HasField("banner") else None,
            ttl=seconds("rules.pregreet.ttl_ms", rules.pregreet.ttl_ms),
        ),
        upstream=_upstream(rules.upstream) if rules.HasField("upstream") else None,
        proxy_trusted=tables.table("rules.listener.proxy_trusted", rules.listener.proxy_trusted),
        proxy_timeout=_proxy_timeout(rules.listener),
        hostname=rules.session.hostname or None,
        log_format=log_format(rules.telemetry),
        stress_wait=(rules.pregreet.stress_wait_ms / 1000) or None,
        pass_addresses=tables.table("rules.listener.pass_addresses", rules.listener.pass_addresses)
        if rules.listener.HasField("pass_addresses")
        else None,
        dnsbl=dnsbl(rules.dnsbl) if rules.HasField("dnsbl") else Dnsbl(),
        protocol=protocol(rules.protocol) if rules.HasField("protocol") else Protocol(),
        session=_dialogue(rules.dialogue) if rules.HasField("dialogue") else Session(),
        limits=_limits(rules.limits) if rules.HasField("limits") else Limits(),
        cache=_cache(rules.cache) if rules.HasField("cache") else Cache(),
        exempt_recipients=_exempt(rules.exempt_recipients),
        sampling=sampling(rules.telemetry),
        envelope_addresses=envelope_addresses(rules.telemetry),
    )


def _dialogue(dialogue: pb.Dialogue) -> Session:
    for name in ("command_count_limit", "line_length_limit"):
        if not getattr(dialogue, name):
            raise Undecodable(f"rules.dialogue.{name} is missing")
    return Session(
        command_time_limit=seconds("rules.dialogue.command_time_limit_ms", dialogue.command_time_limit_ms),
        stress_command_time_limit=seconds(
            "rules.dialogue.stress_command_time_limit_ms", dialogue.stress_command_time_limit_ms
        ),
        command_count_limit=dialogue.command_count_limit,
        line_length_limit=dialogue.line_length_limit,
        hello_required=dialogue.hello_required,
        reject_footer=dialogue.reject_footer,
        hidden_extensions=tuple(dialogue.hidden_extensions),
        soft_fail=dialogue.soft_fail,
    )


def _limits(limits: pb.Limits) -> Limits:
    enter, leave = limits.stress_enter_percent, limits.stress_leave_percent
    if not 0 < leave < enter <= 100:
        raise Undecodable(f"rules.limits: stress begins at {enter} % and ends at {leave} %, which can't be")
    return Limits(
        connections_per_client=limits.connections_per_client,
        screening=limits.screening,
        upstream=limits.upstream,
        prefix_ipv4=bits("rules.limits.prefix_ipv4", limits.prefix_ipv4, 32),
        prefix_ipv6=bits("rules.limits.prefix_ipv6", limits.prefix_ipv6, 128),
        stress_enter=enter,
        stress_leave=leave,
    )


def _cache(cache: pb.Cache) -> Cache:
    return Cache(
        retention=seconds("rules.cache.retention_ms", cache.retention_ms),
        prefix_ipv4=bits("rules.cache.prefix_ipv4", cache.prefix_ipv4, 32),
        prefix_ipv6=bits("rules.cache.prefix_ipv6", cache.prefix_ipv6, 128),
    )


def _exempt(recipients: Iterable[str]) -> tuple[str, ...]:
    for recipient in recipients:
        if "@" not in recipient or len(recipient) < 2 or recipient != recipient.lower():
            raise Undecodable(
                f"rules.exempt_recipients has {recipient!r}, which is no recipient in lower case"
            )
    return tuple(recipients)


def _proxy_timeout(listener: pb.Listener) -> float:
    trusts = bool(listener.proxy_trusted.ipv4 or listener.proxy_trusted.ipv6)
    if not trusts and not listener.proxy_timeout_ms:
        return 0.0  # no one to wait for
    return seconds("rules.listener.proxy_timeout_ms", listener.proxy_timeout_ms)


def _upstream(upstream: pb.Upstream) -> Upstream:
    handoff = known("rules.upstream.handoff", upstream.handoff, _HANDOFFS)
    if upstream.WhichOneof("target") == "port":
        if not 1 <= upstream.port <= 65535:
            raise Undecodable(f"rules.upstream.port is {upstream.port}, which is no port")
        if handoff is Handoff.PASS:
            raise Undecodable("rules.upstream.handoff is Pass, which needs a socket, and there is a port")
        return Upstream(f"127.0.0.1:{upstream.port}", handoff)
    if not upstream.socket.startswith("/"):
        raise Undecodable(f"rules.upstream.socket is {upstream.socket!r}, which is no absolute path")
    return Upstream(f"unix:{upstream.socket}", handoff)


class _Tables:
    """The snapshot's blobs by hash; those inline are checked when they are first used."""

    def __init__(self, blobs: Iterable[pb.Blob], contents: Mapping[str, Buffer]) -> None:
        self._blobs = {blob.hash: blob for blob in blobs}
        self._contents: dict[str, Buffer] = dict(contents)

    def table(self, field: str, table: pb.AddressTable) -> AddressTable:
        """Raises Undecodable for a blob that is missing or not what it says, and for shards out of order."""
        v4 = [self._content(field, digest, "iv4/1") for digest in table.ipv4]
        v6 = [self._content(field, digest, "iv6/1") for digest in table.ipv6]
        try:
            result = AddressTable(
                v4, v6, lines_before4=table.ipv4_lines_before, lines_before6=table.ipv6_lines_before
            )
            result.verify_order()
        except BadTable as error:
            raise Undecodable(f"{field}: {error}") from error
        return result

    def _content(self, field: str, digest: str, expected: str) -> Buffer:
        blob = self._blobs.get(digest)
        if blob is None:
            raise Undecodable(f"{field} names blob {digest[:12]}, which the snapshot does not list")
        if blob.format != expected:
            raise Undecodable(f"{field} wants {expected} and blob {digest[:12]} is {blob.format!r}")
        content = self._contents.get(digest)
        if content is None:
            content = blob.data
            check(blob, content)
            self._contents[digest] = content
        return content
