"""The chart as Helm renders it: goldens for several sets of values, and a clear sentence for values that can't be used.

`GOLDENS=write pytest e2e/test_chart.py` writes the goldens anew: look at what git shows then.
"""

import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.chart import CHART, HelmRefused, documents, rendered, run_helm
from harness.cluster_tools import helm, helm3
from harness.operator_process import CRD
from postwarden_operator.policy import parse_policy
from postwarden_operator.policy.vocabulary import Mode
from ruamel.yaml import YAML

SETS = Path(__file__).parent / "chart"
VALUES = sorted(SETS.glob("*.values.yaml"))


def golden_of(text: str) -> str:
    """Without what is a file of its own: the CRD, dashboards, alerts, the test's program."""
    kept = []
    for document in text.removeprefix("---\n").split("\n---\n"):
        source = document.partition("\n")[0].removeprefix("# Source: postwarden/templates/")
        if source not in {"crd.yaml", "dashboards.yaml", "alerts.yaml"}:
            kept.append(document)
    program = textwrap.indent((CHART / "files" / "answers.py").read_text(), " " * 6, lambda line: True)
    return "\n---\n".join(kept).replace(program, "      … files/answers.py\n")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_chart_renders_as_before(values: Path) -> None:
    golden = values.with_name(values.name.replace(".values.", ".golden."))
    text = golden_of(rendered(values.read_text()))
    if os.environ.get("GOLDENS") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


def test_sets_of_values_are_those_that_have_goldens() -> None:
    of = [{path.name.split(".")[0] for path in SETS.glob(f"*.{kind}.yaml")} for kind in ("values", "golden")]
    assert of[0] == of[1]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_helm_has_nothing_to_say_against_it(values: Path) -> None:
    run_helm("lint", "--strict", CHART, "--values", values)


def test_charts_crd_is_the_generated_one() -> None:
    (shown,) = documents(rendered("", "--show-only", "templates/crd.yaml"))
    assert shown["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert shown["metadata"].pop("labels")
    assert shown == YAML(typ="safe").load(CRD)


def test_every_object_has_the_recommended_labels_and_its_place() -> None:
    cluster_wide = {
        *("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "MutatingWebhookConfiguration"),
    }
    for each in documents(rendered((SETS / "everything.values.yaml").read_text())):
        metadata = each["metadata"]
        assert metadata["labels"]["app.kubernetes.io/name"] == "postscreen", metadata
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert ("namespace" in metadata) is (each["kind"] not in cluster_wide), metadata


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("operator: {replica: 3}", "at '/operator': additional properties 'replica' not allowed"),
        ("replicas: 3", "at '': additional properties 'replicas' not allowed"),
        ("operator: {replicas: three}", "at '/operator/replicas': got string, want integer"),
        ("operator: {replicas: 0}", "at '/operator/replicas': minimum: got 0, want 1"),
        (
            "operator: {logLevel: loud}",
            "at '/operator/logLevel': value must be one of 'debug', 'info', 'warning', 'error'",
        ),
        (
            "webhook: {failurePolicy: ignore}",
            "at '/webhook/failurePolicy': value must be one of 'Ignore', 'Fail'",
        ),
        ("webhook: {timeoutSeconds: 31}", "at '/webhook/timeoutSeconds': maximum: got 31, want 30"),
        ('webhook: {enabled: "false"}', "at '/webhook/enabled': got string, want boolean"),
        ("secretNamespaces: mail", "at '/secretNamespaces': got string, want array"),
        ("secretNamespaces: [Mail]", "at '/secretNamespaces/0': 'Mail' does not match pattern"),
        ("secretNamespaces: [mail, mail]", "at '/secretNamespaces': items at 0 and 1 are equal"),
        ("sidecar: {resources: {limits: {memory: lots}}}", "at '/sidecar/resources/limits/memory': 'lots'"),
        ("sidecar: {otlpEndpoint: 'collector:4317'}", "at '/sidecar/otlpEndpoint': 'collector:4317'"),
        ("operator: {image: postwarden/operator}", "at '/operator/image': got string, want object"),
        (
            "operator: {image: {digest: latest}}",
            "at '/operator/image/digest': 'latest' does not match pattern",
        ),
        ("certManager: {issuerRef: {kind: ClusterIssuer}}", "properties 'name' required, if 'kind' exists"),
        ("certManager: {duration: 90d}", "at '/certManager/duration': '90d' does not match pattern"),
        ("certManager: {enabled: true, duration: 24h}", "certManager.duration is 24h: give 720h or more"),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_their_place(values: str, sentence: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        rendered(values)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_helm_3_renders_the_same_and_has_nothing_to_say_against_it(values: Path) -> None:
    text = values.read_text()

    def by_name(program: Callable[[], Path]) -> list[dict[str, Any]]:
        """Helm writes kinds that it does not know in any order."""
        found = documents(rendered(text, program=program))
        return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))

    assert by_name(helm3) == by_name(helm)
    run_helm("lint", "--strict", CHART, "--values", values, program=helm3)


def test_helm_3_refuses_values_with_their_place() -> None:
    with pytest.raises(HelmRefused, match=r"at '/operator': additional properties 'replica' not allowed"):
        rendered("operator: {replica: 3}", program=helm3)


def test_a_chart_around_this_one_may_set_global_values() -> None:
    rendered("global: {registry: registry.example}")


def pod_templates(values: str) -> list[dict[str, Any]]:
    found = []
    for each in documents(rendered(values)):
        found += [each["spec"]["template"]["spec"]] if each["kind"] == "Deployment" else []
        found += [each["spec"]] if each["kind"] == "Pod" else []
    return found


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix(".values.yaml"))
def test_no_container_can_write_to_its_image_or_gain_rights(values: Path) -> None:
    templates = pod_templates(values.read_text())
    assert len(templates) == 2
    for spec in templates:
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }


def test_images_come_from_where_the_values_say_and_from_no_host_by_default() -> None:
    images = {spec["containers"][0]["image"] for spec in pod_templates("")}
    version = YAML(typ="safe").load(CHART / "Chart.yaml")["appVersion"]
    assert images == {f"postwarden/operator:{version}"}
    of_other_registry = pod_templates("operator: {image: {repository: 'localhost:5000/operator', tag: test}}")
    assert {spec["containers"][0]["image"] for spec in of_other_registry} == {"localhost:5000/operator:test"}


@pytest.fixture
def chart_with_files(tmp_path: Path) -> Path:
    """With one dashboard and one alert, in words that Helm would take for its own."""
    chart = tmp_path / "postwarden"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("dashboards", "alerts"))
    (chart / "dashboards").mkdir()
    (chart / "dashboards" / "mail.json").write_text('{"title": "Mail", "legend": "{{verdict}}"}\n')
    (chart / "alerts").mkdir()
    (chart / "alerts" / "postwarden.yaml").write_text(
        "groups:\n- name: mail\n  rules:\n  - {alert: Lost, expr: up == 0, annotations: {summary: '{{ $value }}'}}\n"
    )
    return chart


def test_dashboards_and_alerts_are_passed_on_as_they_are(chart_with_files: Path) -> None:
    everything = SETS / "everything.values.yaml"
    text = run_helm("template", "postwarden", chart_with_files, "--values", everything)
    objects = documents(text)
    (dashboard,) = (each for each in objects if each["kind"] == "ConfigMap")
    assert dashboard["metadata"]["name"] == "wall-dashboard-mail"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "yes"
    assert dashboard["metadata"]["annotations"] == {"grafana_folder": "Mail"}
    assert dashboard["data"] == {"mail.json": (chart_with_files / "dashboards" / "mail.json").read_text()}
    (rule,) = (each for each in objects if each["kind"] == "PrometheusRule")
    assert rule["metadata"]["name"] == "wall-alerts"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    alerts = YAML(typ="safe").load(chart_with_files / "alerts" / "postwarden.yaml")
    assert rule["spec"] == alerts
    of_default = documents(run_helm("template", "postwarden", chart_with_files))
    assert not {"ConfigMap", "PrometheusRule"} & {each["kind"] for each in of_default}


def notes(values: str = "{}") -> str:
    """What is shown after `helm install`."""
    shown = run_helm("install", "postwarden", CHART, "--dry-run=client", "--values", "-", stdin=values)
    return shown.partition("\nNOTES:\n")[2]


def test_notes_show_what_to_do_next_with_a_policy_that_is_good() -> None:
    text = notes()
    manifest = textwrap.dedent(text.partition("<<EOF\n")[2].partition("       EOF\n")[0])
    shown = parse_policy(YAML(typ="safe").load(manifest), strict=True)
    assert shown.spec.mode is Mode.OBSERVE
    for command in (
        "kubectl label namespace MAIL postwarden.dev/injection=enabled",
        "kubectl get screeningpolicies -n MAIL",
        "helm test postwarden -n default",
    ):
        assert command in text


def test_notes_tell_what_is_left_to_do_by_hand() -> None:
    text = notes("webhook: {enabled: false}\ncrds: {install: false}\nsecretNamespaces: [mail]")
    assert "crds.install is false" in text
    assert "webhook.enabled is false: put the sidecar into its pods by hand" in text
    assert (
        "It is to dial postwarden.default.svc:8443 and to trust ca.crt of the Secret postwarden-ca." in text
    )
    assert "kubectl label namespace" not in text
    assert "may be in Secrets of: mail." in text
