"""Hypothesis strategies that several tests share."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import assume
from hypothesis import strategies as st
from postwarden_sidecar.rules.intervals import AddressTable, Interval, encode4, encode6
from postwarden_sidecar.rules.settings import (
    Access,
    AccessRule,
    Action,
    Cache,
    Dnsbl,
    DnsblSite,
    Handoff,
    Handover,
    Limits,
    LogFormat,
    Mode,
    PolicyRef,
    Pregreet,
    Protocol,
    ProtocolTest,
    Rules,
    Session,
    Upstream,
)

# --- access lists


@st.composite
def networks(draw: st.DrawFn, versions: tuple[int, ...] = (4, 6)) -> str:
    """Networks as text, many of them near or inside one another. None is IPv4 written as IPv6: lists refuse that."""
    bits = 32 if draw(st.sampled_from(versions)) == 4 else 128
    length = draw(st.one_of(st.integers(bits - 6, bits), st.integers(0, bits)))
    near = st.integers(0, 63).map(lambda low: (10 << (bits - 8)) + low)
    host_bits = bits - length
    first = draw(st.one_of(near, st.integers(0, (1 << bits) - 1))) >> host_bits << host_bits
    assume(bits == 32 or first >> 32 != 0xFFFF or length < 96)
    address = ipaddress.IPv4Address(first) if bits == 32 else ipaddress.IPv6Address(first)
    return str(address) if length == bits and draw(st.booleans()) else f"{address}/{length}"


@dataclass(frozen=True)
class CidrLine:
    """A line of a cidr table: `if` (with its block), or a pattern with an action."""

    negated: bool
    network: str
    action: str = ""
    block: tuple[CidrLine, ...] | None = None


def cidr_tables(versions: tuple[int, ...] = (4, 6)) -> st.SearchStrategy[tuple[CidrLine, ...]]:
    """Tables with negation and nested blocks."""
    negated = st.booleans()
    rule = st.builds(CidrLine, negated, networks(versions), st.sampled_from(["permit", "REJECT", "Dunno"]))
    line = st.recursive(
        rule,
        lambda inner: st.builds(
            CidrLine, negated, networks(versions), block=st.lists(inner, max_size=5).map(tuple)
        ),
        max_leaves=12,
    )
    return st.lists(line, min_size=1, max_size=12).map(tuple)


_BETWEEN_LINES = st.sampled_from([[], [], [], [""], ["# permit"], ["   ", "  # ::/0 reject"]])


@st.composite
def cidr_table_text(draw: st.DrawFn, table: tuple[CidrLine, ...]) -> list[str]:
    """Physical lines that mean the table, with comments, blank and continuation lines in all places."""
    lines: list[str] = []

    def add(line: str) -> None:
        lines.extend(draw(_BETWEEN_LINES))
        lines.append(line)

    for line in table:
        pattern = ("!" if line.negated else "") + line.network
        if line.block is None:
            first, *others = (
                f"{pattern} {line.action}".split(" ")
                if draw(st.booleans())
                else [f"{pattern} \t{line.action} "]
            )
            add(first)
            for other in others:
                add(f" {other}")
        else:
            add(f"{draw(st.sampled_from(['if', 'IF']))} {pattern}")
            lines.extend(draw(cidr_table_text(line.block)))
            add("endif")
    return lines


# --- hand-off: SMTP replies and ways to cut a byte stream into pieces


@st.composite
def smtp_replies(draw: st.DrawFn) -> tuple[int, bytes]:
    """(code, bytes) of a reply of one to four lines."""
    code = draw(st.integers(200, 599))
    texts = draw(
        st.lists(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"").rstrip(b"\r")), max_size=3)
    )
    last = draw(st.sampled_from([b"", b" ", b" ok"]))
    raw = b"".join(b"%d-%s\r\n" % (code, text) for text in texts) + b"%d%s\r\n" % (code, last)
    return code, raw


def splits(stream: bytes) -> st.SearchStrategy[list[bytes]]:
    """Ways to cut a stream into chunks."""
    cuts = st.lists(st.integers(0, len(stream)), max_size=6).map(sorted)
    return cuts.map(lambda at: [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)])


def every_split(stream: bytes) -> list[list[bytes]]:
    """The stream in two pieces, cut everywhere, and byte by byte."""
    return [[stream[:at], stream[at:]] for at in range(len(stream))] + [[bytes([byte]) for byte in stream]]


# --- what an SMTP client says to us

_WORDS = (
    "HELO",
    "EHLO",
    "MAIL",
    "RCPT",
    "DATA",
    "BDAT",
    "RSET",
    "NOOP",
    "VRFY",
    "ETRN",
    "STARTTLS",
    "QUIT",
    "HELP",
)
_STRANGE_WORDS = (
    "AUTH", "XCLIENT", "XFORWARD", "GET", "POST", "CONNECT", "Subject:", "From", "FOO", "Mailx", "-", "1", "@", "", ":",
    "x:", "\tNOOP", "NOOP\tx", "<a>", "EHLO:", "A", "Get:", "NOOP\0",
)  # fmt: skip
_ARGUMENTS = (
    "", "x", "a.example b", "FROM:<a@example.com>", "FROM:<>", "FROM:", "FROM", "from: <a@b>", "FROM:a@example.com SIZE=1",
    'FROM:<"a b"@c> BODY=8BITMIME', "TO:<b@example.org>", "TO:<postmaster>", "TO:", "TO", "to:<x", "5", "5 LAST", "0 last x",
    "PLAIN", "/ HTTP/1.0", "x:25", "<>", "\x01", "\xff", "\xc3\xa9", " ", "a" * 120, "a" * 600,
)  # fmt: skip
_ENVELOPE = (
    "EHLO x",
    "HELO x",
    "MAIL FROM:<a@example.com>",
    "RCPT TO:<b@example.org>",
    "RCPT TO:<c@example.org>",
)


def _in_any_case(word: str) -> st.SearchStrategy[str]:
    return st.sampled_from([word, word, word.lower(), word.capitalize()])


@st.composite
def smtp_lines(draw: st.DrawFn) -> bytes:
    """A line of a client, with its end; most are commands, and most of those go on with a mail."""
    kind = draw(st.integers(0, 9))
    if kind < 5:
        line = draw(st.sampled_from(_ENVELOPE))
    else:
        words = _WORDS if kind < 8 else _STRANGE_WORDS
        word = draw(st.sampled_from(words).flatmap(_in_any_case))
        blanks = draw(st.sampled_from(["", "", "", " ", "  "]))
        argument = draw(st.sampled_from(_ARGUMENTS))
        line = blanks + word + (draw(st.sampled_from([" ", " ", "  "])) + argument if argument else "")
    end = draw(st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r\r\n"]))
    return line.encode("latin-1") + end


@st.composite
def smtp_dialogues(draw: st.DrawFn) -> tuple[bytes, ...]:
    """What a client writes; it waits for its replies before each write. Some writes hold several lines, some a part of one."""
    lines = draw(st.lists(smtp_lines(), min_size=1, max_size=12))
    writes: list[bytes] = []
    for line in [*lines, b"QUIT\r\n"]:
        how = draw(st.integers(0, 13))
        if how == 0 and writes:
            writes[-1] += line
        elif how == 1 and len(line) > 2:
            cut = draw(st.integers(1, len(line) - 1))
            writes += [line[:cut], line[cut:]]
        else:
            writes.append(line)
    return tuple(writes)


# --- addresses, tables and rules of the sidecar's core

packed_addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


def intervals(bits: int, max_size: int = 30) -> st.SearchStrategy[list[Interval]]:
    """Disjoint sorted intervals (first, last, action, line) of addresses of so many bits; they touch often, and in IPv6 often share the
    high half."""
    top = 2**bits - 1
    edges = st.one_of(st.integers(0, top), st.integers(0, 40), st.integers(top - 40, top))
    if bits == 128:
        edges = st.one_of(edges, st.integers(2**64 - 20, 2**64 + 20))

    def pair_up(numbers: list[int]) -> list[Interval]:
        numbers = sorted(numbers)
        pairs = zip(numbers[::2], numbers[1::2], strict=False)
        return [(first, last, 1 + first % 3, last % 2**32) for first, last in pairs]

    return st.lists(edges, max_size=2 * max_size, unique=True).map(pair_up)


@st.composite
def tables(draw: st.DrawFn) -> AddressTable:
    """Address tables of both families, each in up to three shards, which may say how many lines come before them."""
    blobs: list[list[bytes]] = []
    before: list[list[int]] = []
    for bits, encode in ((32, encode4), (128, encode6)):
        rows = draw(intervals(bits, 10))
        cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=2)))
        bounds = [0, *cuts, len(rows)]
        blobs.append([encode(rows[start:end]) for start, end in pairwise(bounds)])
        counts = st.lists(st.integers(0, 2**32), min_size=len(blobs[-1]), max_size=len(blobs[-1]))
        before.append(draw(st.just([]) | counts))
    return AddressTable(*blobs, lines_before4=before[0], lines_before6=before[1])


policy_refs = st.builds(
    PolicyRef, st.text(), st.text(), st.text(), st.integers(0, 2**62), st.text(), st.text()
)
_seconds = st.floats(0, 1e6)
_optional_text = st.none() | st.text(max_size=20)


_octets = st.frozensets(st.integers(0, 255), min_size=1, max_size=2)
_words = st.lists(st.text(max_size=5), max_size=2).map(tuple)
_counts = st.integers(0, 100_000)


def dnsbls() -> st.SearchStrategy[Dnsbl]:
    """Block lists of any content, none too."""
    site = st.builds(
        DnsblSite,
        zone=st.text(max_size=20),
        template=st.text(max_size=20),
        replies=st.none() | st.tuples(_octets, _octets, _octets, _octets),
        weight=st.integers(-1000, 1000),
        label=st.text(max_size=20),
    )
    return st.builds(
        Dnsbl,
        action=st.sampled_from(Action),
        threshold=st.integers(-1000, 1000),
        allow_threshold=st.integers(-1000, 0),
        timeout=_seconds,
        ttl_min=_seconds,
        ttl_max=_seconds,
        resolvers=_words,
        sites=st.lists(site, max_size=2).map(tuple),
    )


def protocols() -> st.SearchStrategy[Protocol]:
    """Tests after the greeting, on and off."""
    test = st.builds(ProtocolTest, st.booleans(), st.sampled_from(Action), _seconds)
    return st.builds(
        Protocol,
        pipelining=test,
        non_smtp_command=test,
        bare_newline=test,
        forbidden_commands=_words,
        handover=st.sampled_from(Handover),
    )


def sessions() -> st.SearchStrategy[Session]:
    """Settings of our own dialogue."""
    return st.builds(
        Session,
        command_time_limit=_seconds,
        stress_command_time_limit=_seconds,
        command_count_limit=_counts,
        line_length_limit=_counts,
        hello_required=st.booleans(),
        reject_footer=st.text(max_size=20),
        hidden_extensions=_words,
        soft_fail=st.booleans(),
    )


def limits() -> st.SearchStrategy[Limits]:
    """Limits, and none."""
    percent = st.integers(0, 100)
    return st.builds(
        Limits,
        connections_per_client=_counts,
        screening=_counts,
        upstream=_counts,
        prefix_ipv4=st.integers(0, 32),
        prefix_ipv6=st.integers(0, 128),
        stress_enter=percent,
        stress_leave=percent,
    )


def rules() -> st.SearchStrategy[Rules]:
    """Rules of any content: every field of each setting is drawn."""
    return st.builds(
        Rules,
        policy=policy_refs,
        mode=st.sampled_from(Mode),
        access=st.builds(
            Access,
            my_networks=tables(),
            reject_action=st.sampled_from(Action),
            rules=st.lists(st.builds(AccessRule, st.text(max_size=20), tables()), max_size=3).map(tuple),
        ),
        pregreet=st.builds(Pregreet, st.sampled_from(Action), _seconds, _optional_text, _seconds),
        upstream=st.none() | st.builds(Upstream, st.text(max_size=20), st.sampled_from(Handoff)),
        proxy_trusted=tables(),
        proxy_timeout=_seconds,
        hostname=_optional_text,
        log_format=st.sampled_from(LogFormat),
        stress_wait=st.none() | _seconds,
        pass_addresses=st.none() | tables(),
        dnsbl=dnsbls(),
        protocol=protocols(),
        session=sessions(),
        limits=limits(),
        cache=st.builds(Cache, _seconds, st.integers(0, 32), st.integers(0, 128)),
        exempt_recipients=_words,
    )
