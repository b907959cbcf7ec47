"""Writes the first inputs of the corpus: what clients say in the recorded cases (tests/data), and samples of headers, DNS replies and words
of MTAs. Finds and what a long run kept are added by hand beside them; `python fuzz/seed.py` leaves those alone."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import dns.message  # noqa: E402  (behind the path)
import dns.rcode  # noqa: E402
import dns.rrset  # noqa: E402
from fuzz_targets import dns_reply, engine, engine_settings  # noqa: E402
from fuzz_targets.choices import Writer  # noqa: E402

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BODY = (
    ipaddress.IPv4Address("203.0.113.5").packed
    + ipaddress.IPv4Address("198.51.100.25").packed
    + struct.pack("!HH", 4001, 25)
)
GREETING, OFFER, OK = (
    b"220 mta.example ESMTP\r\n",
    b"250-mta.example\r\n250-SIZE 1\r\n250 STARTTLS\r\n",
    b"250 2.1.0 Ok\r\n",
)


def main() -> None:
    """Write what is not there."""
    for target, inputs in (
        ("engine", (*engine_seeds(), *exempt_seeds())),
        ("proxy_header", header_seeds()),
        ("dns_reply", dns_seeds()),
        ("mta_replies", mta_seeds()),
    ):
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]).write_bytes(data)


def engine_seeds() -> Iterator[bytes]:
    """Each different course of a recorded session, under settings that let it come far."""
    cases: list[dict[str, Any]] = json.loads((HERE.parent / "tests/data/postscreen-cases.json").read_text())[
        "cases"
    ]
    seen = set()
    for number, case in enumerate(cases):
        writer = Writer()
        settings = bytearray(engine_settings.SETTINGS)
        # In turn, so that the seeds differ in more than words.
        settings[(engine_settings.BANNER, engine_settings.DNSBL, engine_settings.REJECT)[number % 3]] = 1
        writer.data = bytes(settings)
        for step in case["steps"]:
            if step["op"] == "send":
                for text, times in step.get("parts", [[step.get("data", ""), 1]]):
                    writer.byte(engine.SAY)
                    writer.chunk(text.encode("latin-1") * times)
            elif step["op"] == "wait":
                writer.byte(engine.WAIT)
                writer.byte(2)
            elif step["op"] == "read":
                writer.byte(engine.PASS)
                writer.byte(0)
                writer.byte(engine.TIMER)
            elif step["op"] in ("half_close", "close"):
                writer.byte(engine.END)
            elif step["op"] == "reset":
                writer.byte(engine.RESET)
        if writer.data not in seen and len(writer.data) < 300:
            seen.add(writer.data)
            yield writer.data
    for line in range(len(engine.LINES)):
        opening = bytes(engine_settings.SETTINGS) + bytes((engine.PASS, 0, engine.TIMER, engine.PASS, 0))
        dialogue = bytes(
            (engine.LINE, 0, engine.LINE, 2, engine.LINE, line, engine.HANDOVER, 1, engine.LINE, 3)
        )
        yield opening + dialogue


def exempt_seeds() -> Iterator[bytes]:
    """A denied client that writes to an exempt recipient, in different ways on to the end of its mail."""
    settings = bytearray(engine_settings.SETTINGS)
    settings[engine_settings.EXEMPTING], settings[engine_settings.REJECT] = 16, 1
    opening = bytes(settings) + bytes((engine.TIMER,))
    for taken in (0, 2, 4):
        for data in (6, 7, 1):
            for last in (engine.LINE, engine.END):
                mail = (engine.LINE, 0, engine.LINE, 2, engine.LINE, 3, engine.HANDOVER, taken)
                yield opening + bytes((*mail, engine.LINE, 4, engine.HANDOVER, data, last, 5))


def header_seeds() -> Iterator[bytes]:
    """Headers of both versions, good and bad, with talk behind."""

    def v2(command: int, family: int, body: bytes) -> bytes:
        return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body

    for header in (
        b"PROXY TCP4 203.0.113.5 198.51.100.25 4001 25\r\n",
        b"PROXY TCP6 2001:db8::1 2001:db8::25 4001 25\r\n",
        b"PROXY TCP6 ::ffff:203.0.113.5 ::ffff:198.51.100.25 4001 25\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY " + b"x" * 110,
        v2(0x21, 0x11, BODY),
        v2(0x21, 0x21, bytes(32) + BODY[8:]),
        v2(0x21, 0x11, BODY + b"\x04\0\x03abc\x20\0\x05\0\0\0\0\0\xea\0\x02ok"),
        v2(0x20, 0, b""),
        v2(0x21, 0x11, BODY)[:20],
        SIGNATURE + b"\x21\x11\xff\xff" + BODY,
    ):
        for cuts in (b"\0", b"\x02\x05\x0e"):
            yield cuts + header + b"EHLO x\r\n"


def dns_seeds() -> Iterator[bytes]:
    """Replies to both questions, as a resolver sends them."""
    for kind, asked in enumerate(dns_reply.ASKED):
        query = dns.message.from_wire(
            struct.pack("!HHHHHH", dns_reply.IDENTIFIER, 0x0100, 1, 0, 0, 0) + asked
        )
        name = query.question[0].name
        soa = dns.rrset.from_text(name.parent(), 60, "IN", "SOA", "ns.example. root.example. 1 2 3 4 30")
        for answers, authority, code in (
            ([dns.rrset.from_text(name, 60, "IN", "A", "127.0.0.2", "127.0.0.3")], [], 0),
            (
                [
                    dns.rrset.from_text(name, 60, "IN", "CNAME", "x.example."),
                    dns.rrset.from_text("x.example.", 5, "IN", "A", "127.0.0.2"),
                ],
                [],
                0,
            ),
            ([dns.rrset.from_text(name, 60, "IN", "TXT", '"listed"')], [], 0),
            ([], [soa], 3),
            ([], [], 2),
        ):
            reply = dns.message.make_response(query)
            reply.answer, reply.authority = answers, authority
            reply.set_rcode(dns.rcode.Rcode(code))
            wire = reply.to_wire()
            yield bytes((kind,)) + wire
            yield bytes((kind | 2, 0, 0, len(answers), len(authority))) + wire[12 + len(asked) :]


def mta_seeds() -> Iterator[bytes]:
    """An MTA's words for each reader."""
    scripts = (
        (GREETING, OFFER, OK, OK),
        (GREETING, OFFER, b"550-5.7.1 no\r\n550 5.7.1 never\r\n", OK),
        (GREETING, OFFER, b"555 5.5.4 no such parameter\r\n"),
        (GREETING, OFFER, b"220 2.0.0 Ready\r\n"),
        (GREETING, OFFER, b"454 4.7.0 no TLS\r\n", OK, OK),
        (GREETING + b"421 4.3.2 bye\r\n",),
        (b"421 4.3.2 bye\r\n",),
        (b"500 5.5.2 what\r\n",),
        (b"SSH-2.0-x\r\n",),
        (GREETING, b"250-x\r\n550 y\r\n"),
        (GREETING, OFFER, OK + OK),
        (GREETING, OFFER, OK, b"250 2.1.5 Ok\r\n", OK, b"221 bye\r\n"),
    )
    for script in scripts:
        for request in (0, 2, 5):
            writer = Writer()
            writer.byte(2)
            writer.byte(request)
            writer.byte(0)
            for piece in script:
                writer.byte(0)
                writer.chunk(piece)
            yield writer.data
        for reader, opening in ((0, b"\0\0"), (3, b"\0\0\0"), (3, b"\1\0\1")):
            writer = Writer()
            writer.byte(reader)
            writer.data += opening
            for piece in script:
                writer.chunk(piece)
            yield writer.data
        writer = Writer()
        writer.byte(1)
        for piece, said in zip(
            script, (b"EHLO c.example\r\nMAIL", b"NOOP\r\n", b"x" * 10, b""), strict=False
        ):
            writer.byte(1)
            writer.chunk(piece)
            writer.byte(0)
            writer.chunk(said)
        yield writer.data


if __name__ == "__main__":
    main()
