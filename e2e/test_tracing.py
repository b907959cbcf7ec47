"""Why was this sender turned away at 10:42? A rejected and a passed mail, found in a real Jaeger by what its user knows."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.documented import documented_search
from harness.jaeger import FoundSpan, FoundTrace, Jaeger
from harness.late_resolver import late
from harness.postfix import Postfix
from harness.rbldnsd import Rbldnsd
from harness.sidecar import Sidecar, up
from harness.smtp import Client

ZOMBIE, FRIEND = "127.66.6.6", "127.0.9.9"
SPAMMER, ALICE = "spammer@client.example", "alice@client.example"
VICTIM, BOB = "victim@example.org", "bob@example.org"
ZONES = ("one.bl.test", "two.bl.test", "three.bl.test")

LOOKUP_TIME = 0.3
"""Seconds that each answer of the lists takes: long beside all else that happens, so that one after the other would be seen."""

WAIT = 1.0
"""Seconds of the greeting test."""

TALK = 0.5
"""Seconds that the passed client goes on talking with Postfix."""

CLOCK = 0.002
"""Seconds by which moments may differ that different clocks tell, or that Jaeger has rounded."""

BUSY = 0.1
"""Seconds that the sidecar may wait for a core, after what it wrote has reached the client and before it looks at its clock: 5 ms were
seen."""

POLICY = """
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: traced}}
spec:
  selector: {{}}
  access: {{myNetworks: []}}
  pregreet: {{banner: "mail.example.org ESMTP", wait: {wait:g}s}}
  dnsbl:
    threshold: 2
    resolvers: ["{resolver}"]
    timeout: 3s
    sites: [{sites}]
