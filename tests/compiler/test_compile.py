"""A policy and its lists become the rules on the wire, or every reason why not."""

import gzip
import hashlib
import json

import pytest
from policy.documents import GOOD, KEY, Spec, access, document
from postwarden.screening.v1 import screening_pb2 as pb
from postwarden_operator.compiler import (
    Compiled,
    CompileFailed,
    ListContent,
    Missing,
    NotLabelled,
    compile_policy,
)
from postwarden_operator.compiler.rows import ADDRESS_BITS
from postwarden_operator.policy import ConfigMapKey, parse_policy
from postwarden_sidecar.rules.intervals import AddressTable

LIST = ConfigMapKey("lists", "bad.txt")
PLAIN = access({"action": "Reject", "listFrom": {"configMapKeyRef": KEY}})
POSTFIX = access({"listFrom": {"configMapKeyRef": KEY, "format": "PostfixCIDR"}})


def compiled(spec: object, content: ListContent = b"192.0.2.1\n") -> Compiled:
    return compile_policy(parse_policy(document(spec), strict=True), {LIST: content})


def failure(spec: object, lists: dict[ConfigMapKey, ListContent]) -> CompileFailed:
    with pytest.raises(CompileFailed) as caught:
        compile_policy(parse_policy(document(spec), strict=True), lists)
    return caught.value


def table(result: Compiled, addresses: pb.AddressTable) -> AddressTable:
    """As a sidecar reads it."""
    return AddressTable(
        [result.blobs[name].data for name in addresses.ipv4],
        [result.blobs[name].data for name in addresses.ipv6],
        lines_before4=addresses.ipv4_lines_before,
        lines_before6=addresses.ipv6_lines_before,
    )


