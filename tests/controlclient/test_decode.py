"""From the wire to rules, and every way in which a snapshot is refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from controlclient.snapshots import add_blob, add_rule, snapshot
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient.decode import MAX_BLOBS, blobs_to_fetch, decode
from postwarden_sidecar.controlclient.decode_values import Undecodable
from postwarden_sidecar.rules.intervals import AddressTable, encode4
from postwarden_sidecar.rules.settings import (
    Action,
    EnvelopeAddresses,
    Handoff,
    LogFormat,
    Mode,
    PolicyRef,
    SampleRate,
    Upstream,
)


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def test_a_whole_snapshot_becomes_rules() -> None:
    message = snapshot("v7")
    message.rules.mode = pb.MODE_OBSERVE
    message.rules.pregreet.ClearField("banner")
    message.rules.upstream.port = 2525
    message.rules.upstream.handoff = pb.HANDOFF_PROXY_V2
    message.rules.session.hostname = "mx.example.org"
    message.rules.telemetry.log_format = pb.LOG_FORMAT_POSTSCREEN_LEGACY
    message.rules.telemetry.envelope_addresses = pb.ENVELOPE_ADDRESSES_OMITTED
    message.rules.telemetry.sampling.add(verdict=pb.VERDICT_PASS_NEW, percent=5, max_per_second=6)
    message.required_features.append("envelope-addresses")
    left_out = add_rule(message, [("192.168.0.1/32", 1, 4), ("2001:db8::/32", 2, 5)], inline=False)
    add_rule(message, [("192.168.0.0/16", 2, 0)])
    rules = decode(message, left_out)
    assert rules.policy == PolicyRef("mail", "inbound", "uid", 3, "rev-v7", "v7")
    assert (rules.mode, rules.access.reject_action) == (Mode.OBSERVE, Action.DROP)
    assert (rules.pregreet.wait, rules.pregreet.ttl, rules.pregreet.banner) == (6.0, 86400.0, None)
    assert rules.upstream == Upstream("127.0.0.1:2525", Handoff.PROXY_V2)
    assert (rules.hostname, rules.log_format) == ("mx.example.org", LogFormat.POSTSCREEN_LEGACY)
    assert rules.envelope_addresses is EnvelopeAddresses.OMITTED
    assert rules.sampling == (SampleRate("pass_new", 5, 6),)
    first, second = rules.access.rules
    assert first.field == "spec.access.rules[0]"
    assert first.table.lookup(address("192.168.0.1")) == (1, 4)
    assert first.table.lookup(address("2001:db8::1")) == (2, 5)
    assert first.table.lookup(address("192.168.0.2")) is None
    assert second.table.lookup(address("192.168.0.2")) == (2, 0)
    assert len(rules.proxy_trusted) == 0


def test_what_is_absent_stays_absent() -> None:
    rules = decode(snapshot(banner=""), {})
    assert (rules.upstream, rules.hostname, rules.pregreet.banner) == (None, None, "")


@pytest.mark.parametrize(
    ("handoff", "expected"), [(pb.HANDOFF_PLAIN, Handoff.PLAIN), (pb.HANDOFF_PASS, Handoff.PASS)]
)
def test_a_socket_as_upstream(handoff: pb.Handoff, expected: Handoff) -> None:
    message = snapshot()
    message.rules.upstream.socket = "/run/mta/smtpd"
    message.rules.upstream.handoff = handoff
    assert decode(message, {}).upstream == Upstream("unix:/run/mta/smtpd", expected)


@pytest.mark.parametrize("number", [0, 99])
@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("rules.mode", lambda rules, number: setattr(rules, "mode", number)),
        ("rules.access.reject_action", lambda rules, number: setattr(rules.access, "reject_action", number)),
        ("rules.pregreet.action", lambda rules, number: setattr(rules.pregreet, "action", number)),
        ("rules.upstream.handoff", lambda rules, number: setattr(rules.upstream, "handoff", number)),
        ("rules.telemetry.log_format", lambda rules, number: setattr(rules.telemetry, "log_format", number)),
    ],
)
def test_an_enum_value_that_is_missing_or_unknown(
    field: str, spoil: Callable[[pb.Rules, int], None], number: int
) -> None:
    message = snapshot()
    message.rules.upstream.port = 25
    message.rules.upstream.handoff = pb.HANDOFF_PLAIN
    spoil(message.rules, number)
    with pytest.raises(Undecodable, match=rf"{field} has the unknown value {number}"):
        decode(message, {})


def upstream_port(port: int, handoff: pb.Handoff = pb.HANDOFF_PLAIN) -> pb.Snapshot:
    message = snapshot()
    message.rules.upstream.port = port
    message.rules.upstream.handoff = handoff
    return message


def changed(change: Callable[[pb.Snapshot], object]) -> pb.Snapshot:
    message = snapshot()
    change(message)
    return message


def two_blobs_of_one_rule(message: pb.Snapshot, *contents: bytes) -> None:
    rule = message.rules.access.rules.add(field="spec.access.rules[0]")
    for content in contents:
        rule.table.ipv4.append(add_blob(message, content, "iv4/1"))


LOW, HIGH = encode4([(1, 5, 1, 1)]), encode4([(4, 9, 1, 2)])
UNSORTED = encode4([(20, 30, 1, 1), (1, 5, 1, 1)])
BACKWARDS = encode4([(20, 10, 1, 1)])
UNKNOWN_ACTION = encode4([(1, 5, 9, 1)])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (changed(lambda m: setattr(m, "format", "rules/2")), "the rules have the unknown format 'rules/2'"),
        (
            changed(lambda m: m.required_features.append("dnsbl")),
            "need features that this sidecar lacks: dnsbl",
        ),
        (
            changed(lambda m: m.rules.telemetry.sampling.add(verdict=pb.VERDICT_ERROR, percent=101)),
            r"rules.telemetry.sampling\[0\].percent is 101",
        ),
        (
            changed(lambda m: m.rules.telemetry.sampling.extend([pb.Sampling(verdict=pb.VERDICT_ERROR)] * 2)),
            r"sampling\[1\].verdict is error, which an earlier one has",
        ),
        (
            changed(lambda m: m.rules.telemetry.sampling.add(percent=1)),
            r"sampling\[0\].verdict has the unknown value 0",
        ),
        (
            changed(lambda m: setattr(m.rules.telemetry, "envelope_addresses", 99)),
            "rules.telemetry.envelope_addresses has the unknown value 99",
        ),
        (changed(lambda m: m.rules.pregreet.ClearField("wait_ms")), "rules.pregreet.wait_ms is missing"),
        (changed(lambda m: m.rules.pregreet.ClearField("ttl_ms")), "rules.pregreet.ttl_ms is missing"),
        (upstream_port(0), "rules.upstream.port is 0, which is no port"),
        (upstream_port(70000), "rules.upstream.port is 70000, which is no port"),
        (upstream_port(25, pb.HANDOFF_PASS), "Pass, which needs a socket"),
        (changed(lambda m: two_blobs_of_one_rule(m, LOW[:-1])), "no whole number of rows of iv4/1"),
        (changed(lambda m: two_blobs_of_one_rule(m, UNSORTED)), "overlaps another or is out of order"),
        (changed(lambda m: two_blobs_of_one_rule(m, BACKWARDS)), "overlaps another or is out of order"),
        (changed(lambda m: two_blobs_of_one_rule(m, LOW, HIGH)), "overlaps another or is out of order"),
        (changed(lambda m: two_blobs_of_one_rule(m, HIGH, LOW)), "not in ascending order"),
        (changed(lambda m: two_blobs_of_one_rule(m, UNKNOWN_ACTION)), "none of Permit, Reject and Dunno"),
    ],
)
def test_what_can_not_be_put_in_force_is_refused_in_one_sentence(message: pb.Snapshot, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(message, {})


def with_one_rule() -> pb.Snapshot:
    message = snapshot()
    add_rule(message, [("10.0.0.0/8", 1, 1)])
    return message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.ClearField("blobs"), "which the snapshot does not list"),
        (lambda m: setattr(m.blobs[0], "format", "iv6/1"), "wants iv4/1 and blob .* is 'iv6/1'"),
        (lambda m: setattr(m.blobs[0], "size", 26), "has 13 bytes in place of 26"),
        (lambda m: setattr(m.blobs[0], "data", b""), "has 0 bytes in place of 13"),
        (lambda m: setattr(m.blobs[0], "data", b"\0" * 13), "has another hash"),
    ],
)
def test_a_blob_that_is_not_what_it_says(change: Callable[[pb.Snapshot], object], reason: str) -> None:
    message = with_one_rule()
    assert decode(message, {}).access.rules[0].table == AddressTable.from_networks([("10.0.0.0/8", 1, 1)])
    change(message)
    with pytest.raises(Undecodable, match=reason):
        decode(message, {})


def test_only_blobs_that_are_neither_inline_nor_known_are_fetched() -> None:
    message = with_one_rule()
    (known,) = add_rule(message, [("192.0.2.0/24", 2, 1)], inline=False).items()
    (unknown,) = add_rule(message, [("198.51.100.0/24", 2, 1)], inline=False)
    assert [blob.hash for blob in blobs_to_fetch(message, dict([known]))] == [unknown]


def test_blobs_of_an_unknown_format_or_too_large_are_refused_before_they_are_fetched() -> None:
    message = snapshot()
    message.blobs.add(hash="ab", format="iv4/2", size=1)
    with pytest.raises(Undecodable, match="blob ab has the unknown format 'iv4/2'"):
        blobs_to_fetch(message, {})
    message.blobs[0].format = "iv4/1"
    message.blobs[0].size = MAX_BLOBS + 1
    with pytest.raises(Undecodable, match="more than 268435456"):
        blobs_to_fetch(message, {})