"""


@dataclass(frozen=True)
class Mail:
    """client: HOST:PORT of whoever sent it. begin, decided, end: epoch seconds: it connected, had the reply that decided, was gone."""

    port: int
    begin: float
    decided: float
    end: float


@dataclass(frozen=True)
class Sent:
    """The two mails, and the sidecar that they were sent to."""

    sidecar: Sidecar
    rejected: Mail
    passed: Mail


def send(sidecar: Sidecar, source: str, sender: str, recipient: str, code: int) -> Mail:
    """One mail, of which the recipient gets that code."""
    begin = time.time()
    with Client(sidecar.host, sidecar.port, source=source) as client:
        client.greeted()
        client.expect(f"MAIL FROM:<{sender}>", 250)
        client.expect(f"RCPT TO:<{recipient}>", code)
        decided = time.time()
        if code == 250:
            time.sleep(TALK)
            client.expect("DATA", 354)
            client.expect("Subject: hello\r\n\r\nDear Bob\r\n.", 250)
        client.expect("QUIT", 221)
        return Mail(client.port, begin, decided, time.time())


@pytest.fixture(scope="module")
def sent(jaeger: Jaeger, postfix_root: Path) -> Iterator[Sent]:
    """The zombie is in two lists of three, the friend in none."""
    listed = {zone: [ZOMBIE] if zone != ZONES[2] else [] for zone in ZONES}
    with (
        Rbldnsd(listed) as lists,
        late(lists, LOOKUP_TIME) as resolver,
        Postfix(postfix_root, handoff="proxy") as postfix,
    ):
        sites = ", ".join(f"{{zone: {zone}}}" for zone in ZONES)
        policy = POLICY.format(wait=WAIT, resolver=resolver, sites=sites)
        otlp = f"--otlp-endpoint={jaeger.grpc_url}"
        with up(policy, otlp, upstream=postfix.address, handoff="proxy-v2", log_format="json") as sidecar:
            rejected = send(sidecar, ZOMBIE, SPAMMER, VICTIM, 550)
            passed = send(sidecar, FRIEND, ALICE, BOB, 250)
            postfix.wait_for_mail("bob")
            yield Sent(sidecar, rejected, passed)


def search(jaeger: Jaeger, known: str, **tags: str) -> FoundTrace:
    """By a documented search; tags: the values in place of the documented ones (dots written as `__`)."""
    found = documented_search(known, {key.replace("__", "."): value for key, value in tags.items()})
    return jaeger.wait_for(*found)


def of_client(jaeger: Jaeger, mail: Mail) -> FoundTrace:
    """Its trace, by what no other connection has."""
    return jaeger.wait_for("postwarden-sidecar", "smtp.screen", {"client.port": str(mail.port)})


def within(inner: FoundSpan, outer: FoundSpan) -> bool:
    return outer.start - CLOCK <= inner.start <= inner.end <= outer.end + CLOCK


def length(span: FoundSpan) -> float:
    return span.end - span.start


def test_the_rejected_mail_is_found_by_client_verdict_recipient_sender_and_test(
    sent: Sent, jaeger: Jaeger
) -> None:
    wanted = of_client(jaeger, sent.rejected).id
    assert search(jaeger, "the client's address", client__address=ZOMBIE).id == wanted
    assert search(jaeger, "… and that it was refused", client__address=ZOMBIE).id == wanted
    assert search(jaeger, "the recipient", postwarden__recipient=VICTIM).id == wanted
    assert search(jaeger, "the sender", postwarden__sender=SPAMMER).id == wanted
    assert search(jaeger, "the test that caught it", postwarden__test="dnsbl").id == wanted
    assert search(jaeger, "the list that it was in", postwarden__dnsbl__zone=ZONES[0]).id == wanted


def test_the_passed_mail_is_found_by_client_verdict_and_recipient(sent: Sent, jaeger: Jaeger) -> None:
    wanted = of_client(jaeger, sent.passed).id
    assert search(jaeger, "the client's address", client__address=FRIEND).id == wanted
    assert search(jaeger, "the recipient", postwarden__recipient=BOB).id == wanted
    passed = {"client.address": FRIEND, "postwarden.verdict": "pass_new"}
    assert jaeger.wait_for("postwarden-sidecar", "smtp.screen", passed).id == wanted
    refused = {"client.address": FRIEND, "postwarden.verdict": "rejected"}
    assert jaeger.find("postwarden-sidecar", "smtp.screen", refused) == []


def test_a_search_by_time_finds_the_one_of_that_minute(sent: Sent, jaeger: Jaeger) -> None:
    by_address = documented_search("the client's address", {"client.address": ZOMBIE})
    found = of_client(jaeger, sent.rejected)
    began, gone = sent.rejected.begin - CLOCK, sent.rejected.end
    assert [each.id for each in jaeger.find(*by_address, since=began, until=gone)] == [found.id]
    assert jaeger.find(*by_address, since=gone, until=gone + 60) == []
    assert jaeger.find(*by_address, since=began - 60, until=began) == []


def test_the_rejected_mails_trace_says_why_with_every_look_up(sent: Sent, jaeger: Jaeger) -> None:
    trace = of_client(jaeger, sent.rejected)
    root = trace.root
    said = root.attributes
    assert root.name == "smtp.screen"
    assert said["span.kind"] == "server"
    assert (said["postwarden.verdict"], said["postwarden.test"]) == ("rejected", "dnsbl")
    assert int(said["postwarden.dnsbl.score"]) == 2
    assert ZONES[0] in said["postwarden.reason"]
    assert (said["client.address"], int(said["client.port"])) == (ZOMBIE, sent.rejected.port)
    assert (said["postwarden.sender"], said["postwarden.recipient"]) == (SPAMMER, VICTIM)
    assert said["postwarden.policy.name"] == "traced"
    assert root.resource["service.version"]
    assert "reject" in root.events
    assert {span.name for span in trace.children(root)} == {"pregreet", "dnsbl", "smtp.dialog"}

    lookups = trace.children(trace.span("dnsbl"))
    assert {each.name for each in lookups} == {"dnsbl.lookup"}
    assert {each.attributes["span.kind"] for each in lookups} == {"client"}
    outcomes = {
        each.attributes["postwarden.dnsbl.zone"]: each.attributes["postwarden.dnsbl.outcome"]
        for each in lookups
    }
    assert outcomes == {ZONES[0]: "listed", ZONES[1]: "listed", ZONES[2]: "not_listed"}


@pytest.mark.parametrize("which", ["rejected", "passed"])
def test_the_spans_times_are_what_happened(which: str, sent: Sent, jaeger: Jaeger) -> None:
    mail: Mail = getattr(sent, which)
    trace = of_client(jaeger, mail)
    root, dnsbl, pregreet = trace.root, trace.span("dnsbl"), trace.span("pregreet")
    for span in trace.spans[1:]:
        (parent,) = [each for each in trace.spans if each.id == span.parent]
        assert within(span, parent)
    # Look-ups that ran side by side look so: the last began before the first was over.
    lookups = trace.children(dnsbl)
    assert max(each.start for each in lookups) < min(each.end for each in lookups)
    assert all(LOOKUP_TIME <= length(each) + CLOCK < 2 * LOOKUP_TIME for each in lookups)
    assert length(dnsbl) < 2 * LOOKUP_TIME
    # They cost the client nothing: the greeting test ran meanwhile, and lasts as long as the policy says.
    assert within(dnsbl, pregreet)
    assert WAIT <= length(pregreet) + CLOCK < WAIT + LOOKUP_TIME
    assert trace.span("smtp.dialog").start >= pregreet.end - CLOCK
    # From when the client connected to the verdict or hand-off, and no longer.
    assert mail.begin - CLOCK <= root.start < mail.begin + LOOKUP_TIME
    assert root.end <= (mail.decided if which == "passed" else mail.end) + BUSY


def test_the_passed_mails_trace_ends_with_the_hand_off(sent: Sent, jaeger: Jaeger) -> None:
    trace = of_client(jaeger, sent.passed)
    handoff = trace.span("handoff")
    assert {span.name for span in trace.children(trace.root)} == {
        "pregreet",
        "dnsbl",
        "smtp.dialog",
        "handoff",
    }
    assert handoff.attributes["postwarden.handoff"] == "ProxyV2"
    assert trace.root.end == pytest.approx(handoff.end, abs=CLOCK)
    assert handoff.start >= trace.span("smtp.dialog").start
    assert sent.passed.end - trace.root.end > TALK - CLOCK  # its talk with Postfix is no part of it


def test_a_log_line_leads_to_its_trace(sent: Sent, jaeger: Jaeger) -> None:
    (line,) = sent.sidecar.wait_for_log(f'"client.port":{sent.rejected.port},')
    assert f'"trace_id":"{of_client(jaeger, sent.rejected).id}"' in line


def test_a_backend_of_traces_alone_is_warned_of_once(sent: Sent, jaeger: Jaeger) -> None:
    (warning,) = sent.sidecar.wait_for_log("does not take")
    assert re.search(r"does not take (logs|metrics)", warning)
    assert not [line for line in sent.sidecar.log() if "works again" in line]


def test_a_passed_clients_trace_is_there_while_it_still_talks_with_its_mail_server(
    sent: Sent, jaeger: Jaeger
) -> None:
    with Client(sent.sidecar.host, sent.sidecar.port, source=FRIEND) as client:
        client.greeted()
        known = {"client.port": str(client.port), "postwarden.verdict": "pass_old"}
        trace = jaeger.wait_for("postwarden-sidecar", "smtp.screen", known)
        assert trace.children(trace.root)[-1].name == "handoff"
        client.expect("QUIT", 221)
