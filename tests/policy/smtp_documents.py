"""Specs on DNSBLs, tests after the greeting, session, limits and cache, good and bad; `documents` has the others."""

from policy.documents import Bad, Spec


def dnsbl(**fields: object) -> Spec:
    return {"selector": {}, "dnsbl": fields}


def site(**fields: object) -> Spec:
    return dnsbl(sites=[{"zone": "bl.example.org", **fields}])


def session(**fields: object) -> Spec:
    return {"selector": {}, "session": fields}


def protocol(**fields: object) -> Spec:
    return {"selector": {}, "protocol": fields}


def recipients(*texts: object) -> Spec:
    return {"selector": {}, "exemptions": {"recipients": list(texts)}}


KEY_FROM = {"secretKeyRef": {"name": "dqs", "key": "token"}}
KEYED = {"zone": "{key}.zen.dq.spamhaus.net", "keyFrom": KEY_FROM}

SMTP_GOOD: dict[str, Spec] = {
    "DNSBL in full": dnsbl(
        action="Drop",
        threshold=3,
        allowThreshold=-2,
        timeout="5s",
        ttl={"min": "1s", "max": "1s"},
        resolvers=["192.0.2.53:53", "[2001:db8::53]:5353", "dns.example.org:53"],
        sites=[
            {"zone": "bl.example.org", "replies": "127.0.0.[2..11]", "weight": 2, "label": "lists of X"},
            {"zone": "bl.example.org", "replies": "127.0.[0;1].[2;4..6]", "weight": -1},
            {"zone": "_x.EXAMPLE.org", "replies": "[127].0.0.255"},
            KEYED,
        ],
    ),
    "DNSBL off": dnsbl(action="Ignore", threshold=1_000_000, allowThreshold=-1_000_000, sites=[]),
    "zone of the greatest length": site(zone=".".join(["a" * 63, "b" * 63, "c" * 61])),
    "protocol": protocol(
        pipelining={"enabled": False, "action": "Ignore", "ttl": "1h"},
        nonSMTPCommand={"action": "Enforce"},
        bareNewline={"ttl": "30m"},
        forbiddenCommands=["connect", "X-FOO:"],
        handoff="Reconnect",
    ),
    "no forbidden commands": protocol(forbiddenCommands=[]),
    "session": session(
        hostname="mx.example.org",
        commandTimeLimit="1h",
        stressCommandTimeLimit="1s",
        commandCountLimit=1,
        lineLengthLimit=512,
        helloRequired=True,
        rejectFooter="See https://example.org/help",
        hiddenExtensions=["STARTTLS", "8bitmime"],
        softFail=True,
    ),
    "exemptions": recipients("postmaster@", "abuse@example.com", "@example.org", "o'neil+x.y@EXAMPLE.com"),
    "limits": {
        "selector": {},
        "limits": {
            "connectionsPerClient": 0,
            "screening": 1,
            "upstream": 1,
            "clientPrefix": {"ipv4": 24, "ipv6": 48},
        },
        "stress": {"enterPercent": 2, "leavePercent": 1},
        "cache": {"retention": "1h", "keyPrefix": {"ipv4": 24, "ipv6": 64}},
    },
    "stress that begins later": {"selector": {}, "stress": {"enterPercent": 100}},
    "addresses that give passes": {
        "selector": {},
        "listener": {"passAddresses": ["192.0.2.1", "2001:db8::/64"]},
    },
    "wait under stress": {"selector": {}, "pregreet": {"wait": "1s", "stressWait": "10s"}},
}

_KEY_MISSING = "is missing: the zone has {key}"
_KEY_NOT_USED = "must be left out: the zone has no {key}"
_FOUR_OCTETS = "must be four octets"
_LEAVE = "must be less than enterPercent"
_TOO_SMALL, _TOO_LARGE = "should be greater than or equal to", "should be less than or equal to"


def _replies(name: str, text: str, message: str, api: str | None = _FOUR_OCTETS) -> Bad:
    return Bad(f"reply filter: {name}", site(replies=text), "spec.dnsbl.sites[0].replies", message, api)


def _zone(name: str, text: str, message: str, api: str | None = "should match") -> Bad:
    return Bad(f"zone: {name}", site(zone=text), "spec.dnsbl.sites[0].zone", message, api)


def _resolver(name: str, text: object, message: str, api: str | None = "should match") -> Bad:
    return Bad(f"resolver: {name}", dnsbl(resolvers=[text]), "spec.dnsbl.resolvers[0]", message, api)


