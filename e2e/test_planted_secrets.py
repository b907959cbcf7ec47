"""Secrets are searched for in all that can be read of a screening at work: the key of a DNSBL zone, tokens, the CA's private key.

The operator is its own CA and logs at its most talkative; the sidecar has telemetry, a client that a keyed zone lists, and a resolver
that fails.
"""

import base64
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import last_reply_to_mail
from harness.operator_authority import AuthorityOperator
from harness.operator_process import ACCOUNT, NAMESPACE
from harness.polling import poll
from harness.rbldnsd import Rbldnsd
from harness.screening_objects import (
    asks_keyed_zone,
    may_read_secrets,
    policy,
    wait_for_reasons,
    zone_key,
)
from harness.sidecar_fixtures import StartSidecar
from loopback_ports import free_port
from telemetry.collector import Collector, grpc_collector, http_collector

PLANTED = "planted7key3of9zone"
ZONE = "{key}.zen.dq.spamhaus.net"
"""As the policy has it: so it is shown."""

LISTED = "127.66.6.6"
NEXT_LOOK = 25.0
"""Seconds until a Secret that could not be read is looked at again."""

KINDS = "screeningpolicies,configmaps,pods,events,leases,serviceaccounts"
"""What can be read in the cluster without the right to read Secrets."""


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """Of the operator's telemetry, and of a sidecar's whose log has postscreen's format."""
    with http_collector() as found:
        yield found


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def authority(api_server: ApiServer, receiver: Collector, metrics_port: int) -> Iterator[AuthorityOperator]:
    options = (f"--otlp-endpoint={receiver.url}", f"--metrics=127.0.0.1:{metrics_port}")
    with AuthorityOperator(api_server, secret="planted", options=("--log-level=debug", *options)) as operator:
        yield operator


def forms(secret: str) -> Iterator[bytes]:
    """A secret as it is, encoded, at any place in base64, and hashed."""
    plain = secret.encode()
    yield plain
    yield plain.hex().encode()
    for shift in range(3):
        # Without the letters that depend on what stands before and behind.
        yield base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4]
    for algorithm in ("md5", "sha1", "sha256"):
        digest = hashlib.new(algorithm, plain)
        yield digest.hexdigest()[:16].encode()
        yield base64.b64encode(digest.digest())[:16]


def found(secrets: dict[str, str], places: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, place)
        for name, secret in secrets.items()
        for place, content in places.items()
        if any(form in content for form in forms(secret))
    ]


def test_no_secret_is_in_any_log_status_trace_metric_file_or_command_line(
    api_server: ApiServer,
    authority: AuthorityOperator,
    namespace: str,
    start_sidecar: StartSidecar,
    receiver: Collector,
    metrics_port: int,
) -> None:
    zone = f"{PLANTED}.zen.dq.spamhaus.net"
    with grpc_collector() as collector, Rbldnsd({zone: [LISTED]}) as lists:
        admin = f"127.0.0.1:{free_port()}"
        sidecar = start_sidecar(
            operator=authority, options=[f"--otlp-endpoint={collector.url}", f"--admin={admin}"]
        )
        other = start_sidecar(
            "mta-1",
            operator=authority,
            options=[f"--otlp-endpoint={receiver.url}", "--log-format=postscreen"],
        )
        api_server.apply(zone_key("dqs", namespace, PLANTED))
        api_server.apply(may_read_secrets(namespace, ACCOUNT, NAMESPACE))
        keyed = {**asks_keyed_zone("dqs"), "resolvers": ["127.0.0.1:1", lists.address], "threshold": 1}
        api_server.apply(
            policy("wall", namespace, dnsbl=keyed, access={"myNetworks": []}, pregreet={"banner": ""})
        )
        poll(
            lambda: last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1"),
            NEXT_LOOK,
            lambda: sidecar.log_tail(),
        )
        wait_for_reasons(api_server, "wall", namespace, ResolvedRefs="True/Resolved")
        with urllib.request.urlopen(f"http://{admin}/tail", timeout=10) as tail:
            assert b"begins" in tail.readline()
            assert last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1")
            verdict = tail.readline()
        assert ZONE.encode() in verdict
        poll(lambda: last_reply_to_mail(other.address, LISTED).startswith("550 5.7.1"), 10, other.log_tail)
        other.wait_for_log("DNSBL rank 1")
        poll(
            lambda: all(ZONE in str(each.traces) for each in (collector, receiver)),
            10,
            lambda: "no trace of the zone",
        )
        assert other.stop() == 0  # the last metrics are sent at the end
        poll(lambda: "policy.change" in str(receiver.traces), 10, lambda: "no trace of the policy's change")
        places = {
            "metrics": sidecar.metrics().encode(),
            "tail": verdict,
            "rules": page(f"http://{admin}/rules"),
            "explanation": page(f"http://{admin}/explain?address={LISTED}"),
            "operator's metrics": page(f"http://127.0.0.1:{metrics_port}/metrics"),
            "objects": api_server.kubectl("get", KINDS, "--all-namespaces", "--output=json").encode(),
            **told("by gRPC", collector),
            **told("by HTTP", receiver),
            **processes(sidecar.process.pid if sidecar.process else 0, authority.process.pid),
            **files(authority.process.log.parent),
        }
        sidecar.restart()  # from disk
        places |= files(sidecar.state_dir.parent, but=sidecar.token_file)
        places |= files(other.state_dir.parent, but=other.token_file)

    kubeconfig = json.loads((api_server.directory / f"{NAMESPACE}.{ACCOUNT}.kubeconfig").read_text())
    operators_token = kubeconfig["users"][0]["user"]["token"]
    secrets = {
        "zone key": PLANTED,
        # What makes a token one is its signature.
        "pod's token": sidecar.token_file.read_text().split(".")[2],
        "operator's token": operators_token.split(".")[2],
        "CA's key": authority.secret_data()["signer.key"].decode().splitlines()[1],
    }
    assert found(secrets, places) == []
    assert [place for place, content in places.items() if b"PRIVATE KEY" in content] == []
    # The search finds what is there.
    assert {"sidecar.log", "operator.log", "rules.image"} <= {Path(place).name for place in places}
    shown = ZONE.encode()
    assert {"metrics", "traces by gRPC", "traces by HTTP", "metrics by HTTP", "objects"} <= {
        place for place, content in places.items() if shown in content
    }
    assert all(places[f"{signal} by HTTP"] for signal in ("traces", "metrics", "logs"))
    stored = api_server.kubectl("get", "secrets", "--all-namespaces", "--output=json").encode()
    hidden = {"token": sidecar.token_file.read_bytes(), "Secrets": stored}
    assert {name for name, _ in found(secrets, hidden)} == {"zone key", "pod's token", "CA's key"}


def told(how: str, collector: Collector) -> dict[str, bytes]:
    """What a receiver of telemetry got."""
    return {
        f"traces {how}": b"".join(each.SerializeToString() for each in collector.traces),
        f"metrics {how}": b"".join(each.SerializeToString() for each in collector.metrics),
        f"logs {how}": b"".join(each.SerializeToString() for each in collector.logs),
    }


def page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body


def processes(*pids: int) -> dict[str, bytes]:
    """Command lines and environments, the workers' too."""
    children = Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
    return {
        f"{name} of {pid}": Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in (*pids, *children)
        for name in ("cmdline", "environ")
    }


def files(directory: Path, but: Path | None = None) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and path != but}
