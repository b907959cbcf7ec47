"""examples/: each folder is explained and listed, its YAML is valid, its parts fit together, and no file is left over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from example_files import EXAMPLES, objects
from inject.golden import SETTINGS
from postwarden_cli.main import main
from postwarden_operator.inject import Injection, inject
from ruamel.yaml import YAML

FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
YAML_FILES = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml"))
VALUES = {"docker-mailserver/values.yaml"}
"""Of a Helm chart: no objects."""
POLICIES = [name for name in YAML_FILES if "kind: ScreeningPolicy\n" in (EXAMPLES / name).read_text()]
DEPLOYMENTS = [name for name in YAML_FILES if "kind: Deployment\n" in (EXAMPLES / name).read_text()]
INJECTED = [name for name in DEPLOYMENTS if name != "sidecar-by-hand.yaml"]


def read(path: Path) -> str:
    return path.read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_is_explained_and_in_the_index(folder: Path) -> None:
    text = read(folder / "README.md")
    assert text.startswith("# ")
    assert f"]({folder.name}/README.md)" in read(EXAMPLES / "README.md")


def test_every_file_is_told_of() -> None:
    untold = []
    for path in EXAMPLES.rglob("*"):
        if path.is_dir() or path.name == "README.md":
            continue
        top = path.relative_to(EXAMPLES).parts[0]
        readme = (EXAMPLES / top if (EXAMPLES / top).is_dir() else EXAMPLES) / "README.md"
        within = path.relative_to(readme.parent)
        # A file by its path, or those of a folder by that.
        if not any(f"`{name}`" in read(readme) for name in (within, *(f"{p}/" for p in within.parents))):
            untold.append(str(path.relative_to(EXAMPLES)))
    assert not untold


def test_no_command_in_the_explanations_names_a_file_that_is_not_there() -> None:
    missing = [
        f"{readme.relative_to(EXAMPLES)}: {name}"
        for readme in EXAMPLES.rglob("README.md")
        for name in re.findall(r"(?:-f|-k|kustomize) (examples/[^\s|;]+)", read(readme))
        if not (EXAMPLES.parent / name).exists()
    ]
    assert not missing


@pytest.mark.parametrize("name", [name for name in YAML_FILES if name not in VALUES])
def test_yaml_holds_objects(name: str) -> None:
    found = objects(name)
    assert found
    assert all({"apiVersion", "kind"} <= each.keys() for each in found)


@pytest.mark.parametrize("name", [name for name in POLICIES if not name.startswith("gitops/")])
def test_every_policy_checks_without_a_warning(name: str) -> None:
    done = CliRunner().invoke(main, ["check", "-f", str(EXAMPLES / name)])
    assert done.exit_code == 0, done.output
    assert '"inForce": true' in done.output
    assert "warning" not in done.output.lower()


def documents(name: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in objects(name)}


@pytest.mark.parametrize("name", INJECTED)
def test_a_mail_server_its_service_and_its_policy_fit_together(name: str) -> None:
    found = documents(name)
    policy = documents(str(Path(name).with_name("policy.yaml")))["ScreeningPolicy"]["spec"]
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    result = inject(template, "mail", SETTINGS)
    assert isinstance(result, Injection), result
    assert result.warnings == ()
    (sidecar,) = result.pod["spec"]["initContainers"]
    environment = {each["name"]: each.get("value") for each in sidecar["env"]}

    assert labels.items() >= policy["selector"]["matchLabels"].items()
    assert policy["upstream"]["handoff"] == environment["POSTWARDEN_HANDOFF"]
    if "port" in policy["upstream"]:
        assert environment["POSTWARDEN_UPSTREAM"] == f"127.0.0.1:{policy['upstream']['port']}"
    service = found["Service"]["spec"]
    assert labels.items() >= service["selector"].items()
    assert [port["targetPort"] for port in service["ports"]] == [port["name"] for port in sidecar["ports"]]
    # kubelet's own probe would fail at a port that wants PROXY, or that is none.
    (mta,) = result.pod["spec"]["containers"]
    assert mta["readinessProbe"]["httpGet"]["path"] == "/upstream"


DOCKER_MAILSERVER_PORTS = {
    "smtp": 25,
    "submissions": 465,
    "submission": 587,
    "imap": 143,
    "imaps": 993,
    "rspamd": 11334,
}
"""Of the pod and of the Service's targetPorts, as chart 5.1.1 renders them with the example's values."""

AMAVIS_REINJECTION = 10025
"""Where docker-mailserver's own smtpd listens on loopback, which its pod does not say."""


def test_docker_mailservers_pod_is_injected_as_its_policy_says() -> None:
    values = YAML(typ="safe").load(EXAMPLES / "docker-mailserver/values.yaml")
    policy = documents("docker-mailserver/policy.yaml")["ScreeningPolicy"]["spec"]
    chosen = {"app.kubernetes.io/name": "docker-mailserver", "release": "docker-mailserver"}
    ports = [{"name": name, "containerPort": port} for name, port in DOCKER_MAILSERVER_PORTS.items()]
    ready = {"exec": {"command": ["/bin/bash", "-c", "supervisorctl status"]}}
    container = {"name": "docker-mailserver", "image": "m", "ports": ports, "readinessProbe": ready}
    pod = {
        "metadata": {
            "labels": chosen | values["deployment"]["labels"],
            "annotations": values["deployment"]["annotations"],
        },
        "spec": {"containers": [container], "nodeSelector": {}, "securityContext": None},
    }
    result = inject(pod, "mail", SETTINGS)
    assert isinstance(result, Injection), result
    assert result.warnings == ()
    (sidecar,) = result.pod["spec"]["initContainers"]
    environment = {each["name"]: each.get("value") for each in sidecar["env"]}
    assert environment["POSTWARDEN_UPSTREAM"] == f"127.0.0.1:{policy['upstream']['port']}"
    assert environment["POSTWARDEN_HANDOFF"] == policy["upstream"]["handoff"]
    assert chosen.items() >= policy["selector"]["matchLabels"].items()
    (port,) = sidecar["ports"]
    assert port["name"] == "smtp", "where the chart's Service leads"
    assert port["containerPort"] not in {AMAVIS_REINJECTION, *DOCKER_MAILSERVER_PORTS.values()}
    others = {each["name"]: each["containerPort"] for each in result.pod["spec"]["containers"][0]["ports"]}
    assert others.pop("smtp-upstream") == 25
    assert others == {name: port for name, port in DOCKER_MAILSERVER_PORTS.items() if name != "smtp"}
