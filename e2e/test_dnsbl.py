"""DNSBL end to end: clients in a list that Debian's rbldnsd serves, and resolvers that are of no use; mail is never lost for them."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dnsbl.name_server import MANGLED, NameServer, Zone
from harness.late_resolver import late
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.mail_sink import MailSink
from harness.rbldnsd import Rbldnsd
from harness.sidecar import Sidecar, up

KEY = "sk3k3yk3y"
ZONE, WORLD = f"{KEY}.bl.test", "world.test"
LISTED, FRIEND = "127.66.6.6", "127.0.9.9"
TAKEN = "250 "


def policy(resolvers: list[str], *, zone: str = "{key}.bl.test", timeout: str = "1s") -> str:
    """Without a greeting test, so that the lists alone decide."""
    key_from = ", keyFrom: {secretKeyRef: {name: lists, key: bl}}" if "{key}" in zone else ""
    return f"""
apiVersion: postwarden.dev/v1alpha1
kind: ScreeningPolicy
metadata: {{name: lists}}
spec:
  selector: {{}}
  access: {{myNetworks: []}}
  pregreet: {{banner: "", wait: 2s}}
  dnsbl:
    resolvers: {resolvers}
    timeout: {timeout}
    sites:
    - {{zone: "{zone}", label: lists.example{key_from}}}
  protocol: {{pipelining: {{enabled: false}}, nonSMTPCommand: {{enabled: false}}, bareNewline: {{enabled: false}}}}
---
apiVersion: v1
kind: Secret
metadata:
  name: lists
  labels: {{postwarden.dev/watch: "true"}}
  annotations: {{postwarden.dev/used-for: bl.test}}
data: {{bl: {base64.b64encode(KEY.encode()).decode()}}}
"""


@pytest.fixture(scope="module")
def lists() -> Iterator[Rbldnsd]:
    with Rbldnsd({ZONE: [LISTED], WORLD: ["127.0.0.0/8"]}) as server:
        yield server


@contextmanager
def screened(text: str) -> Iterator[tuple[Sidecar, MailSink]]:
    with MailSink() as sink, up(text, upstream=sink.address, handoff="plain") as sidecar:
        yield sidecar, sink


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a resolver that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """The address of a resolver that is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


def test_a_listed_client_is_refused_under_the_lists_label_and_the_key_is_shown_to_nobody(
    lists: Rbldnsd,
) -> None:
    with screened(policy([lists.address])) as (sidecar, sink):
        said = last_reply_to_mail(sidecar.address, LISTED)
        assert said == f"550 5.7.1 Service unavailable; client [{LISTED}] blocked using lists.example"
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith(TAKEN)
        assert sink.recipients == ["someone@example.org"]
        assert "DNSBL rank 1 for" in sidecar.log_text()
        assert KEY not in sidecar.log_text()


def test_explain_asks_the_lists_and_shows_no_key(lists: Rbldnsd, silent: str, tmp_path: Path) -> None:
    def explained(resolver: str, address: str) -> tuple[int, str, str]:
        path = tmp_path / "policy.yaml"
        path.write_text(policy([resolver]))
        command = [str(Path(sys.executable).with_name("postwarden")), "explain", "-f", str(path), address]
        done = subprocess.run([*command, "--query-dnsbl"], capture_output=True, text=True, timeout=30)
        assert KEY not in done.stdout + done.stderr
        found = json.loads(done.stdout)["dnsbl"]
        return done.returncode, found["sites"][0]["answer"], found["verdict"]

    refused = "block lists: score 1 of 1: it is refused at RCPT with 550"
    assert explained(lists.address, LISTED) == (0, "127.0.0.2", refused)
    assert explained(lists.address, FRIEND) == (0, "not listed", "block lists: score 0 of 1: it passes")
    code, answer, verdict = explained(silent, LISTED)
    assert (code, answer) == (3, "no answer in time")
    assert verdict.endswith("counts for nothing: it passes")


def test_a_list_of_the_whole_world_refuses_nobody(lists: Rbldnsd) -> None:
    with screened(policy([lists.address], zone=WORLD)) as (sidecar, _):
        assert last_reply_to_mail(sidecar.address, LISTED).startswith(TAKEN)
        assert f"DNSBL {WORLD} counts for nothing, ListsWorld" in sidecar.log_text()


def test_resolvers_that_are_silent_or_not_there_lose_no_mail(
    lists: Rbldnsd, silent: str, nobody: str
) -> None:
    with screened(policy([silent, nobody])) as (sidecar, _):
        assert last_reply_to_mail(sidecar.address, LISTED).startswith(TAKEN)
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith(TAKEN)


def test_answers_that_are_malformed_for_other_names_truncated_or_thousands_refuse_nobody() -> None:
    """One zone for each kind; every one of them would be enough."""
    modes = [*MANGLED, "thousands by tcp", "garbage", "other name", "truncated, no tcp", "servfail", "silent"]
    zones = {f"kind{number}.test": Zone({"*": ["127.0.0.2"]}, mode=mode) for number, mode in enumerate(modes)}
    with NameServer(zones) as server:
        text = policy([server.target], zone="kind0.test")
        others = "".join(f"\n    - {{zone: {zone}}}" for zone in list(zones)[1:])
        text = text.replace("label: lists.example}", "label: lists.example}" + others)
        with screened(text) as (sidecar, sink):
            assert last_reply_to_mail(sidecar.address, FRIEND).startswith(TAKEN)
            assert sink.recipients == ["someone@example.org"]
            assert "DNSBL rank" not in sidecar.log_text()
        assert all(server.count(zone) for zone in zones), "each zone was asked"


def test_the_next_resolver_is_asked_where_the_first_is_of_no_use(lists: Rbldnsd, nobody: str) -> None:
    with screened(policy([nobody, lists.address])) as (sidecar, _):
        assert last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1")


def test_an_answer_that_is_late_counts_while_there_is_time_and_harms_nobody_after_it(lists: Rbldnsd) -> None:
    with late(lists, 0.4) as slow, screened(policy([slow], timeout="3s")) as (sidecar, _):
        first_reply(sidecar.address, FRIEND)  # gone before its answer comes
        assert last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1")
    with late(lists, 1.5) as slow, screened(policy([slow], timeout="1s")) as (sidecar, _):
        assert last_reply_to_mail(sidecar.address, LISTED).startswith(TAKEN)
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith(TAKEN)