def packed(address: int, version: int) -> bytes:
    return address.to_bytes(ADDRESS_BITS[version] // 8, "big")


# --- rules


def test_minimal_policy_compiles_to_its_defaults() -> None:
    result = compiled({"selector": {}})
    rules = result.rules
    assert (rules.mode, rules.access.reject_action) == (pb.MODE_ENFORCE, pb.ACTION_ENFORCE)
    assert (rules.pregreet.action, rules.pregreet.wait_ms, rules.pregreet.ttl_ms) == (
        pb.ACTION_ENFORCE,
        6000,
        86_400_000,
    )
    assert not rules.pregreet.HasField("banner")
    assert not rules.HasField("upstream")
    assert (rules.listener.proxy_timeout_ms, rules.session.hostname) == (5000, "")
    assert rules.telemetry.log_format == pb.LOG_FORMAT_JSON
    networks = table(result, rules.access.my_networks)
    assert networks.lookup(bytes([127, 3, 2, 1])) == (pb.ACCESS_ACTION_PERMIT, 0)
    assert networks.lookup(bytes(15) + b"\1") == (pb.ACCESS_ACTION_PERMIT, 0)
    assert networks.lookup(bytes([128, 0, 0, 0])) is None


def test_all_fields_reach_the_rules() -> None:
    result = compiled(
        {
            "selector": {},
            "mode": "Observe",
            "access": {"rejectAction": "Drop"},
            "pregreet": {"action": "Ignore", "wait": "1s500ms", "banner": "", "ttl": "1h"},
            "upstream": {"socket": "/run/mta", "handoff": "Pass"},
            "listener": {"proxyProtocol": {"trusted": ["10.0.0.0/8"], "timeout": "3s"}},
            "session": {"hostname": "mx.example.org"},
            "telemetry": {
                "logFormat": "PostscreenLegacy",
                "sampling": [{"verdict": "pass_old", "percent": 7, "maxPerSecond": 3}, {"verdict": "error"}],
                "envelopeAddresses": "Hashed",
            },
        }
    )
    rules = result.rules
    assert (rules.mode, rules.access.reject_action) == (pb.MODE_OBSERVE, pb.ACTION_DROP)
    assert (rules.pregreet.action, rules.pregreet.wait_ms, rules.pregreet.ttl_ms) == (
        pb.ACTION_IGNORE,
        1500,
        3_600_000,
    )
    assert rules.pregreet.HasField("banner")
    assert rules.pregreet.banner == ""
    assert rules.upstream == pb.Upstream(socket="/run/mta", handoff=pb.HANDOFF_PASS)
    assert table(result, rules.listener.proxy_trusted).lookup(bytes([10, 1, 1, 1])) is not None
    assert rules.listener.proxy_timeout_ms == 3000
    assert rules.session.hostname == "mx.example.org"
    assert rules.telemetry.log_format == pb.LOG_FORMAT_POSTSCREEN_LEGACY
    assert rules.telemetry.envelope_addresses == pb.ENVELOPE_ADDRESSES_HASHED
    assert list(rules.telemetry.sampling) == [
        pb.Sampling(verdict=pb.VERDICT_PASS_OLD, percent=7, max_per_second=3),
        pb.Sampling(verdict=pb.VERDICT_ERROR, percent=100, max_per_second=50),
    ]


@pytest.mark.parametrize(
    ("shown", "features"),
    [("Full", ()), ("Hashed", ("envelope-addresses",)), ("Omitted", ("envelope-addresses",))],
)
def test_a_sidecar_that_would_show_what_is_not_to_be_shown_is_not_to_take_the_rules(
    shown: str, features: tuple[str, ...]
) -> None:
    assert compiled({"selector": {}, "telemetry": {"envelopeAddresses": shown}}).required_features == features


@pytest.mark.parametrize(
    ("handoff", "number"),
    [("Plain", pb.HANDOFF_PLAIN), ("ProxyV1", pb.HANDOFF_PROXY_V1), ("ProxyV2", pb.HANDOFF_PROXY_V2)],
)
def test_upstream_without_a_port_is_smtp(handoff: str, number: pb.Handoff) -> None:
    assert compiled({"selector": {}, "upstream": {"handoff": handoff}}).rules.upstream == pb.Upstream(
        port=25, handoff=number
    )


def test_rules_keep_their_order_and_say_where_they_stand() -> None:
    result = compiled(
        access(
            {"action": "Permit", "cidrs": ["192.168.0.1"]},
            {"action": "Dunno", "cidrs": ["192.168.0.2"]},
            {"action": "Reject", "cidrs": ["192.168.0.0/16", "2001:db8::/32"]},
        )
    )
    rules = result.rules.access.rules
    assert [rule.field for rule in rules] == [f"spec.access.rules[{index}]" for index in range(3)]
    address = bytes([192, 168, 0, 2])
    assert [table(result, rule.table).lookup(address) for rule in rules] == [
        None,
        (pb.ACCESS_ACTION_DUNNO, 0),
        (pb.ACCESS_ACTION_REJECT, 0),
    ]


def test_dunno_line_of_a_postfix_table_goes_on_and_dunno_rule_of_a_list_does_not() -> None:
    address = bytes([192, 0, 2, 1])
    postfix = compiled(POSTFIX, b"192.0.2.1 dunno\n192.0.2.0/24 reject")
    assert table(postfix, postfix.rules.access.rules[0].table).lookup(address) is None
    assert table(postfix, postfix.rules.access.rules[0].table).lookup(bytes([192, 0, 2, 2])) == (
        pb.ACCESS_ACTION_REJECT,
        2,
    )
    plain = compiled(access({"action": "Dunno", "listFrom": {"configMapKeyRef": KEY}}))
    assert table(plain, plain.rules.access.rules[0].table).lookup(address) == (pb.ACCESS_ACTION_DUNNO, 1)


def test_gzip_in_binary_data_is_read() -> None:
    result = compiled(PLAIN, gzip.compress(b"192.0.2.1\n"))
    assert table(result, result.rules.access.rules[0].table).lookup(bytes([192, 0, 2, 1])) is not None


def test_blobs_are_named_by_the_hash_of_their_content_and_all_are_used() -> None:
    result = compiled(GOOD["networks"])
    tables = [result.rules.access.my_networks, *(rule.table for rule in result.rules.access.rules)]
    assert {name for each in tables for name in (*each.ipv4, *each.ipv6)} == set(result.blobs)
    for name, blob in result.blobs.items():
        assert name == blob.hash == hashlib.sha256(blob.data).hexdigest()
        assert len(blob.data) % {"iv4/1": 13, "iv6/1": 37}[blob.format] == 0


# --- what lists can have wrong


def test_missing_config_map_is_told() -> None:
    failed = failure(PLAIN, {})
    assert failed.reason == "RefNotFound"
    assert [str(error) for error in failed.errors] == [
        "spec.access.rules[0].listFrom.configMapKeyRef: ConfigMap lists does not exist in namespace mail; create it, or correct the name"
    ]


def test_missing_key_is_told_with_those_that_are_there() -> None:
    failed = failure(PLAIN, {LIST: Missing(("good.txt", "b.txt"))})
    assert failed.reason == "RefNotFound"
    assert failed.errors[0].message == "ConfigMap lists has no key bad.txt; it has b.txt, good.txt"


def test_missing_label_is_told_with_the_command_that_sets_it() -> None:
    failed = failure(PLAIN, {LIST: NotLabelled()})
    assert failed.reason == "RefNotLabelled"
    assert failed.errors[0].message == (
        'ConfigMap lists lacks the label postwarden.dev/watch: "true"; run kubectl -n mail label configmap lists postwarden.dev/watch=true'
    )


def test_every_source_that_is_missing_is_told_by_its_place() -> None:
    sources = [{"configMapKeyRef": {"name": name, "key": "k"}} for name in ("a", "b", "c")]
    spec = access(
        {"action": "Permit", "cidrs": ["::1"]}, {"action": "Reject", "listFrom": {"sources": sources}}
    )
    failed = failure(spec, {ConfigMapKey("b", "k"): b"::1"})
    assert [error.field for error in failed.errors] == [
        "spec.access.rules[1].listFrom.sources[0].configMapKeyRef",
        "spec.access.rules[1].listFrom.sources[2].configMapKeyRef",
    ]


def test_bad_lines_of_all_lists_are_told_with_source_and_line() -> None:
    rules = [*PLAIN["access"]["rules"], *POSTFIX["access"]["rules"]]
    failed = failure(access(*rules), {LIST: b"# x\n10.0.0.1/8\n"})
    assert failed.reason == "BadList"
    where = "ConfigMap lists, key bad.txt, line 2: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"
    assert [str(error) for error in failed.errors] == [
        f"spec.access.rules[{index}].listFrom: {where}" for index in (0, 1)
    ]


def test_empty_list_is_told() -> None:
    failed = failure(PLAIN, {LIST: b"# nothing yet\n"})
    assert failed.reason == "BadList"
    assert "ConfigMap lists, key bad.txt is an empty list" in str(failed)


# --- revision


SPEC: Spec = {
    "selector": {"matchLabels": {"a": "1", "b": "2"}},
    "mode": "Enforce",
    "upstream": {"port": 25, "handoff": "Plain"},
    "pregreet": {"wait": "6s"},
}


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(SPEC.items())),
        {**SPEC, "selector": {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": []}},
        {key: value for key, value in SPEC.items() if key not in ("mode", "pregreet")},
        {**SPEC, "upstream": {"handoff": "Plain"}},
        {**SPEC, "session": {}, "listener": {"proxyProtocol": {"timeout": None}}},
    ],
)
def test_revision_is_the_same_for_what_means_the_same(same: Spec) -> None:
    assert compiled(same).version == compiled(SPEC).version


