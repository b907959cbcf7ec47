"""Clients that try to write to terminals, logs and collectors: every signal of a real sidecar stays one bounded line, or valid protobuf, a
record; live on a terminal, too.
"""

import json
import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from harness.mail_sink import MailSink
from harness.polling import poll
from harness.sidecar import Sidecar, clean_environment, executable, up
from harness.smtp import Client
from hostile_strategies import HOSTILE
from loopback_ports import free_ports
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from telemetry.collector import Collector, grpc_collector, plain

DENIED = "127.66.6.6"
MANY_RECIPIENTS = 10_000
LONGEST_LINE = 16 * 1024  # bytes: container runtimes cut longer lines in two
EXPORTED = 15.0
"""Seconds until all has come to the receiver; 2 s is usual."""

POLICY = f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rules: [{{action: Reject, cidrs: [{DENIED}]}}]}}
  pregreet: {{banner: ""}}
  protocol: {{nonSMTPCommand: {{action: Enforce}}}}
  session: {{commandCountLimit: 1000}}
  telemetry:
    sampling: [{{verdict: rejected, percent: 100, maxPerSecond: 1000}}]
"""

FORMATS = {
    "json": rb'^\{"time"',
    "pretty": rb"^\d\d:\d\d:\d\d  [a-z]",
    "postscreen": rb"^[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d \S+ postfix/postscreen\[\d+\]: [A-Z]",
    "postscreen-legacy": rb"^[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d \S+ postfix/postscreen\[\d+\]: [A-Z]",
}


@dataclass
class Watched:
    """What watchers of a sidecar's verdicts saw. piped, terminal: all bytes of `postwarden tail`."""

    log: bytes = b""
    piped: bytes = b""
    terminal: bytes = b""
    clients: int = 0
    collector: Collector = field(default_factory=Collector)

    def attributes(self) -> Iterator[KeyValue]:
        for span in self.collector.spans():
            yield from span.attributes
            for event in span.events:
                yield from event.attributes
        for record in self.collector.log_records():
            yield from record.attributes
            yield KeyValue(key="body", value=AnyValue(string_value=record.body.string_value))


def play(sidecar: Sidecar) -> int:
    """Each kind of words in each place where a client may say something, then a mail to very many. How many clients that were."""
    for said in HOSTILE:
        one_client(
            sidecar,
            (
                b"EHLO " + said,
                b"MAIL FROM:<" + said + b"@client.example>",
                b"RCPT TO:<" + said + b"@example.org>",
                b"NOOP " + said,
                said,
                b"DATA",
            ),
        )
    recipients = (b"RCPT TO:<%05d\x1b[2J\xff@example.org>" % number for number in range(MANY_RECIPIENTS))
    one_client(sidecar, (b"EHLO x", b"MAIL FROM:<>", *recipients))
    return len(HOSTILE) + 1


def one_client(sidecar: Sidecar, lines: Iterable[bytes]) -> None:
    with Client(sidecar.host, sidecar.port, source=DENIED) as client, suppress(OSError):
        client.reply()
        client.send(b"".join(line + b"\r\n" for line in lines))
        while client.socket.recv(65536):  # it is turned away in the end, or goes by itself
            pass


@contextmanager
def on_a_terminal(arguments: list[str], seen: bytearray) -> Iterator[None]:
    """The program's screen is read into `seen` while the block lasts."""
    ours, its = pty.openpty()
    process = subprocess.Popen(arguments, stdout=its, stderr=its, env=clean_environment())
    os.close(its)

    def read() -> None:
        with suppress(OSError):  # EIO: the program has ended
            while data := os.read(ours, 65536):
                seen.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
        reader.join(10)
        os.close(ours)


@pytest.fixture(scope="module", params=FORMATS)
def watched(request: pytest.FixtureRequest) -> Iterator[tuple[str, Watched]]:
    (port,) = free_ports(1)
    tail = [str(executable("postwarden")), "tail", f"127.0.0.1:{port}"]
    with MailSink() as sink, grpc_collector() as collector:
        seen, screen = Watched(collector=collector), bytearray()
        options = (f"--admin=127.0.0.1:{port}", f"--otlp-endpoint={collector.url}")
        with up(
            POLICY, *options, upstream=sink.address, handoff="plain", log_format=request.param
        ) as sidecar:
            piped = sidecar.directory / "tail"
            with (
                on_a_terminal(tail, screen),
                piped.open("wb") as out,
                subprocess.Popen(
                    tail, stdout=out, stderr=subprocess.PIPE, env=clean_environment()
                ) as program,
            ):
                assert program.stderr is not None
                assert b"following" in program.stderr.readline()
                poll(lambda: b"following" in screen, 10, lambda: f"no tail on the terminal: {screen!r}")
                seen.clients = play(sidecar)
                poll(
                    lambda: len(collector.log_records()) >= seen.clients and verdicts(screen) >= seen.clients,
                    EXPORTED,
                    lambda: f"{len(collector.log_records())} log records, {verdicts(screen)} on the terminal",
                )
                program.terminate()
            seen.piped, seen.terminal = piped.read_bytes(), bytes(screen)
            assert sidecar.stop() == 0
            seen.log = (sidecar.directory / "stderr").read_bytes()
        yield request.param, seen


def verdicts(screen: bytes | bytearray) -> int:
    return bytes(screen).count(b"rejected ")


def is_one_line(line: bytes) -> bool:
    """UTF-8 that a terminal shows as it is, of bounded length."""
    return line.decode().isprintable() and len(line) <= LONGEST_LINE


def test_a_log_has_whole_lines_of_ours_only(watched: tuple[str, Watched]) -> None:
    log_format, seen = watched
    lines = seen.log.rstrip(b"\n").split(b"\n")
    assert all(map(is_one_line, lines))
    of_clients = [line for line in lines if not line.startswith(b"postwarden: ")]
    assert all(re.match(FORMATS[log_format], line) for line in of_clients), of_clients
    if log_format == "json":
        assert all(json.loads(line)["client.address"] == DENIED for line in of_clients)
    elif log_format != "pretty":
        of_clients = [line for line in of_clients if re.search(rb"\]: CONNECT from ", line)]
    assert len(of_clients) == seen.clients


def test_tail_shows_a_line_a_client_and_no_terminal_sequence_but_its_colours(
    watched: tuple[str, Watched],
) -> None:
    _, seen = watched
    lines = seen.piped.splitlines()
    assert len(lines) == seen.clients
    assert all(is_one_line(line) and json.loads(line)["postwarden.verdict"] == "rejected" for line in lines)
    shown = seen.terminal.decode().replace("\r\n", "\n").split("\n")
    of_clients = [line for line in shown if "rejected " in line]
    assert len(of_clients) == seen.clients
    for line in of_clients:
        plain_line = re.sub(r"\x1b\[(31|0)m", "", line)
        assert line.count("\x1b") == 2
        assert plain_line.isprintable()


def test_spans_and_log_records_are_valid_and_bounded(watched: tuple[str, Watched]) -> None:
    _, seen = watched
    roots = [span for span in seen.collector.spans() if span.name == "smtp.screen"]
    assert len(roots) == len(seen.collector.log_records()) == seen.clients
    for attribute in seen.attributes():
        assert attribute.value.string_value.isprintable(), attribute
        assert len(attribute.value.string_value) <= 4000
    (very_many,) = (span for span in roots if plain(span.attributes).get("postwarden.helo") == "x")
    assert len(very_many.events) <= 12
