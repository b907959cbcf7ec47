"""Specs that are good and specs that are bad, with what is wrong and where. The model is judged by them, and the API server too."""

from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]


def document(spec: object, name: str = "mx", namespace: str = "mail") -> dict[str, object]:
    """A whole ScreeningPolicy with this spec."""
    return {
        "apiVersion": "postwarden.dev/v1alpha1",
        "kind": "ScreeningPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def access(*rules: object, **others: object) -> Spec:
    return {"selector": {}, "access": {"rules": list(rules), **others}}


def _with(**fields: object) -> Spec:
    return {"selector": {}, **fields}


def _expression(**fields: object) -> Spec:
    return {"selector": {"matchExpressions": [{"key": "app", **fields}]}}


def _proxy(**fields: object) -> Spec:
    return _with(listener={"proxyProtocol": fields})


KEY = {"name": "lists", "key": "bad.txt"}

GOOD: dict[str, Spec] = {
    "minimal": _with(),
    "labels": {"selector": {"matchLabels": {"app.kubernetes.io/name": "postfix", "tier": ""}}},
    "expressions": {
        "selector": {
            "matchExpressions": [
                {"key": "app", "operator": "In", "values": ["postfix", "exim"]},
                {"key": "app", "operator": "NotIn", "values": ["x"]},
                {"key": "mail", "operator": "Exists"},
                {"key": "debug", "operator": "DoesNotExist", "values": []},
            ]
        }
    },
    "observe": _with(mode="Observe"),
    "networks": access(
        {"action": "Permit", "cidrs": ["192.0.2.1", "2001:db8::1"]},
        {"action": "Reject", "cidrs": ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "::/0"]},
        {"action": "Dunno", "cidrs": ["198.51.100.0/31"]},
        myNetworks=[],
        rejectAction="Drop",
    ),
    "plain list": access({"action": "Reject", "listFrom": {"configMapKeyRef": KEY}}),
    "Postfix list": access({"listFrom": {"configMapKeyRef": KEY, "format": "PostfixCIDR"}}),
    "list of several sources": access(
        {
            "action": "Reject",
            "listFrom": {"sources": [{"configMapKeyRef": KEY}, {"configMapKeyRef": KEY}], "format": "Plain"},
        }
    ),
    "pregreet": _with(
        pregreet={"action": "Drop", "wait": "1m", "banner": "mx ESMTP {ready}", "ttl": "8760h"}
    ),
    "pregreet off": _with(pregreet={"banner": "", "wait": "1ms"}),
    "compound duration": _with(pregreet={"ttl": "1h30m5s500ms"}),
    "upstream on its default port": _with(upstream={"handoff": "Plain"}),
    "upstream port": _with(upstream={"port": 10025, "handoff": "ProxyV2"}),
    "upstream socket": _with(upstream={"socket": "/var/spool/postfix/public/smtpd", "handoff": "Pass"}),
    "proxy in front": _proxy(trusted=["10.0.0.0/8", "fd00::/8"], timeout="3s"),
    "hostname": _with(session={"hostname": "mx1.example.org"}),
    "log format": _with(telemetry={"logFormat": "PostscreenLegacy"}),
    "telemetry": _with(
        telemetry={
            "sampling": [
                {"verdict": "dropped", "percent": 0, "maxPerSecond": 0},
                {"verdict": "pass_new", "percent": 100, "maxPerSecond": 10_000},
                {"verdict": "hangup"},
            ],
            "envelopeAddresses": "Hashed",
        }
    ),
    "nulls count as left out": _with(mode=None, pregreet={"wait": None}, upstream=None),
}


@dataclass(frozen=True)
class Bad:
    """field: its path; message: a part of what the model says; api: a part of what the API server says, None if it lets it pass."""

    name: str
    spec: object
    field: str
    message: str
    api: str | None


_NOT_BOTH = "give either cidrs or listFrom, and not both"
_SOURCES_XOR = "give either configMapKeyRef or sources, and not both"
_NETWORK = "must be an address or a network"

