"""The kinds of text in a ScreeningPolicy that speak of DNSBLs and of SMTP; `formats` has the others. One place for each, as there."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated

from postwarden_operator.policy.reply_filter import REPLY_FILTER_PATTERN, reply_filter_problem
from postwarden_operator.policy.text_format import CelRule, TextFormat, quoted

KEY = "{key}"
"""In a zone: where the key of a Secret goes."""

LONGEST_ZONE = 189
"""Characters: a name has 253 at most (RFC 1035, section 2.3.4), of which an IPv6 client's 32 nibbles take 64."""

LONGEST_RECIPIENT = 318
"""Characters of an address: 64 of its local part, `@`, 253 of its domain (RFC 5321, section 4.5.3.1)."""

_LABEL = "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
ZONE_PATTERN = rf"^((\{{key\}}|{_LABEL})\.)*{_LABEL}$"

_HOST = r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?)"
_PORT = r"([1-9][0-9]{0,4})"

_ATOM = r"[-A-Za-z0-9!#$%&'*+/=?^_`{|}~]+"
_DOMAIN = "[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"


def zone_problem(text: str) -> str | None:
    """What is wrong with a zone that fits the pattern, or None."""
    if text.rpartition(".")[2].isdigit():
        return f"{quoted(text)} is an address; write the list's domain name, like zen.spamhaus.org"
    return None


Zone = Annotated[
    str,
    TextFormat(
        kind="domain name",
        problem="is no list's domain name; write one like zen.spamhaus.org, without a dot at its end",
        max_length=LONGEST_ZONE,
        min_length=1,
        pattern=ZONE_PATTERN,
        check=zone_problem,
        cel=(
            CelRule(
                r"!self.matches('(^|\\.)[0-9]+$')",
                "must be a list's domain name like zen.spamhaus.org, and no address",
            ),
        ),
    ),
]

ReplyFilterText = Annotated[
    str,
    TextFormat(
        kind="reply filter",
        problem="is no reply filter; write one like 127.0.0.2, 127.0.0.[2..11] or 127.0.[0;1].[2;4..6]",
        max_length=256,
        min_length=1,
        pattern=r"^[0-9.;\[\]]+$",
        check=reply_filter_problem,
        cel=(
            CelRule(
                f"self.matches('{REPLY_FILTER_PATTERN}')".replace("\\", "\\\\"),
                "must be four octets, like 127.0.0.2, 127.0.0.[2..11] or 127.0.[0;1].[2;4..6]",
            ),
        ),
    ),
]

Label = Annotated[
    str,
    TextFormat(
        kind="text",
        problem="may hold only printable ASCII characters, and no line breaks; it may not be empty",
        max_length=200,
        min_length=1,
        pattern=r"^[ -~]*$",
    ),
]


def _resolver_problem(text: str) -> str | None:
    host, _, port = text.rpartition(":")
    if int(port) > 65535:
        return f"{quoted(text)} has no port that exists; write HOST:PORT like 192.0.2.53:53"
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif host.rpartition(".")[2].isdigit():
            IPv4Address(host)
    except AddressValueError:
        return (
            f"{quoted(text)} has an address that is none; write one like 192.0.2.53:53 or [2001:db8::53]:53"
        )
    return None


Resolver = Annotated[
    str,
    TextFormat(
        kind="HOST:PORT",
        problem="is not HOST:PORT; write one like 192.0.2.53:53 or [2001:db8::53]:53",
        max_length=259,
        min_length=3,
        pattern=rf"^{_HOST}:{_PORT}$",
        check=_resolver_problem,
    ),
]

CommandWord = Annotated[
    str,
    TextFormat(
        kind="command",
        problem="is no command's first word; write one like CONNECT (what begins with no letter is forbidden anyway)",
        max_length=32,
        min_length=1,
        pattern=r"^[A-Za-z][!-~]*$",
    ),
]

ExtensionKeyword = Annotated[
    str,
    TextFormat(
        kind="EHLO keyword",
        problem="is no EHLO keyword; write one like STARTTLS",
        max_length=32,
        min_length=1,
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9]*$",  # RFC 5321, section 4.1.1.1: ehlo-keyword
    ),
]

Footer = Annotated[
    str,
    TextFormat(
        kind="text",
        problem="may hold only printable ASCII characters, and no line breaks",
        max_length=500,  # with code and CRLF within the 512 of a reply line (RFC 5321, section 4.5.3.1.5)
        pattern=r"^[ -~]*$",
    ),
]


def _recipient_problem(text: str) -> str | None:
    local, _, domain = text.partition("@")
    if len(local) > 64:
        return f"{quoted(text)} has a local part of {len(local)} characters; at most 64 are possible"
    if domain and re.fullmatch("[0-9]+", domain.rpartition(".")[2]):
        return f"{quoted(text)} has an address for its domain; write a domain name"
    return None


Recipient = Annotated[
    str,
    TextFormat(
        kind="recipient",
        problem="is no recipient; write one like postmaster@ (at any domain), abuse@example.com or @example.org",
        max_length=LONGEST_RECIPIENT,
        min_length=2,
        pattern=rf"^(@{_DOMAIN}|{_ATOM}(\.{_ATOM})*@({_DOMAIN})?)$",
        check=_recipient_problem,
    ),
]
