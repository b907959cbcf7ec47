"""`postwarden up` and what a real OTLP receiver gets of it: traces of edits, and of connections with their look-ups, errors and proxies."""

import base64
import socket
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from dnsbl.name_server import NameServer, Zone
from google.protobuf.message import Message
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.mail_sink import MailSink
from harness.metrics_page import samples
from harness.polling import poll
from harness.sidecar import Sidecar, up
from harness.usage import resident
from loopback_ports import free_ports
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from telemetry.collector import Collector, grpc_collector, http_collector, plain

EXPORT_TIMEOUT = 20.0
"""Seconds until a span is at the receiver, or given up: they are sent in batches of one second, with further attempts."""

LISTED, FRIEND, BALANCER, REFUSED = "127.66.6.6", "127.0.9.9", "127.0.3.1", "127.67.6.6"
KEY = "sk3k3yk3y"
KEYED, SLOW, SILENT = "{key}.bl.test", "slow.test", "silent.test"
DELAY = 0.3
"""Seconds that each of two lists takes to answer."""


def policy(*, wait: str = "100ms", reject: str = "Enforce", more: str = "") -> str:
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: wall}}
spec:
  selector: {{}}
  access: {{myNetworks: [], rejectAction: {reject}, rules: [{{action: Reject, cidrs: [{REFUSED}]}}]}}
  pregreet: {{wait: {wait}, banner: mail.example.org ESMTP}}
  listener: {{proxyProtocol: {{trusted: [{BALANCER}]}}}}
{more}
"""


def asking(resolver: str, zones: list[str]) -> str:
    """Of `policy`'s more: these lists; three listings would make a client fail."""
    key_from = "keyFrom: {secretKeyRef: {name: lists, key: bl}}"
    sites = [
        f'{{zone: "{zone}", label: {zone.removeprefix("{key}.")}{", " + key_from if "{key}" in zone else ""}}}'
        for zone in zones
    ]
    return f"""
  dnsbl: {{resolvers: ["{resolver}"], timeout: 1s, threshold: 3, sites: [{", ".join(sites)}]}}
---
apiVersion: v1
kind: Secret
metadata:
  name: lists
  labels: {{postwarden.dev/watch: "true"}}
  annotations: {{postwarden.dev/used-for: bl.test}}
data: {{bl: {base64.b64encode(KEY.encode()).decode()}}}
"""


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture(params=["grpc", "http/protobuf"])
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with grpc_collector() if request.param == "grpc" else http_collector() as found:
        yield found


def named(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.spans() if span.name == name]


def test_an_edit_is_one_trace_from_the_file_to_the_workers(sink: MailSink, collector: Collector) -> None:
    with up(policy(), f"--otlp-endpoint={collector.url}", upstream=sink.address, handoff="plain") as sidecar:
        sidecar.edit(policy(wait="200ms"))
        (applied,) = poll(lambda: named(collector, "policy.apply"), EXPORT_TIMEOUT, lambda: "no policy.apply")
        (root,) = poll(lambda: named(collector, "policy.change"), EXPORT_TIMEOUT, lambda: "no policy.change")
        (push,) = poll(lambda: named(collector, "push"), EXPORT_TIMEOUT, lambda: "no push")
        assert (root.trace_id, push.trace_id, push.parent_span_id) == (applied.trace_id,) * 2 + (
            root.span_id,
        )
        assert applied.parent_span_id == push.span_id
        assert {span.name for span in collector.spans() if span.trace_id == root.trace_id} == {
            *("policy.change", "reconcile", "compile", "push", "policy.apply")
        }
        assert plain(root.attributes)["postwarden.policy.name"] == "wall"
    services = {each["service.name"] for each in collector.resources()}
    assert services == {"postwarden-operator", "postwarden-sidecar"}


def root_of(collector: Collector, address: str) -> Span:
    """The connection's span. Raises TimeoutError."""
    return poll(
        lambda: next(
            (s for s in named(collector, "smtp.screen") if plain(s.attributes)["client.address"] == address),
            None,
        ),
        EXPORT_TIMEOUT,
        lambda: f"no trace of {address}",
    )


def children(collector: Collector, parent: Span) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in collector.spans():
        if (span.trace_id, span.parent_span_id) == (parent.trace_id, parent.span_id):
            found.setdefault(span.name, []).append(span)
    return found