BAD = [
    Bad(
        "no selector",
        {},
        "spec.selector",
        "is missing; name the pods by their labels, or write {} for all",
        "Required value",
    ),
    Bad("null selector", {"selector": None}, "spec.selector", "is missing", "Required value"),
    Bad(
        "selector is a list",
        {"selector": []},
        "spec.selector",
        "a list must be an object",
        "must be of type object",
    ),
    Bad("spec is text", "on", "spec", '"on" must be an object with fields', "must be of type object"),
    Bad(
        "unknown field",
        _with(pregreat={}),
        "spec.pregreat",
        "is no known field; did you mean pregreet?",
        "unknown field",
    ),
    Bad(
        "unknown field inside",
        _with(pregreet={"xyzzy": "2s"}),
        "spec.pregreet.xyzzy",
        "is no known field; possible here: action, wait, stressWait, banner, ttl",
        "unknown field",
    ),
    Bad(
        "unknown field in a list",
        access({"action": "Permit", "cidr": ["::1"], "cidrs": ["::1"]}),
        "spec.access.rules[0].cidr",
        "did you mean cidrs?",
        "unknown field",
    ),
    Bad(
        "word in lower case",
        _with(mode="enforce"),
        "spec.mode",
        '"enforce" is not possible here; did you mean Enforce?',
        "Unsupported value",
    ),
    Bad("word of later", _with(mode="Xyz"), "spec.mode", "possible: Enforce, Observe", "Unsupported value"),
    Bad(
        "boolean for a word",
        _with(mode=False),
        "spec.mode",
        "false is not possible here",
        "must be of type string",
    ),
    Bad(
        "label's key",
        {"selector": {"matchLabels": {"a/b/c": "x"}}},
        "spec.selector.matchLabels[a/b/c]",
        "is no label's key",
        "keys must be labels like app.kubernetes.io/name",
    ),
    Bad(
        "label's value",
        {"selector": {"matchLabels": {"app": "-x"}}},
        "spec.selector.matchLabels.app",
        "is no label's value",
        "should match",
    ),
    Bad(
        "label's value is no text",
        {"selector": {"matchLabels": {"app": True}}},
        "spec.selector.matchLabels.app",
        "true must be text; put a plain value in quotes",
        "must be of type string",
    ),
    Bad(
        "In without values",
        _expression(operator="In"),
        "spec.selector.matchExpressions[0].values",
        "In and NotIn need at least one value",
        "In and NotIn need at least one value",
    ),
    Bad(
        "Exists with values",
        _expression(operator="Exists", values=["x"]),
        "spec.selector.matchExpressions[0].values",
        "must be left out: Exists and DoesNotExist take no values",
        "must be left out: Exists and DoesNotExist take no values",
    ),
    Bad(
        "expression without operator",
        _expression(),
        "spec.selector.matchExpressions[0].operator",
        "is missing; possible: In, NotIn, Exists, DoesNotExist",
        "Required value",
    ),
    Bad(
        "host bits",
        access({"action": "Permit", "cidrs": ["192.0.2.1", "10.0.0.1/8"]}),
        "spec.access.rules[0].cidrs[1]",
        "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
        None,
    ),
    Bad(
        "host bits, IPv6",
        access(myNetworks=["2001:db8::1/32"]),
        "spec.access.myNetworks[0]",
        "did you mean 2001:db8::/32?",
        None,
    ),
    Bad(
        "IPv4 in IPv6, network",
        access(myNetworks=["::ffff:10.0.0.0/104"]),
        "spec.access.myNetworks[0]",
        "is IPv4 written as IPv6; did you mean 10.0.0.0/8?",
        _NETWORK,
    ),
    Bad(
        "IPv4 in IPv6, address",
        _proxy(trusted=["::ffff:192.0.2.1"]),
        "spec.listener.proxyProtocol.trusted[0]",
        "did you mean 192.0.2.1?",
        _NETWORK,
    ),
    Bad(
        "no network",
        access({"action": "Permit", "cidrs": ["mail.example.org"]}),
        "spec.access.rules[0].cidrs[0]",
        '"mail.example.org" is neither an address nor a network',
        _NETWORK,
    ),
    Bad(
        "netmask",
        access(myNetworks=["10.0.0.0/255.0.0.0"]),
        "spec.access.myNetworks[0]",
        "is neither an address nor a network",
        _NETWORK,
    ),
    Bad(
        "leading zero",
        access(myNetworks=["10.0.0.010"]),
        "spec.access.myNetworks[0]",
        "is neither an address nor a network",
        _NETWORK,
    ),
    Bad(
        "zone",
        access(myNetworks=["fe80::1%eth0"]),
        "spec.access.myNetworks[0]",
        "is neither an address nor a network",
        _NETWORK,
    ),
    Bad(
        "too long for a network",
        access(myNetworks=["1" * 50]),
        "spec.access.myNetworks[0]",
        "has 50 characters; at most 43",
        "may not be more than 43",
    ),
    Bad(
        "prefix too long",
        access(myNetworks=["2001:db8::/129"]),
        "spec.access.myNetworks[0]",
        "is neither an address nor a network",
        _NETWORK,
    ),
    Bad(
        "empty cidrs",
        access({"action": "Permit", "cidrs": []}),
        "spec.access.rules[0].cidrs",
        "is an empty list",
        "should have at least 1 items",
    ),
    Bad(
        "too many cidrs",
        access({"action": "Permit", "cidrs": ["::1"] * 1025}),
        "spec.access.rules[0].cidrs",
        "has 1025 entries; at most 1024",
        "Too many",
    ),
    Bad(
        "too many rules",
        access(*[{"action": "Permit", "cidrs": ["::1"]}] * 65),
        "spec.access.rules",
        "has 65 entries; at most 64",
        "Too many",
    ),
    Bad("neither cidrs nor list", access({"action": "Permit"}), "spec.access.rules[0]", _NOT_BOTH, _NOT_BOTH),
    Bad(
        "cidrs and list",
        access({"action": "Permit", "cidrs": ["::1"], "listFrom": {"configMapKeyRef": KEY}}),
        "spec.access.rules[0]",
        _NOT_BOTH,
        _NOT_BOTH,
    ),
    Bad(
        "no action",
        access({"cidrs": ["::1"]}),
        "spec.access.rules[0].action",
        "is missing; say Permit, Reject or Dunno",
        "is missing; say Permit, Reject or Dunno",
    ),
    Bad(
        "no action for a plain list",
        access({"listFrom": {"configMapKeyRef": KEY}}),
        "spec.access.rules[0].action",
        "is missing; say Permit",
        "is missing; say Permit",
    ),
    Bad(
        "action for a Postfix list",
        access({"action": "Reject", "listFrom": {"configMapKeyRef": KEY, "format": "PostfixCIDR"}}),
        "spec.access.rules[0].action",
        "must be left out: each line of a PostfixCIDR list",
        "must be left out: each line of a PostfixCIDR list",
    ),
    Bad(
        "list from nowhere",
        access({"action": "Reject", "listFrom": {}}),
        "spec.access.rules[0].listFrom",
        _SOURCES_XOR,
        _SOURCES_XOR,
    ),
    Bad(
        "list from both",
        access(
            {"action": "Reject", "listFrom": {"configMapKeyRef": KEY, "sources": [{"configMapKeyRef": KEY}]}}
        ),
        "spec.access.rules[0].listFrom",
        _SOURCES_XOR,
        _SOURCES_XOR,
    ),
    Bad(
        "no sources",
        access({"action": "Reject", "listFrom": {"sources": []}}),
        "spec.access.rules[0].listFrom.sources",
        "is an empty list",
        "should have at least 1 items",
    ),
    Bad(
        "list's key missing",
        access({"action": "Reject", "listFrom": {"configMapKeyRef": {"name": "x"}}}),
        "spec.access.rules[0].listFrom.configMapKeyRef.key",
        "is missing",
        "Required value",
    ),
    Bad(
        "ConfigMap's name",
        access({"action": "Reject", "listFrom": {"configMapKeyRef": {"name": "My Lists", "key": "a"}}}),
        "spec.access.rules[0].listFrom.configMapKeyRef.name",
        "is no object's name",
        "should match",
    ),
    Bad(
        "rule is text",
        access("Permit"),
        "spec.access.rules[0]",
        '"Permit" must be an object',
        "must be of type object",
    ),
    Bad(
        "rules are an object",
        _with(access={"rules": {}}),
        "spec.access.rules",
        "an object must be a list",
        "must be of type array",
    ),
    Bad(
        "duration in words",
        _with(pregreet={"wait": "3 days"}),
        "spec.pregreet.wait",
        '"3 days" is no duration; write one like 6s, 500ms or 1h30m',
        "should match",
    ),
    Bad(
        "negative duration",
        _with(pregreet={"wait": "-5s"}),
        "spec.pregreet.wait",
        "is no duration",
        "should match",
    ),
    Bad(
        "duration as a number",
        _with(pregreet={"wait": 6}),
        "spec.pregreet.wait",
        "6 must be text",
        "must be of type string",
    ),
    Bad(
        "no wait at all",
        _with(pregreet={"wait": "0s"}),
        "spec.pregreet.wait",
        "must be longer than 0s and at most 1m",
        "must be longer than 0s and at most 1m",
    ),
    Bad(
        "endless wait",
        _with(pregreet={"wait": "61s"}),
        "spec.pregreet.wait",
        "at most 1m",
        "must be longer than 0s and at most 1m",
    ),
    Bad(
        "endless pass",
        _with(pregreet={"ttl": "99999h"}),
        "spec.pregreet.ttl",
        "must be longer than 0s and at most 8760h",
        "must be longer than 0s and at most 8760h",
    ),
    Bad(
        "endless PROXY header",
        _proxy(timeout="2m"),
        "spec.listener.proxyProtocol.timeout",
        "at most 1m",
        "at most 1m",
    ),
    Bad(
        "banner of two lines",
        _with(pregreet={"banner": "a\r\nb"}),
        "spec.pregreet.banner",
        '"a\\r\\nb" may hold only printable ASCII characters, and no line breaks',
        "should match",
    ),
    Bad(
        "banner with a last line break",
        _with(pregreet={"banner": "a\n"}),
        "spec.pregreet.banner",
        "may hold only printable ASCII",
        "should match",
    ),
    Bad(
        "banner not in ASCII",
        _with(pregreet={"banner": "mäil"}),
        "spec.pregreet.banner",
        "may hold only printable ASCII",
        "should match",
    ),
    Bad(
        "banner too long",
        _with(pregreet={"banner": "x" * 507}),
        "spec.pregreet.banner",
        "has 507 characters; at most 506",
        "may not be more than 506",
    ),
    Bad(
        "hostname",
        _with(session={"hostname": "mx_1.example.org"}),
        "spec.session.hostname",
        "is no domain name",
        "should match",
    ),
    Bad(
        "empty hostname",
        _with(session={"hostname": ""}),
        "spec.session.hostname",
        "is no domain name",
        "should be at least 1 chars",
    ),
    Bad(
        "hostname is an address",
        _with(session={"hostname": "192.0.2.1"}),
        "spec.session.hostname",
        "is an address; write a domain name",
        "must be a domain name like mx.example.org, and no address",
    ),
    Bad(
        "upstream without handoff",
        _with(upstream={"port": 25}),
        "spec.upstream.handoff",
        "is missing; possible: Plain, ProxyV1, ProxyV2, Pass",
        "Required value",
    ),
    Bad(
        "upstream port and socket",
        _with(upstream={"port": 25, "socket": "/run/mta", "handoff": "Plain"}),
        "spec.upstream",
        "give either port or socket, and not both",
        "give either port or socket, and not both",
    ),
    Bad(
        "Pass to a port",
        _with(upstream={"port": 25, "handoff": "Pass"}),
        "spec.upstream.handoff",
        "Pass needs the socket",
        "Pass needs the socket",
    ),
    Bad(
        "Pass to the default port",
        _with(upstream={"handoff": "Pass"}),
        "spec.upstream.handoff",
        "Pass needs the socket",
        "Pass needs the socket",
    ),
    Bad(
        "socket's path",
        _with(upstream={"socket": "run/mta", "handoff": "Plain"}),
        "spec.upstream.socket",
        "is no absolute path",
        "should match",
    ),
    Bad(
        "port as text",
        _with(upstream={"port": "25", "handoff": "Plain"}),
        "spec.upstream.port",
        '"25" must be a whole number, without quotes',
        "must be of type integer",
    ),
    Bad(
        "port too large",
        _with(upstream={"port": 65536, "handoff": "Plain"}),
        "spec.upstream.port",
        "65536 is too large; at most 65535",
        "should be less than or equal to 65535",
    ),
    Bad(
        "port zero",
        _with(upstream={"port": 0, "handoff": "Plain"}),
        "spec.upstream.port",
        "0 is too small; at least 1",
        "should be greater than or equal to 1",
    ),
    Bad(
        "log format",
        _with(telemetry={"logFormat": "json"}),
        "spec.telemetry.logFormat",
        "did you mean JSON?",
        "Unsupported value",
    ),
    Bad(
        "sampling of what is no verdict",
        _with(telemetry={"sampling": [{"verdict": "reject"}]}),
        "spec.telemetry.sampling[0].verdict",
        "did you mean rejected?",
        "Unsupported value",
    ),
    Bad(
        "sampling of a verdict twice",
        _with(telemetry={"sampling": [{"verdict": "hangup"}, {"verdict": "hangup", "percent": 1}]}),
        "spec.telemetry.sampling",
        "names a verdict twice; give each once",
        "Duplicate value",
    ),
    Bad(
        "sampling of more than all",
        _with(telemetry={"sampling": [{"verdict": "hangup", "percent": 101}]}),
        "spec.telemetry.sampling[0].percent",
        "101 is too large; at most 100",
        "should be less than or equal to 100",
    ),
    Bad(
        "envelope addresses",
        _with(telemetry={"envelopeAddresses": "Hash"}),
        "spec.telemetry.envelopeAddresses",
        "did you mean Hashed?",
        "Unsupported value",
    ),
]