@pytest.mark.parametrize(
    "name", [name for name in GOOD if name not in ("minimal", "nulls count as left out")]
)
def test_revision_changes_with_every_field(name: str) -> None:
    content = b"192.0.2.1 permit" if "Postfix" in name else b"192.0.2.1"
    assert compiled(GOOD[name], content).revision != compiled(GOOD["minimal"]).revision


def test_revision_changes_with_a_list_and_not_with_the_name_of_the_policy() -> None:
    first = compiled(PLAIN).revision
    assert compiled(PLAIN, b"192.0.2.1\n# checked\n").revision != first
    other = parse_policy(document(json.loads(json.dumps(PLAIN)), name="other"), strict=True)
    assert compile_policy(other, {LIST: b"192.0.2.1\n", ConfigMapKey("unused", "k"): b"x"}).revision == first


def test_version_is_the_revision_and_the_compilers_release() -> None:
    result = compiled({"selector": {}})
    assert result.version.startswith(f"{result.revision}-")
    assert len(result.revision) == 16


# --- tests after the greeting, dialogue, limits


def test_words_are_in_upper_case_and_recipients_in_lower_case() -> None:
    rules = compiled(
        {
            "selector": {},
            "protocol": {"forbiddenCommands": ["get", "GET", "x-Foo"]},
            "session": {"hiddenExtensions": ["StartTLS"]},
            "exemptions": {"recipients": ["Postmaster@", "ABUSE@Example.com", "@Example.org"]},
        }
    ).rules
    assert list(rules.protocol.forbidden_commands) == ["GET", "X-FOO"]
    assert list(rules.dialogue.hidden_extensions) == ["STARTTLS"]
    assert list(rules.exempt_recipients) == ["postmaster@", "abuse@example.com", "@example.org"]


def test_stress_never_makes_anything_longer() -> None:
    rules = compiled(
        {"selector": {}, "pregreet": {"wait": "1s"}, "session": {"commandTimeLimit": "3s"}}
    ).rules
    assert (rules.pregreet.wait_ms, rules.pregreet.stress_wait_ms) == (1000, 1000)
    assert (rules.dialogue.command_time_limit_ms, rules.dialogue.stress_command_time_limit_ms) == (3000, 3000)


def test_every_address_gives_passes_unless_some_are_named() -> None:
    assert not compiled({"selector": {}}).rules.listener.HasField("pass_addresses")
    result = compiled({"selector": {}, "listener": {"passAddresses": ["192.0.2.1"]}})
    assert table(result, result.rules.listener.pass_addresses).lookup(bytes([192, 0, 2, 1])) is not None
    assert table(result, result.rules.listener.pass_addresses).lookup(bytes([192, 0, 2, 2])) is None


@pytest.mark.parametrize(
    ("spec", "features"),
    [
        ({}, ()),
        ({"exemptions": {"recipients": ["postmaster@"]}}, ("exemptions",)),
        ({"session": {"softFail": True}}, ("soft-fail",)),
        ({"dnsbl": {"allowThreshold": -1, "sites": [{"zone": "wl.example.org"}]}}, ("dnsbl-allow",)),
        ({"dnsbl": {"allowThreshold": -1}}, ()),
    ],
)
def test_what_spares_clients_a_refusal_must_be_known_to_the_sidecar(
    spec: Spec, features: tuple[str, ...]
) -> None:
    assert compiled({"selector": {}, **spec}).required_features == features
