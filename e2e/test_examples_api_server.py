"""examples/ and a real API server: it takes each object as it is, and those that kustomize makes; and the chart takes the values."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from example_files import EXAMPLES, objects, of_kind
from harness.chart import documents, rendered
from harness.cluster import ApiServer, KubectlError
from harness.operator_process import CRD
from postwarden_cli.main import main
from ruamel.yaml import YAML

ENVIRONMENTS = ("staging", "production")
FILES = [
    str(path.relative_to(EXAMPLES))
    for path in sorted(EXAMPLES.rglob("*.yaml"))
    # Kustomize's and the chart's are tried below; Flux' and Argo CD's kinds are not known here.
    if "gitops" not in path.parts and path.name != "values.yaml"
]


@pytest.fixture(scope="module", autouse=True)
def definition(api_server: ApiServer) -> None:
    api_server.apply(CRD)


@pytest.mark.parametrize("name", FILES)
def test_the_api_server_takes_every_object(name: str, api_server: ApiServer, namespace: str) -> None:
    # policy.yaml names the namespace `default`.
    where = () if name == "policy.yaml" else (f"--namespace={namespace}",)
    done = api_server.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", f"--filename={EXAMPLES / name}", *where)
    )
    assert done.count("(server dry run)") == len(objects(name))


def test_a_misspelt_field_would_be_noticed(api_server: ApiServer, namespace: str) -> None:
    policy = (EXAMPLES / "postfix/policy.yaml").read_text().replace("pregreet:", "pregret:")
    with pytest.raises(KubectlError, match=r'unknown field "spec\.pregret"'):
        api_server.kubectl(
            *("apply", "--dry-run=server", "--validate=strict", "--filename=-", f"--namespace={namespace}"),
            stdin=policy,
        )


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_kustomize_makes_policies_that_check_and_that_the_api_server_takes(
    environment: str, api_server: ApiServer, tmp_path: Path
) -> None:
    text = api_server.kubectl("kustomize", str(EXAMPLES / "gitops" / environment))
    made = {each["kind"]: each for each in documents(text)}
    (tmp_path / "rendered.yaml").write_text(text)
    done = CliRunner().invoke(main, ["check", "-f", str(tmp_path / "rendered.yaml")])
    assert done.exit_code == 0, done.output

    namespace = f"mail-{environment}"
    api_server.create_namespace(namespace)
    applied = api_server.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=text)
    assert applied.count("(server dry run)") == len(made) == 2
    config_map, policy = made["ConfigMap"], made["ScreeningPolicy"]
    assert config_map["metadata"]["labels"] == {"postwarden.dev/watch": "true"}
    assert config_map["metadata"]["namespace"] == policy["metadata"]["namespace"] == namespace
    lists = [rule["listFrom"]["configMapKeyRef"] for rule in policy["spec"]["access"]["rules"]]
    assert {each["name"] for each in lists} == {config_map["metadata"]["name"]}, "no hash in its name"
    assert [each["key"] for each in lists] == list(config_map["data"])
    assert policy["spec"].get("mode") == ("Observe" if environment == "staging" else None)


def values_of_flux() -> dict[str, Any]:
    found: dict[str, Any] = of_kind("gitops/flux/postwarden.yaml", "HelmRelease")["spec"]["values"]
    return found


def values_of_argocd() -> dict[str, Any]:
    source = of_kind("gitops/argocd/postwarden.yaml", "Application")["spec"]["source"]
    found: dict[str, Any] = source["helm"]["valuesObject"]
    return found


@pytest.mark.parametrize("values", [values_of_flux, values_of_argocd])
def test_the_chart_takes_the_values(values: Any, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    YAML().dump(values(), file)
    kinds = {each["kind"] for each in documents(rendered(file.read_text()))}
    assert {"CustomResourceDefinition", "MutatingWebhookConfiguration", "NetworkPolicy"} <= kinds


def test_argo_cd_is_told_of_the_webhook_that_the_chart_makes() -> None:
    (ignored,) = of_kind("gitops/argocd/postwarden.yaml", "Application")["spec"]["ignoreDifferences"]
    (webhook,) = documents(rendered("", "--show-only", "templates/webhook.yaml"))
    assert webhook["apiVersion"].startswith(ignored["group"])
    assert webhook["kind"] == ignored["kind"]
    assert len(webhook["webhooks"]) == 1
    assert ignored["jsonPointers"] == ["/webhooks/0/clientConfig/caBundle"]


@pytest.mark.parametrize("file", ["flux/mail.yaml", "argocd/mail.yaml"])
def test_what_the_controllers_apply_is_there(file: str) -> None:
    spec = objects(f"gitops/{file}")[0]["spec"]
    path = spec.get("path") or spec["source"]["path"]
    assert (EXAMPLES / "gitops" / path / "kustomization.yaml").is_file()