def _recipient(name: str, text: str, message: str, api: str | None = "should match") -> Bad:
    return Bad(f"recipient: {name}", recipients(text), "spec.exemptions.recipients[0]", message, api)


SMTP_BAD = [
    _replies("letters", "127.0.0.x", "is no reply filter; write one like 127.0.0.2", "should match"),
    _replies("three octets", "127.0.2", "has 3 octets in place of four"),
    _replies("five octets", "127.0.0.0.2", "has 5 octets in place of four"),
    _replies("number", "127.0.0.256", "the fourth octet, 256, must hold numbers from 0 to 255"),
    _replies("leading zero", "127.00.0.2", "the second octet, 00, must hold numbers from 0 to 255"),
    _replies("range without brackets", "127.0.2..4.1", "the third octet, 2..4, must stand in brackets"),
    _replies("list without brackets", "127.0.0.2;4", "the fourth octet, 2;4, must stand in brackets"),
    _replies(
        "backward range",
        "127.0.[1;9..4].2",
        "the third octet, [1;9..4], has the range 9..4, which is empty; did you mean 4..9?",
        None,
    ),
    _replies(
        "open bracket", "127.0.0.[2..4", "the fourth octet, [2..4, has a bracket without its other half"
    ),
    _replies("closing bracket", "127.0.0.2]", "the fourth octet, 2], has a bracket without its other half"),
    _replies("empty list", "127.[].0.2", "the second octet, [], must hold numbers from 0 to 255"),
    _replies("empty octet", "127.0.0.", "the fourth octet, empty, must hold numbers from 0 to 255"),
    _replies("half a range", "127.0.0.[2..]", "the fourth octet, [2..], must hold numbers from 0 to 255"),
    _replies("not loopback", "10.0.0.2", "the first octet must be 127", None),
    _zone(
        "an address",
        "192.0.2.1",
        "is an address; write the list's domain name",
        "must be a list's domain name",
    ),
    _zone("dot at its end", "bl.example.org.", "without a dot at its end"),
    _zone("blank", "bl example org", "is no list's domain name"),
    _zone("empty", "", "is no list's domain name", "should be at least 1 chars"),
    _zone("URL", "https://bl.example.org", "is no list's domain name"),
    _zone(
        "too long",
        ".".join(["a" * 63, "b" * 63, "c" * 62]),
        "has 190 characters; at most 189",
        "more than 189",
    ),
    Bad(
        "key without Secret",
        site(zone="{key}.bl.example.org"),
        "spec.dnsbl.sites[0].keyFrom",
        _KEY_MISSING,
        _KEY_MISSING,
    ),
    Bad(
        "Secret without key",
        site(keyFrom=KEY_FROM),
        "spec.dnsbl.sites[0].keyFrom",
        _KEY_NOT_USED,
        _KEY_NOT_USED,
    ),
    Bad(
        "zone: key at its end",
        site(zone="bl.example.{key}", keyFrom=KEY_FROM),
        "spec.dnsbl.sites[0].zone",
        "is no list's domain name",
        "should match",
    ),
    _zone("another word in braces", "{token}.bl.example.org", "is no list's domain name"),
    Bad(
        "Secret's name",
        site(zone="{key}.bl.example.org", keyFrom={"secretKeyRef": {"name": "a/b", "key": "k"}}),
        "spec.dnsbl.sites[0].keyFrom.secretKeyRef.name",
        "is no object's name",
        "should match",
    ),
    Bad(
        "weight in quotes", site(weight="1"), "spec.dnsbl.sites[0].weight", "whole number", "of type integer"
    ),
    Bad("weight", site(weight=1_000_001), "spec.dnsbl.sites[0].weight", "is too large", _TOO_LARGE),
    Bad("label", site(label=""), "spec.dnsbl.sites[0].label", "may not be empty", "at least 1 chars"),
    Bad("site without zone", dnsbl(sites=[{}]), "spec.dnsbl.sites[0].zone", "is missing", "Required value"),
    Bad(
        "too many sites",
        dnsbl(sites=[{"zone": "bl.example.org"}] * 33),
        "spec.dnsbl.sites",
        "has 33 entries; at most 32",
        "Too many",
    ),
    Bad("threshold of none", dnsbl(threshold=0), "spec.dnsbl.threshold", "0 is too small", _TOO_SMALL),
    Bad(
        "positive allowThreshold",
        dnsbl(threshold=5, allowThreshold=1),
        "spec.dnsbl.allowThreshold",
        "1 is too large; at most 0",
        _TOO_LARGE,
    ),
    Bad(
        "TTLs the wrong way round",
        dnsbl(ttl={"min": "2h", "max": "1h59m"}),
        "spec.dnsbl.ttl.min",
        "is longer than max",
        "is longer than max",
    ),
    Bad(
        "TTL's maximum below the default of its minimum",
        dnsbl(ttl={"max": "30s"}),
        "spec.dnsbl.ttl.min",
        "is longer than max (60s and 1h are the defaults)",
        "is longer than max",
    ),
    _resolver("without port", "192.0.2.53", "is not HOST:PORT; write one like 192.0.2.53:53"),
    _resolver("IPv6 without brackets", "2001:db8::53:53", "is not HOST:PORT"),
    _resolver("port", "192.0.2.53:65536", "has no port that exists", None),
    _resolver("port zero", "192.0.2.53:0", "is not HOST:PORT"),
    _resolver("octet", "192.0.2.530:53", "has an address that is none", None),
    _resolver("IPv6", "[2001:db8:::53]:53", "has an address that is none", None),
    _resolver("number", 53, "53 must be text", "of type string"),
    Bad(
        "enabled in quotes",
        protocol(pipelining={"enabled": "no"}),
        "spec.protocol.pipelining.enabled",
        '"no" must be true or false, without quotes',
        "must be of type boolean",
    ),
    Bad(
        "name of a test",
        protocol(nonSmtpCommand={}),
        "spec.protocol.nonSmtpCommand",
        "did you mean nonSMTPCommand?",
        "unknown field",
    ),
    Bad(
        "two words",
        protocol(forbiddenCommands=["GET /"]),
        "spec.protocol.forbiddenCommands[0]",
        "is no command's first word",
        "should match",
    ),
    Bad(
        "hand-over",
        protocol(handoff="inline"),
        "spec.protocol.handoff",
        "did you mean Inline?",
        "Unsupported value",
    ),
    Bad(
        "endless command",
        session(commandTimeLimit="2h"),
        "spec.session.commandTimeLimit",
        "must be longer than 0s and at most 1h",
        "must be longer than 0s and at most 1h",
    ),
    Bad(
        "no commands", session(commandCountLimit=0), "spec.session.commandCountLimit", "too small", _TOO_SMALL
    ),
    Bad("line", session(lineLengthLimit=4097), "spec.session.lineLengthLimit", "too large", _TOO_LARGE),
    Bad(
        "footer of two lines",
        session(rejectFooter="a\nb"),
        "spec.session.rejectFooter",
        "no line breaks",
        "should match",
    ),
    Bad(
        "hidden extension with its parameter",
        session(hiddenExtensions=["SIZE 1000"]),
        "spec.session.hiddenExtensions[0]",
        "is no EHLO keyword",
        "should match",
    ),
    _recipient("no at", "postmaster", "is no recipient; write one like postmaster@"),
    _recipient("at alone", "@", "is no recipient", "at least 2 chars"),
    _recipient("quoted", '"a b"@example.org', "is no recipient"),
    _recipient("route", "@relay.example:a@example.org", "is no recipient"),
    _recipient("in angles", "<abuse@example.org>", "is no recipient"),
    _recipient("address for domain", "abuse@192.0.2.1", "has an address for its domain", None),
    _recipient("long local part", f"{'a' * 65}@", "has a local part of 65 characters", None),
    Bad(
        "limit",
        {"selector": {}, "limits": {"screening": 0}},
        "spec.limits.screening",
        "0 is too small; at least 1",
        _TOO_SMALL,
    ),
    Bad(
        "prefix",
        {"selector": {}, "limits": {"clientPrefix": {"ipv4": 33}}},
        "spec.limits.clientPrefix.ipv4",
        "33 is too large; at most 32",
        _TOO_LARGE,
    ),
    Bad(
        "key prefix",
        {"selector": {}, "cache": {"keyPrefix": {"ipv6": 15}}},
        "spec.cache.keyPrefix.ipv6",
        "15 is too small; at least 16",
        _TOO_SMALL,
    ),
    Bad(
        "stress that never ends",
        {"selector": {}, "stress": {"enterPercent": 80, "leavePercent": 80}},
        "spec.stress.leavePercent",
        _LEAVE,
        _LEAVE,
    ),
    Bad(
        "stress that begins below the default of its end",
        {"selector": {}, "stress": {"enterPercent": 60}},
        "spec.stress.leavePercent",
        _LEAVE,
        _LEAVE,
    ),
    Bad(
        "pass address",
        {"selector": {}, "listener": {"passAddresses": ["mx.example.org"]}},
        "spec.listener.passAddresses[0]",
        "is neither an address nor a network",
        "must be an address or a network",
    ),
]