def seconds(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def everything(sidecar: Sidecar, collector: Collector, prometheus: bytes) -> dict[str, bytes]:
    """All that can be read of a run, by where."""
    received: dict[str, Sequence[Message]] = {
        "traces": collector.traces,
        "metrics": collector.metrics,
        "logs": collector.logs,
    }
    assert all(received.values())
    files = {
        str(path): path.read_bytes()
        for path in sidecar.directory.rglob("*")
        if path.is_file() and path != sidecar.policy_file
    }
    exported = {name: b"".join(each.SerializeToString() for each in got) for name, got in received.items()}
    return {**files, **exported, "prometheus": prometheus}


@pytest.fixture
def lists() -> Iterator[NameServer]:
    listed = {"6.6.66.127": ["127.0.0.2"], "2.0.0.127": ["127.0.0.2"]}
    zones = {
        KEYED.replace("{key}", KEY): Zone(listed, delay=DELAY),
        SLOW: Zone(listed, delay=DELAY),
        SILENT: Zone(mode="silent"),
    }
    with NameServer(zones) as server:
        yield server


@pytest.mark.parametrize("log_format", ["json", "postscreen"])
def test_look_ups_are_side_by_side_in_a_trace_and_counted_by_zone_and_their_key_is_nowhere(
    log_format: str, sink: MailSink, collector: Collector, lists: NameServer, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    with up(
        policy(wait="1500ms", more=asking(lists.target, [KEYED, SLOW, SILENT])),
        *(f"--otlp-endpoint={collector.url}", f"--metrics=127.0.0.1:{port}", f"--state-dir={tmp_path}"),
        upstream=sink.address,
        handoff="plain",
        log_format=log_format,
    ) as sidecar:
        assert last_reply_to_mail(sidecar.address, LISTED).startswith("250 ")
        root = root_of(collector, LISTED)
        below = children(collector, root)
        assert set(below) == {"pregreet", "dnsbl", "smtp.dialog", "handoff"}
        (dnsbl,), (pregreet,) = below["dnsbl"], below["pregreet"]
        assert plain(dnsbl.attributes) == {
            "postwarden.test": "dnsbl",
            "postwarden.outcome": "pass",
            "postwarden.dnsbl.score": 2,
        }
        assert plain(root.attributes)["postwarden.dnsbl.score"] == 2
        look_ups = {
            str(plain(span.attributes)["postwarden.dnsbl.zone"]): span
            for span in children(collector, dnsbl)["dnsbl.lookup"]
        }
        assert {
            zone: plain(span.attributes)["postwarden.dnsbl.outcome"] for zone, span in look_ups.items()
        } == {
            KEYED: "listed",
            SLOW: "listed",
            SILENT: "timeout",
        }
        assert all(span.kind == span.SPAN_KIND_CLIENT for span in look_ups.values())
        assert all("dns.question.name" not in plain(span.attributes) for span in collector.spans())
        assert max(span.start_time_unix_nano for span in look_ups.values()) < min(
            span.end_time_unix_nano for span in look_ups.values()
        ), "they ran in parallel"
        for zone in (KEYED, SLOW):
            assert DELAY <= seconds(look_ups[zone]) < 0.9
        assert 0.9 < seconds(look_ups[SILENT]) < 1.5
        assert dnsbl.start_time_unix_nano < pregreet.end_time_unix_nano, "the lists are asked during the wait"
        assert pregreet.start_time_unix_nano < dnsbl.end_time_unix_nano
        for span in (dnsbl, pregreet, *look_ups.values()):
            assert root.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= root.end_time_unix_nano
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            prometheus = answer.read()
        assert sidecar.stop() == 0
        counted = {
            (
                plain(point.attributes)["postwarden.dnsbl.zone"],
                plain(point.attributes)["postwarden.dnsbl.outcome"],
            ): point.count
            for point in collector.latest_metrics()["postwarden.dnsbl.lookup.duration"].histogram.data_points
            if point.count
        }
        assert counted == {(KEYED, "listed"): 1, (SLOW, "listed"): 1, (SILENT, "timeout"): 1}
        places = everything(sidecar, collector, prometheus) | {
            str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        }
    assert all(KEYED.encode() in places[name] for name in ("traces", "metrics", "prometheus"))
    assert [place for place, content in places.items() if KEY.encode() in content] == []


def test_counts_of_a_zone_go_on_when_policies_drop_it_and_take_it_up_again(
    sink: MailSink, lists: NameServer
) -> None:
    def counted() -> dict[str, float]:
        return {
            sample.labels["postwarden_dnsbl_zone"]: sample.value
            for sample in samples(port)
            if sample.name == "postwarden_dnsbl_lookup_duration_seconds_count" and sample.value
        }

    (port,) = free_ports(1)
    turns = [[SLOW], [KEYED], [KEYED, SLOW]]
    with up(
        policy(wait="1s", more=asking(lists.target, turns[0])),
        f"--metrics=127.0.0.1:{port}",
        upstream=sink.address,
        handoff="plain",
    ) as sidecar:
        expected: Counter[str] = Counter()
        for number, zones in enumerate(turns):
            if number:
                sidecar.edit(policy(wait="1s", more=asking(lists.target, zones)))
            assert last_reply_to_mail(sidecar.address, f"127.0.9.{number + 1}").startswith("250 ")
            expected.update(zones)
            assert counted() == expected


def test_a_proxys_client_is_the_client_and_only_a_fault_of_ours_is_an_error(sink: MailSink) -> None:
    """Under Observe, so that what Enforce would have done is told, too."""
    with (
        grpc_collector() as collector,
        up(
            policy(more="  mode: Observe"),
            f"--otlp-endpoint={collector.url}",
            upstream=sink.address,
            handoff="plain",
        ) as sidecar,
    ):
        assert first_reply(sidecar.address, BALANCER, announced="203.0.113.9").startswith("220")
        assert last_reply_to_mail(sidecar.address, REFUSED).startswith("250")
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250")
        proxied = plain(root_of(collector, "203.0.113.9").attributes)
        refused, friend = (plain(root_of(collector, address).attributes) for address in (REFUSED, FRIEND))
    assert (proxied["client.port"], proxied["server.address"], proxied["server.port"]) == (
        40000,
        "192.0.2.25",
        25,
    )
    assert proxied["network.peer.address"] == BALANCER
    assert proxied["network.peer.port"] != 40000
    assert (refused["client.address"], refused["client.port"]) == (
        refused["network.peer.address"],
        refused["network.peer.port"],
    )
    assert refused["server.port"] == sidecar.port
    assert (refused["postwarden.verdict"], refused["postwarden.would"]) == ("tolerated", "rejected")
    assert (refused["postwarden.test"], refused["postwarden.action"]) == ("access", "Ignore")
    assert "postwarden.would" not in friend
    assert all("error.type" not in plain(span.attributes) for span in collector.spans())
    assert all(span.status.code == span.status.STATUS_CODE_UNSET for span in collector.spans())
    assert {span.kind for span in collector.spans() if span.name == "smtp.screen"} == {Span.SPAN_KIND_SERVER}


@contextmanager
def useless(kind: str) -> Iterator[str]:
    """An OTLP endpoint that is of no use."""

    def refuse(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    if kind == "no URL":
        yield "collector"
    elif kind == "no such name":
        yield "http://collector.invalid:4317"
    elif kind == "nobody listens":
        yield f"http://127.0.0.1:{free_ports(1)[0]}"
    elif kind == "refuses":
        with grpc_collector(refuse) as collector:
            yield collector.url
    else:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["no URL", "no such name", "nobody listens", "refuses", "never answers"])
def test_a_useless_endpoint_is_one_warning_and_edits_and_mail_go_on(sink: MailSink, kind: str) -> None:
    (port,) = free_ports(1)
    with useless(kind) as url:
        with up(
            policy(),
            *(f"--otlp-endpoint={url}", f"--metrics=127.0.0.1:{port}"),
            upstream=sink.address,
            handoff="plain",
        ) as sidecar:
            for wait in ("150ms", "200ms"):
                sidecar.edit(policy(wait=wait))
                assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 ")
            if kind in ("refuses", "nobody listens"):
                poll(
                    lambda: lost(port)["span"] and lost(port)["log"],
                    EXPORT_TIMEOUT,
                    lambda: "nothing is lost",
                )
            assert sidecar.stop() == 0
            warnings = [line for line in sidecar.log() if "OTLP" in line]
        # One of the sidecar and one of the operator where the endpoint can't even be tried; else one for both.
        assert len(warnings) == (2 if kind == "no URL" else 1), warnings
        assert all(url in line for line in warnings)
        assert len(sink.recipients) == 2


def lost(port: int) -> dict[str, float]:
    """`postwarden.telemetry.dropped`, by signal."""
    return {
        sample.labels["postwarden_signal"]: sample.value
        for sample in samples(port)
        if sample.name == "postwarden_telemetry_dropped_total"
    }


def test_memory_stays_where_it_is_while_a_black_hole_takes_nothing(sink: MailSink) -> None:
    """Once all queues are full, more traces cost no more memory; what is lost anywhere is counted."""
    sampling = "{sampling: [{verdict: dropped, percent: 100, maxPerSecond: 10000}]}"
    (port,) = free_ports(1)
    with (
        useless("never answers") as url,
        up(
            policy(reject="Drop", more=f"  limits: {{connectionsPerClient: 0}}\n  telemetry: {sampling}"),
            *(f"--otlp-endpoint={url}", f"--metrics=127.0.0.1:{port}"),
            upstream=sink.address,
            handoff="plain",
            log_format="json",
        ) as sidecar,
    ):

        def told() -> float:
            """Connections that have a line, or whose record was lost on its way."""
            return len([line for line in sidecar.log() if line.startswith("{")]) + lost(port)["record"]

        sizes = []
        for turn in range(1, 4):
            for _ in range(ENOUGH):
                first_reply(sidecar.address, REFUSED)
            poll(lambda wanted=turn * ENOUGH: told() == wanted, EXPORT_TIMEOUT, lambda: f"{told()} are told")  # type: ignore[misc]  # its default
            sizes.append(resident(sidecar.pid))
        missing = lost(port)
    assert missing["span"] > ENOUGH
    assert missing["log"] > ENOUGH
    assert sizes[-1] - sizes[0] < 4, sizes


ENOUGH = 2500
"""Connections: of their spans and log records more than may wait were made before the first look."""
