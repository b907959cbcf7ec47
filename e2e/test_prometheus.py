"""Debian's Prometheus reads a real sidecar and a real operator: every query of the dashboards and every alert finds what it asks for.

One scene for the module: clients of each kind in front of a real Postfix, with lists that a real rbldnsd serves.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.cluster import ApiServer
from harness.mail_attempt import first_reply, last_reply_to_mail
from harness.operator_process import OperatorProcess
from harness.postfix import Postfix
from harness.prometheus import Prometheus, QueryRefused, Target, promtool
from harness.rbldnsd import Rbldnsd
from harness.screening_objects import mail_pod, policy, wait_for_reasons
from harness.sidecar_process import SidecarProcess
from harness.smtp import Client
from harness.toolchain import KubernetesTools
from loopback_ports import free_port

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/postwarden"
RULES = CHART / "alerts/postwarden.yaml"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))

NAMESPACE, POD = "watched", "mta-0"
ZOMBIE, TALKER, LISTED, FRIEND = "127.66.6.6", "127.66.7.7", "127.66.8.8", "127.0.9.9"
LIST, FAILING = "bl.test", "gone.test"
SIDECAR = '{job="sidecar"}'


def screening(lists: Rbldnsd) -> dict[str, object]:
    off = {"enabled": False}
    return {
        "access": {"myNetworks": [], "rejectAction": "Drop", "rules": [{"action": "Reject", "cidrs": [ZOMBIE]}]},
        "pregreet": {"action": "Enforce", "banner": "mail.example.org ESMTP", "wait": "1s"},
        # The server has no zone of the second name, and says so by an error.
        "dnsbl": {"resolvers": [lists.address], "timeout": "1s", "sites": [{"zone": LIST}, {"zone": FAILING}]},
        "protocol": {"pipelining": off, "nonSMTPCommand": off, "bareNewline": off},
    }  # fmt: skip


@dataclass
class Scene:
    prometheus: Prometheus
    sidecar: SidecarProcess
    operator_metrics: int

    def wait_until_all_is_read(self) -> None:
        """Prometheus has every connection so far."""
        self.prometheus.wait_for(
            f"sum(postwarden_connections_total{SIDECAR})", float(len(self.sidecar.records()))
        )


@pytest.fixture(scope="module")
def scene(
    kubernetes_binaries: KubernetesTools, postfix_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """With an API server of its own: other tests' policies and pods would be counted."""
    port = free_port()
    with ExitStack() as running:
        api_server = running.enter_context(ApiServer(kubernetes_binaries))
        postfix = running.enter_context(Postfix(postfix_root, handoff="proxy"))
        lists = running.enter_context(Rbldnsd({LIST: [LISTED]}))
        operator = running.enter_context(OperatorProcess(api_server, options=[f"--metrics=127.0.0.1:{port}"]))
        api_server.create_namespace(NAMESPACE)
        token = api_server.bound_token(mail_pod(api_server, NAMESPACE, POD))
        sidecar = running.enter_context(
            SidecarProcess(
                tmp_path_factory.mktemp("sidecar"),
                upstream=postfix.address,
                handoff="proxy-v2",
                operator=operator,
                token=token,
            )
        )
        targets = [
            Target(f"127.0.0.1:{sidecar.metrics_port}", "sidecar", {"namespace": NAMESPACE, "pod": POD}),
            Target(f"127.0.0.1:{port}", "operator", {"namespace": "postwarden-system", "pod": "operator-0"}),
        ]
        prometheus = running.enter_context(Prometheus(targets, rules=[RULES]))
        prometheus.wait_for(f"postwarden_policy_in_force{SIDECAR}", 0.0)
        prometheus.wait_for("postwarden_operator_leading", 1.0)
        api_server.apply(policy("wall", NAMESPACE, **screening(lists)))
        wait_for_reasons(api_server, "wall", NAMESPACE, Programmed="True/Synced")
        prometheus.wait_for(f"postwarden_policy_in_force{SIDECAR}", 1.0)
        found = Scene(prometheus, sidecar, port)
        send_clients_of_each_kind(sidecar)
        found.wait_until_all_is_read()
        yield found


def send_clients_of_each_kind(sidecar: SidecarProcess) -> None:
    assert first_reply(sidecar.address, ZOMBIE).startswith("521")
    with Client(*sidecar.listen, source=TALKER) as talker:
        talker.expect("EHLO zombie.test", 250)  # at once, after the first part of the greeting
        talker.expect("MAIL FROM:<a@zombie.test>", 250)
        talker.expect("RCPT TO:<bob@example.org>", 550)
        talker.expect("QUIT", 221)
    assert last_reply_to_mail(sidecar.address, LISTED).startswith("550 5.7.1")
    for _ in ("pass_new", "pass_old"):
        assert last_reply_to_mail(sidecar.address, FRIEND).startswith("250 2.0.0")
    sidecar.wait_for_record(lambda _: len(sidecar.records()) == 5)


