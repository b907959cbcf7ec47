"""DNSBL, tests after the greeting, dialogue, limits, cache and exemptions: from the wire, strictly; and absent, from an older operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from controlclient.snapshots import snapshot
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_sidecar.controlclient.decode import FEATURES, decode
from postwarden_sidecar.controlclient.decode_values import Undecodable
from postwarden_sidecar.rules import image
from postwarden_sidecar.rules.intervals import AddressTable
from postwarden_sidecar.rules.settings import (
    Action,
    Cache,
    Dnsbl,
    DnsblSite,
    Handover,
    Limits,
    Protocol,
    ProtocolTest,
    Session,
)

ZONE = "secret7key.zen.dq.example"


def full() -> pb.Snapshot:
    message = snapshot()
    message.required_features.extend(FEATURES)
    rules = message.rules
    rules.pregreet.stress_wait_ms = 1500
    rules.listener.pass_addresses.SetInParent()
    rules.dnsbl.CopyFrom(
        pb.Dnsbl(
            action=pb.ACTION_DROP,
            threshold=3,
            allow_threshold=-2,
            timeout_ms=500,
            ttl_min_ms=1000,
            ttl_max_ms=2000,
            resolvers=["192.0.2.53:53"],
            sites=[
                pb.DnsblSite(zone="bl.example", template="bl.example", weight=-1, label="bl"),
                pb.DnsblSite(
                    zone=ZONE,
                    template="{key}.zen.dq.example",
                    weight=2,
                    label="zen",
                    replies=pb.ReplyFilter(first=b"\x7f", second=b"\0", third=b"\0\1", fourth=b"\x02\xff"),
                ),
            ],
        )
    )
    test = pb.ProtocolTest(enabled=True, action=pb.ACTION_ENFORCE, ttl_ms=60_000)
    rules.protocol.CopyFrom(
        pb.Protocol(
            pipelining=test,
            non_smtp_command=pb.ProtocolTest(enabled=True, action=pb.ACTION_DROP, ttl_ms=1000),
            bare_newline=pb.ProtocolTest(enabled=False, action=pb.ACTION_IGNORE, ttl_ms=1000),
            forbidden_commands=["GET"],
            handover=pb.HANDOVER_RECONNECT,
        )
    )
    rules.dialogue.CopyFrom(
        pb.Dialogue(
            command_time_limit_ms=1000,
            stress_command_time_limit_ms=500,
            command_count_limit=6,
            line_length_limit=512,
            hello_required=True,
            reject_footer="see x",
            hidden_extensions=["DSN"],
            soft_fail=True,
        )
    )
    rules.limits.CopyFrom(
        pb.Limits(
            connections_per_client=0,
            screening=10,
            upstream=5,
            prefix_ipv4=24,
            prefix_ipv6=48,
            stress_enter_percent=80,
            stress_leave_percent=60,
        )
    )
    rules.cache.CopyFrom(pb.Cache(retention_ms=3_600_000, prefix_ipv4=24, prefix_ipv6=64))
    rules.exempt_recipients.append("postmaster@")
    return message


def test_every_field_reaches_the_rules() -> None:
    rules = decode(full(), {})
    octets = (frozenset({127}), frozenset({0}), frozenset({0, 1}), frozenset({2, 255}))
    assert rules.stress_wait == 1.5
    assert rules.pass_addresses == AddressTable([], [])
    assert rules.dnsbl == Dnsbl(
        action=Action.DROP,
        threshold=3,
        allow_threshold=-2,
        timeout=0.5,
        ttl_min=1.0,
        ttl_max=2.0,
        resolvers=("192.0.2.53:53",),
        sites=(
            DnsblSite("bl.example", "bl.example", None, -1, "bl"),
            DnsblSite(ZONE, "{key}.zen.dq.example", octets, 2, "zen"),
        ),
    )
    assert rules.protocol == Protocol(
        ProtocolTest(True, Action.ENFORCE, 60.0),
        ProtocolTest(True, Action.DROP, 1.0),
        ProtocolTest(False, Action.IGNORE, 1.0),
        ("GET",),
        Handover.RECONNECT,
    )
    assert rules.session == Session(1.0, 0.5, 6, 512, True, "see x", ("DSN",), True)
    assert rules.limits == Limits(0, 10, 5, 24, 48, 80, 60)
    assert rules.cache == Cache(3600.0, 24, 64)
    assert rules.exempt_recipients == ("postmaster@",)


def test_key_of_a_zone_is_in_no_repr() -> None:
    assert ZONE not in repr(decode(full(), {}))


def test_every_field_is_in_the_image_that_workers_map() -> None:
    rules = decode(full(), {})
    assert image.decode(image.encode(rules)) == rules


def test_an_older_operators_snapshot_means_the_defaults() -> None:
    rules = decode(snapshot(), {})
    assert (rules.stress_wait, rules.pass_addresses, rules.exempt_recipients) == (None, None, ())
    assert (rules.dnsbl, rules.protocol, rules.session) == (Dnsbl(), Protocol(), Session())
    assert (rules.limits, rules.cache) == (Limits(), Cache())
    tests = (rules.protocol.pipelining, rules.protocol.non_smtp_command, rules.protocol.bare_newline)
    assert not any(test.enabled for test in tests)


@pytest.mark.parametrize("number", [0, 99])
@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("rules.dnsbl.action", lambda rules, number: setattr(rules.dnsbl, "action", number)),
        ("rules.protocol.handover", lambda rules, number: setattr(rules.protocol, "handover", number)),
        *(
            (
                f"rules.protocol.{test}.action",
                lambda rules, number, test=test: setattr(getattr(rules.protocol, test), "action", number),
            )
            for test in ("pipelining", "non_smtp_command", "bare_newline")
        ),
    ],
)
def test_an_enum_value_that_is_missing_or_unknown(
    field: str, spoil: Callable[[pb.Rules, int], None], number: int
) -> None:
    message = full()
    spoil(message.rules, number)
    with pytest.raises(Undecodable, match=rf"{field} has the unknown value {number}"):
        decode(message, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.dnsbl.ClearField("threshold"), "threshold is 0: every client would fail"),
        (lambda r: setattr(r.dnsbl, "allow_threshold", 1), "allow_threshold is 1, which is above 0"),
        (lambda r: r.dnsbl.ClearField("timeout_ms"), "rules.dnsbl.timeout_ms is missing"),
        (lambda r: r.dnsbl.ClearField("ttl_min_ms"), "rules.dnsbl.ttl_min_ms is missing"),
        (lambda r: r.dnsbl.ClearField("ttl_max_ms"), "rules.dnsbl.ttl_max_ms is missing"),
        (lambda r: r.dnsbl.sites[1].ClearField("zone"), r"sites\[1\].zone is missing"),
        (lambda r: r.dnsbl.sites[1].ClearField("template"), r"sites\[1\].template is missing"),
        (lambda r: r.dnsbl.sites[1].ClearField("label"), r"sites\[1\].label is missing"),
        (lambda r: r.dnsbl.sites[1].replies.ClearField("third"), r"sites\[1\].replies lacks an octet"),
        (lambda r: r.protocol.ClearField("pipelining"), "pipelining.action has the unknown value 0"),
        (lambda r: r.protocol.bare_newline.ClearField("ttl_ms"), "bare_newline.ttl_ms is missing"),
        (lambda r: r.dialogue.ClearField("command_time_limit_ms"), "command_time_limit_ms is missing"),
        (lambda r: r.dialogue.ClearField("stress_command_time_limit_ms"), "stress_command_.* is missing"),
        (lambda r: r.dialogue.ClearField("command_count_limit"), "command_count_limit is missing"),
        (lambda r: r.dialogue.ClearField("line_length_limit"), "line_length_limit is missing"),
        (lambda r: setattr(r.limits, "stress_leave_percent", 80), "begins at 80 % and ends at 80 %"),
        (lambda r: setattr(r.limits, "stress_enter_percent", 101), "begins at 101 %"),
        (lambda r: r.limits.ClearField("stress_leave_percent"), "ends at 0 %"),
        (lambda r: setattr(r.limits, "prefix_ipv4", 33), "rules.limits.prefix_ipv4 is 33"),
        (lambda r: r.limits.ClearField("prefix_ipv6"), "rules.limits.prefix_ipv6 is 0"),
        (lambda r: setattr(r.cache, "prefix_ipv6", 129), "rules.cache.prefix_ipv6 is 129"),
        (lambda r: r.cache.ClearField("retention_ms"), "rules.cache.retention_ms is missing"),
        (lambda r: r.exempt_recipients.append("Abuse@"), "'Abuse@', which is no recipient in lower case"),
        (lambda r: r.exempt_recipients.append("@"), "'@', which is no recipient"),
    ],
)
def test_what_can_not_be_put_in_force_is_refused_in_one_sentence(
    change: Callable[[pb.Rules], object], reason: str
) -> None:
    message = full()
    change(message.rules)
    with pytest.raises(Undecodable, match=reason) as caught:
        decode(message, {})
    assert ZONE not in str(caught.value)
