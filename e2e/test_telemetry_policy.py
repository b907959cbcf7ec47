"""`telemetry.sampling` and `telemetry.envelopeAddresses` of a real policy, with real connections, in every signal and format."""

import hashlib
import hmac
import json
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import Message
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.mail_sink import MailSink
from harness.sidecar import Sidecar, up
from harness.smtp import Client
from loopback_ports import free_ports
from prometheus_client.parser import text_string_to_metric_families
from telemetry.collector import Collector, grpc_collector, plain

REFUSED, TALKER, FRIEND = "127.66.6.6", "127.66.8.8", "127.0.9.9"

DROPS = 200
"""Connections of which a share is sampled. Of a tenth, 20 are expected; fewer than 3 or more than 50 come once in 10 million runs."""


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture
def collector() -> Iterator[Collector]:
    with grpc_collector() as found:
        yield found


def policy(telemetry: str, *, reject_action: str = "Enforce") -> str:
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall, namespace: mail}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rejectAction: {reject_action}, rules: [{{action: Reject, cidrs: [{REFUSED}]}}]}}
  pregreet: {{wait: 300ms, banner: mail.example.org ESMTP}}
  limits: {{connectionsPerClient: 0}}
  telemetry: {telemetry}
"""


def logged(sidecar: Sidecar) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sidecar.log() if line.startswith("{")]


def prometheus(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        page: bytes = answer.read()
    return page


def by_verdict(page: bytes) -> dict[str, float]:
    return {
        sample.labels["postwarden_verdict"]: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "postwarden_connections_total" and sample.value
    }


@pytest.mark.parametrize(("percent", "least", "most"), [(0, 0, 0), (10, 3, 50), (100, DROPS, DROPS)])
def test_a_share_of_connections_is_traced_and_all_are_counted(
    sink: MailSink, collector: Collector, percent: int, least: int, most: int
) -> None:
    sampling = (
        f"{{sampling: [{{verdict: dropped, percent: {percent}, maxPerSecond: 10000}}, "
        f"{{verdict: pass_new, percent: {100 - percent}, maxPerSecond: 10000}}]}}"
    )
    (port,) = free_ports(1)
    with up(
        policy(sampling, reject_action="Drop"),
        *(f"--otlp-endpoint={collector.url}", f"--metrics=127.0.0.1:{port}"),
        upstream=sink.address,
        handoff="plain",
        log_format=None,
    ) as sidecar:
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 ")
        for _ in range(DROPS):
            assert first_reply(sidecar.address, REFUSED).startswith("521")
        sidecar.wait_for_log('"postwarden.verdict":"dropped"', DROPS)
        page = prometheus(port)
        assert sidecar.stop() == 0
        lines = logged(sidecar)
    counted = {"dropped": DROPS, "pass_new": 1}
    assert by_verdict(page) == counted
    points = collector.latest_metrics()["postwarden.connections"].sum.data_points
    assert {plain(p.attributes)["postwarden.verdict"]: p.as_int for p in points if p.as_int} == counted
    assert Counter(line["postwarden.verdict"] for line in lines) == counted

    roots = {
        span.trace_id.hex(): plain(span.attributes)
        for span in collector.spans()
        if span.name == "smtp.screen"
    }
    verdicts = Counter(said["postwarden.verdict"] for said in roots.values())
    assert least <= verdicts["dropped"] <= most
    assert verdicts["pass_new"] == 1 or percent > 0
    assert {line["trace_id"] for line in lines if "trace_id" in line} == roots.keys()
    # Log records: of all that is not dropped, and of what is sampled.
    records = collector.log_records()
    assert Counter(plain(each.attributes)["postwarden.verdict"] for each in records) == {
        "pass_new": 1,
        **({"dropped": verdicts["dropped"]} if verdicts["dropped"] else {}),
    }
    assert {each.trace_id.hex() for each in records if each.trace_id} == roots.keys()


HELO, SENDER, RECIPIENT = "who.am-i.test", "Secret.Sender@who.am-i.test", "secret.victim@example.org"
SAID = ("who.am-i", "ecret.", "ecret.victim", "%77ho.am-i")
"""Of these nothing may be shown; case aside."""


def hostile(sidecar: Sidecar) -> None:
    """Addresses in every place where a client can put them."""
    ended = suppress(EOFError, ConnectionError)  # in the middle of what it says
    with ended, Client(sidecar.host, sidecar.port, source=REFUSED) as client:
        client.reply()
        for line in (
            f"EHLO {HELO}",
            f"MAIL FROM:<{SENDER}> BODY=8BITMIME",
            f"RCPT TO:<{RECIPIENT}>",
            f"RCPT TO:<{RECIPIENT}> {SENDER}",
            f"VRFY {RECIPIENT}",
            f"X-{SENDER} {RECIPIENT}",
            "DATA",
            f"MAIL FROM:<{RECIPIENT}>\0",
            "QUIT",
        ):
            client.send(line.encode() + b"\r\n")
            client.reply()
    with ended, Client(sidecar.host, sidecar.port, source=TALKER) as client:
        client.send(f"EHLO {HELO}\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\n".encode())
        client.reply()
    assert last_reply_to_mail(sidecar.address, FRIEND, recipient=RECIPIENT).startswith("250 ")


FORMATS = {
    "JSON": r'"postwarden.verdict"',
    "Postscreen": r"DISCONNECT|PASS NEW",
    "PostscreenLegacy": r"DISCONNECT|PASS NEW",
}


@pytest.mark.parametrize("log_format", [*FORMATS, "pretty"])
@pytest.mark.parametrize("shown", ["Full", "Hashed", "Omitted"])
def test_addresses_are_shown_hashed_or_omitted_in_every_signal_as_the_policy_says(
    sink: MailSink, collector: Collector, shown: str, log_format: str
) -> None:
    telemetry = (
        f"{{envelopeAddresses: {shown}{f', logFormat: {log_format}' if log_format in FORMATS else ''}}}"
    )
    (port,) = free_ports(1)
    with up(
        policy(telemetry),
        *(f"--otlp-endpoint={collector.url}", f"--metrics=127.0.0.1:{port}"),
        upstream=sink.address,
        handoff="plain",
        log_format=None if log_format in FORMATS else log_format,
    ) as sidecar:
        hostile(sidecar)
        sidecar.wait_for_log(FORMATS.get(log_format, r"rejected|pass_new"), 2)
        page = prometheus(port)
        assert sidecar.stop() == 0
        log = sidecar.log_text()
    received: dict[str, Sequence[Message]] = {
        "traces": collector.traces,
        "metrics": collector.metrics,
        "logs": collector.logs,
    }
    places = {name: b"".join(each.SerializeToString() for each in got) for name, got in received.items()}
    assert all(places.values())
    places |= {"log": log.encode(), "prometheus": page}
    seen = {
        place
        for place, content in places.items()
        if any(word.encode() in content.lower() for word in map(str.lower, SAID))
    }
    lists_addresses = log_format != "pretty"
    assert seen == (
        {"traces", "logs"} | ({"log"} if lists_addresses else set()) if shown == "Full" else set()
    )

    (root,) = [
        plain(span.attributes)
        for span in collector.spans()
        if span.name == "smtp.screen" and plain(span.attributes)["client.address"] == REFUSED
    ]
    told = [root.get(f"postwarden.{key}") for key in ("helo", "sender", "recipient")]
    expected: dict[str, list[str | None]] = {
        "Full": [HELO, SENDER, RECIPIENT],
        "Hashed": [hashed(text) for text in (HELO, SENDER, RECIPIENT)],
        "Omitted": [None, None, None],
    }
    assert told == expected[shown]
    if log_format.startswith("Postscreen"):
        sender, recipient, helo = (text or "" for text in (told[1], told[2], told[0]))
        assert f"from=<{sender}>, to=<{recipient}>, proto=ESMTP, helo=<{helo}>" in log


def hashed(text: str) -> str:
    return hmac.new(b"mail/wall", text.lower().encode(), hashlib.sha256).hexdigest()[:16]