def as_asked(expression: str) -> str:
    """With everything chosen, as Grafana fills it in."""
    for name, value in (("job", ".+"), ("namespace", ".*"), ("pod", ".*")):
        expression = expression.replace(f"${name}", value)
    return expression.replace("$__rate_interval", "1m").replace("$__range", "5m")


def panels(dashboard: Path) -> list[tuple[str, str]]:
    """Titles and queries."""
    shown = json.loads(dashboard.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in shown for target in panel.get("targets", ())]


def test_prometheus_reads_both_without_a_complaint(scene: Scene) -> None:
    assert [(target["health"], target["lastError"]) for target in scene.prometheus.targets()] == [
        ("up", "")
    ] * 2
    by_verdict = {
        each["metric"]["postwarden_verdict"]: int(each["value"][1])
        for each in scene.prometheus.query(f"postwarden_connections_total{SIDECAR} > 0")
    }
    assert by_verdict == {"dropped": 1, "rejected": 2, "pass_new": 1, "pass_old": 1}


def test_names_and_types_are_as_prometheus_wants_them(scene: Scene) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{scene.operator_metrics}/metrics", timeout=5) as answer:
        texts = [scene.sidecar.metrics(), answer.read().decode()]
    for text in texts:
        assert not promtool("check", "metrics", stdin=text)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_finds_data(scene: Scene, dashboard: Path) -> None:
    found = {}
    for title, expression in panels(dashboard):
        try:
            found[title, expression] = scene.prometheus.query(as_asked(expression))
        except QueryRefused as error:
            pytest.fail(f"{title}: {error}")
    assert len(found) > 20
    assert not [title for (title, _), series in found.items() if not series]


def test_dashboards_show_what_happened(scene: Scene) -> None:
    shown: dict[str, list[float]] = {}
    for dashboard in DASHBOARDS:
        for title, expression in panels(dashboard):
            series = scene.prometheus.query(as_asked(expression))
            shown.setdefault(title, []).extend(float(each["value"][1]) for each in series)
    assert shown["Share turned away"] == [pytest.approx(0.6)]
    assert 1.0 <= shown["New senders wait"][0] <= 2.0
    assert shown["Put off (4xx)"] == [0.0]
    assert shown["With current rules"] == [1.0]
    assert shown["Not connected"] == [0.0]
    assert shown["Leaders"] == [1.0]
    assert shown["Hand-off proved"] == [1.0]
    assert sorted(shown["Lists that count"]) == [0.0, 1.0]
    assert 100.0 in shown["Given to the mail server, not yet answered"]  # the limit
    assert sum(shown["What each test catches"]) > 0
    assert 0 < max(shown["From the write to its being in force"]) < 10


def test_lists_are_told_apart_by_zone(scene: Scene) -> None:
    by_list = {
        title: {
            each["metric"]["postwarden_dnsbl_zone"]: float(each["value"][1])
            for each in scene.prometheus.query(as_asked(expression))
            if float(each["value"][1]) == float(each["value"][1])
        }
        for title, expression in panels(CHART / "dashboards/screening.json")
        if title in {"Look-ups without an answer", "Clients listed"}
    }
    assert by_list["Look-ups without an answer"] == {LIST: 0.0, FAILING: 1.0}
    assert by_list["Clients listed"][LIST] == pytest.approx(1 / 3, abs=0.2)


def test_every_series_that_an_alert_asks_for_is_there_and_no_alert_fires(scene: Scene) -> None:
    rules = scene.prometheus.rules()
    assert len(rules) > 15
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        for selector in re.findall(
            r"postwarden_\w+(?:\{[^}]*\})?", re.sub(r"by \([^)]*\)", "", rule["query"])
        ):
            assert scene.prometheus.value(f"count({selector})"), f"{rule['name']}: {selector}"
    # Each lasts for minutes before it fires. One list does not answer, as it is to be here.
    alarmed = {rule["name"] for rule in rules if rule["state"] != "inactive"}
    assert alarmed <= {"PostwardenDnsblFailing", "PostwardenDnsblUnusable"}


def test_hostile_clients_add_no_series(scene: Scene) -> None:
    def series() -> float | None:
        return scene.prometheus.value(f"count({SIDECAR})")

    before = series()
    for number in range(100):
        with Client(*scene.sidecar.listen, source=f"127.66.100.{number + 1}") as client:
            client.send(b"EHLO " + bytes([number + 128]) * number + b'"} 1\r\n')
            if number % 2:
                client.line()
            client.reset()
    sent = 5 + 100
    scene.sidecar.wait_for_record(lambda _: len(scene.sidecar.records()) == sent)
    scene.wait_until_all_is_read()
    assert series() == before


@pytest.mark.parametrize("number", [0, 1], ids=["in a cluster", "on one machine"])
def test_documented_configuration_is_valid(number: int, tmp_path: Path) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    # Debian's knows no discovery in clusters; the rest it checks.
    config = re.sub(r"kubernetes_sd_configs: .*", "static_configs: [{targets: [a.test]}]", blocks[number])
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "postwarden.yaml").write_text(RULES.read_text())
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")


def test_alert_rules_are_valid_and_do_what_their_unit_tests_say() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", ROOT / "e2e/alert_rules_test.yaml")
