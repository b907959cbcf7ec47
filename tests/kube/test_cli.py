"""`postwarden-operator run` with settings that can't be used: exit 2, and one sentence."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from postwarden_operator.cli import main

SIDECAR = ("--sidecar-image", "sidecar", "--sidecar-control", "postwarden:8443")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Of a cluster that is not there."""
    path = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"token": "t"}}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [cluster],
                "contexts": [context],
                "users": [user],
            }
        )
    )
    return path


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)], env=environment)


@pytest.mark.parametrize("arguments", [(), ("--tls-cert", "a"), ("--tls-key", "a")])
def test_certificate_is_needed(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "give --ca-secret, or --tls-cert and --tls-key, or --self-signed-dir" in result.output


@pytest.mark.parametrize(
    "other", [("--tls-cert", "a", "--tls-key", "b"), ("--tls-ca", "a"), ("--ca-secret", "a/b")]
)
def test_two_sources_of_a_certificate_are_one_too_many(tmp_path: Path, other: tuple[str, ...]) -> None:
    result = run(*other, "--self-signed-dir", tmp_path)
    assert result.exit_code == 2
    assert "exclude each other" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ca-secret", "postwarden-ca"), "--ca-secret 'postwarden-ca': write NAMESPACE/NAME"),
        (("--ca-secret", "a/b", "--ca-notice", "7d"), "--ca-notice '7d' is no duration"),
        (("--ca-secret", "a/b", "--ca-lifetime", "168h"), "six times as long as its successor is published"),
        (("--ca-secret", "a/b", "--server-lifetime", "8760h"), "at most a sixth as long as its CA"),
    ],
)
def test_ca_that_can_not_work_is_refused_with_what_would(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    assert run("--self-signed-dir", tmp_path, KUBECONFIG=str(tmp_path / "absent")).exit_code == 2
    (tmp_path / "empty.crt").write_text("")
    files = ("--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key")
    result = run(*files, "--tls-ca", tmp_path / "empty.crt")
    assert result.exit_code == 2
    assert f"{tmp_path / 'empty.crt'} holds no certificates in PEM" in result.output


def test_certificate_that_is_not_there_is_named_also_from_the_environment(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.crt")
    result = run(POSTWARDEN_TLS_CERT=absent, POSTWARDEN_TLS_KEY=absent)
    assert result.exit_code == 2
    assert result.output == f"postwarden-operator run: can't read {absent}: No such file or directory\n"


def test_self_signed_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--self-signed-dir", tmp_path / "file" / "tls")
    assert result.exit_code == 2
    assert "--self-signed-dir" in result.output
    assert "Not a directory" in result.output


def test_missing_cluster_is_told(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    result = run("--self-signed-dir", tmp_path, KUBECONFIG=absent, HOME=str(tmp_path))
    assert result.exit_code == 2
    assert f"not in a pod, and no usable kubeconfig in {absent}" in result.output


def test_address_in_use_is_told(tmp_path: Path, kubeconfig: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("--self-signed-dir", tmp_path, "--listen", address, KUBECONFIG=str(kubeconfig))
    assert result.exit_code == 2
    assert f"can't listen on {address}" in result.output


@pytest.mark.parametrize("address", ["8080", "http://0.0.0.0:8080/healthz", ":8080"])
def test_address_for_probes_that_is_none_is_told(tmp_path: Path, address: str) -> None:
    result = run("--self-signed-dir", tmp_path, "--health", address)
    assert result.exit_code == 2
    assert f"--health {address}: give HOST:PORT" in result.output


def test_help_shows_examples_and_variables() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "postwarden-operator run --tls-cert /tls/tls.crt" in result.output
    assert "POSTWARDEN_LISTEN" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--peers", "operators:8443"), "--peers needs --lease"),
        (("--lease", "operator"), "--lease operator: give NAMESPACE/NAME"),
        (("--lease", "a/b/c"), "--lease a/b/c: give NAMESPACE/NAME"),
        (("--lease", "a/b", "--peers", "operators:8443"), "--peers needs --peers-token"),
        (
            ("--lease", "a/b", "--peers", "operators:8443", "--peers-token", "absent"),
            "there is no file absent",
        ),
        (
            ("--lease", "a/b", "--peers", "operators", "--peers-token", "{}"),
            "--peers operators: give HOST:PORT",
        ),
        (("--lease", "a/b", "--lease-duration", "1"), "--lease-duration"),
    ],
)
def test_settings_of_replicas_that_can_not_be_used_are_named(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    result = run("--self-signed-dir", tmp_path, *(each.format(token) for each in arguments))
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--webhook", ":"), "--webhook needs --sidecar-image and --sidecar-control"),
        (("--webhook", ":", *SIDECAR), "--webhook :: give HOST:PORT"),
        (("--webhook", "127.0.0.1:9443", *SIDECAR[:3], "here"), "--sidecar-control here: give HOST:PORT"),
        (("--webhook-configuration", "postwarden"), "--webhook-configuration is of no use without --webhook"),
        (("--webhook", "127.0.0.1:9443", *SIDECAR, "--sidecar-resources", "{"), "is no JSON"),
        (
            ("--webhook", "127.0.0.1:9443", *SIDECAR, "--sidecar-resources", '{"cpu": "1"}'),
            "give an object with requests and limits",
        ),
        (("--sidecar-pull-policy", "Sometimes"), "'Sometimes' is not one of"),
    ],
)
def test_injection_that_cannot_be_had_is_told(
    arguments: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    result = run("--self-signed-dir", tmp_path, *arguments)
    assert result.exit_code == 2
    assert problem in result.output


def test_webhook_needs_a_ca_to_tell_sidecars_of(tmp_path: Path) -> None:
    run("--self-signed-dir", tmp_path, "--webhook-configuration", "makes-the-files-and-fails")
    files = ("--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key")
    result = run(*files, "--webhook", "127.0.0.1:9443", *SIDECAR)
    assert result.exit_code == 2
    assert "give --tls-ca" in result.output
