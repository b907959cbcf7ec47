"""The kinds of text in a ScreeningPolicy. What each allows is said here only; the schema and the messages follow."""

from typing import Annotated

from pydantic import Field, Strict

from postwarden_operator.policy.duration import DURATION_PATTERN, LONGEST_DURATION_TEXT, milliseconds
from postwarden_operator.policy.network import LONGEST_NETWORK_TEXT, network_problem
from postwarden_operator.policy.text_format import CelRule, TextFormat, quoted

LONGEST_WAIT = "1m"
"""Of a client for us. RFC 5321, section 4.5.3.2.1, lets clients wait five minutes for a greeting; many are less patient."""

LONGEST_COMMAND_TIME = "1h"
"""For one command. RFC 5321, section 4.5.3.2.7, asks for five minutes at least."""

LONGEST_TTL = "8760h"
"""A year: a pass that is older says nothing about today's machine at that address."""

LONGEST_BANNER = 506
"""Characters: a reply line has 512 octets at most (RFC 5321, section 4.5.3.1.5), with `220-` and CRLF."""

LONGEST_SOCKET_PATH = 107
"""Bytes of a UNIX socket's path on Linux (unix(7): sun_path is 108 with its NUL)."""


def _duration(longest: str) -> TextFormat:
    limit = f"must be longer than 0s and at most {longest}"

    def check(text: str) -> str | None:
        within = 0 < milliseconds(text) <= milliseconds(longest)
        return None if within else f"{quoted(text)} {limit}"

    return TextFormat(
        kind="duration",
        problem="is no duration; write one like 6s, 500ms or 1h30m",
        max_length=LONGEST_DURATION_TEXT,
        pattern=DURATION_PATTERN,
        check=check,
        cel=(
            CelRule(
                f"duration(self) > duration('0s') && duration(self) <= duration('{longest}')",
                limit,
            ),
        ),
    )


def _hostname_problem(text: str) -> str | None:
    if text.rpartition(".")[2].isdigit():
        return f"{quoted(text)} is an address; write a domain name like mx.example.org"
    return None


Wait = Annotated[str, _duration(LONGEST_WAIT)]
CommandTime = Annotated[str, _duration(LONGEST_COMMAND_TIME)]
Ttl = Annotated[str, _duration(LONGEST_TTL)]

NetworkText = Annotated[
    str,
    TextFormat(
        kind="network",
        problem="is neither an address nor a network; write one like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
        max_length=LONGEST_NETWORK_TEXT,
        min_length=1,
        check=network_problem,
        cel=(
            CelRule(
                "isCIDR(self) || isIP(self)",
                "must be an address or a network, like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
                " (IPv4 not written as IPv6)",
            ),
        ),
    ),
]

Banner = Annotated[
    str,
    TextFormat(
        kind="text",
        problem="may hold only printable ASCII characters, and no line breaks",
        max_length=LONGEST_BANNER,
        pattern=r"^[ -~]*$",
    ),
]

Hostname = Annotated[
    str,
    TextFormat(
        kind="domain name",
        problem="is no domain name; write one like mx.example.org",
        max_length=253,  # RFC 1035, section 2.3.4: 255 octets on the wire
        min_length=1,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$",
        check=_hostname_problem,
        cel=(
            CelRule(
                r"!self.matches('(^|\\.)[0-9]+$')",
                "must be a domain name like mx.example.org, and no address",
            ),
        ),
    ),
]

SocketPath = Annotated[
    str,
    TextFormat(
        kind="path",
        problem="is no absolute path; write one like /var/spool/postfix/public/smtpd",
        max_length=LONGEST_SOCKET_PATH,
        pattern=r"^/[!-~]+$",
    ),
]

Port = Annotated[int, Strict(), Field(ge=1, le=65535)]

# The rules of Kubernetes' own names: ConfigMaps, their keys, labels (apimachinery's validation package).
ObjectName = Annotated[
    str,
    TextFormat(
        kind="name",
        problem="is no object's name; write lower-case letters, digits, '-' and '.'",
        max_length=253,
        min_length=1,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]

ConfigMapKeyName = Annotated[
    str,
    TextFormat(
        kind="key",
        problem="is no key of a ConfigMap or Secret; write letters, digits, '-', '_' and '.'",
        max_length=253,
        min_length=1,
        pattern=r"^[-._a-zA-Z0-9]+$",
    ),
]

LONGEST_LABEL_KEY = 317
"""Characters: a domain of 253, a slash, a name of 63."""

LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"

LabelKey = Annotated[
    str,
    TextFormat(
        kind="label key",
        problem="is no label's key; write one like app.kubernetes.io/name",
        max_length=LONGEST_LABEL_KEY,
        min_length=1,
        pattern=LABEL_KEY_PATTERN,
    ),
]

LabelValue = Annotated[
    str,
    TextFormat(
        kind="label value",
        problem="is no label's value; write letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    ),
]
