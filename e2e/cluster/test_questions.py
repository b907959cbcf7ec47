"""`kubectl postwarden tail|explain|diff` against pods of a real cluster: kubelet forwards the ports."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.cluster_client import wait_for
from harness.one_node.fixtures import RealCluster
from harness.polling import poll

BIN = Path(sys.executable).parent
SIDECAR_IMAGE = "localhost/postwarden-sidecar:test"
ANSWER = 30.0
"""Seconds for one command; 2 are usual."""

READY = 60.0
"""Seconds until pods run; 3 are usual."""


def pod(name: str, container: str = "postwarden-sidecar", *arguments: str) -> dict[str, Any]:
    """A sidecar without an operator; or, under another name, a pod that does nothing."""
    ours = container == "postwarden-sidecar"
    spec: dict[str, Any] = {"name": container, "image": SIDECAR_IMAGE}
    if ours:
        flags = ("--listen=:10025", "--upstream=127.0.0.1:25", "--handoff=plain", *arguments)
        spec |= {"args": ["run", *flags]}
    else:
        spec |= {"command": ["sleep", "infinity"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "postfix" if ours else "web"}},
        "spec": {
            "containers": [spec | {"imagePullPolicy": "IfNotPresent"}],
            "terminationGracePeriodSeconds": 1,
        },
    }


class Namespace:
    """Of the tests alone, with its pods."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.name = f"questions-{secrets.token_hex(2)}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin)

    def run(self, *pods: dict[str, Any]) -> None:
        """Until they are running."""
        for each in pods:
            self.kubectl("create", "--filename=-", stdin=json.dumps(each))
        for each in pods:
            name = each["metadata"]["name"]
            self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={READY:.0f}s")

    def visit(self, name: str) -> None:
        """A client connects to the pod's sidecar, and hears something."""
        client = "import socket; print(socket.create_connection(('127.0.0.1', 10025), 10).recv(100))"
        assert self.kubectl("exec", name, "--", "python3", "-c", client).strip() != "b''"

    def command(self, *arguments: str) -> list[str]:
        """kubectl finds the plugin on the PATH."""
        return [
            str(self.cluster._kubectl_binary),
            "postwarden",
            arguments[0],
            f"--namespace={self.name}",
            *arguments[1:],
        ]

    def environment(self, user: Path | None = None) -> dict[str, str]:
        path = f"{BIN}:{os.environ['PATH']}"
        return os.environ | {"PATH": path, "KUBECONFIG": str(user or self.cluster.kubeconfig)}

    def ask(self, *arguments: str, user: Path | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=ANSWER,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def tail(self, folder: Path, *arguments: str) -> Iterator["Tail"]:
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                self.command("tail", *arguments), env=self.environment(), stdout=out, stderr=err
            )
        try:
            yield Tail(process, folder)
        finally:
            process.kill()
            process.wait()


class Tail:
    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def wait_for_note(self, sentence: str, times: int = 1) -> None:
        def found() -> bool:
            return (self.folder / "err").read_text().count(sentence) >= times

        poll(found, ANSWER, lambda: f"no {sentence!r} in {(self.folder / 'err').read_text()!r}")

    def wait_for_verdict(self, name: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            lines = (self.folder / "out").read_text().splitlines()
            return next((line for line in map(json.loads, lines) if line["k8s.pod.name"] == name), None)

        return poll(found, ANSWER, lambda: f"no verdict of {name}: {(self.folder / 'err').read_text()!r}")


@pytest.fixture(scope="module")
def pods(installed: RealCluster) -> Iterator[Namespace]:
    """installed: for its CRD, and rights."""
    namespace = Namespace(installed)
    installed.kubectl("create", "namespace", namespace.name)
    wait_for(
        lambda: "default" in namespace.kubectl("get", "serviceaccounts", "--output=name"), what="its account"
    )
    admin = "--admin=127.0.0.1:10028"
    namespace.run(
        pod("mta-0", "postwarden-sidecar", admin),
        pod("old-0"),
        pod("web-0", "nginx"),
    )
    yield namespace
    installed.kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_tail_joins_pods_that_come_and_lets_go_those_that_go(pods: Namespace, tmp_path: Path) -> None:
    with pods.tail(tmp_path, "-l", "app=postfix") as tail:
        tail.wait_for_note("mta-0: following")
        tail.wait_for_note("old-0: pod old-0 has no admin endpoint on port 10028")
        pods.visit("mta-0")
        assert tail.wait_for_verdict("mta-0")["postwarden.verdict"] == "deferred"  # there is no MTA
        pods.run(pod("mta-1", "postwarden-sidecar", "--admin=127.0.0.1:10028"))
        tail.wait_for_note("mta-1: following")
        pods.visit("mta-1")
        tail.wait_for_verdict("mta-1")
        pods.kubectl("delete", "pod", "mta-1", "--now")
        tail.wait_for_note("mta-1: it is gone")
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(10) == 130


def test_tail_of_a_container_that_is_started_again_goes_on(pods: Namespace, tmp_path: Path) -> None:
    pods.run(pod("mta-2", "postwarden-sidecar", "--admin=127.0.0.1:10028"))
    with pods.tail(tmp_path, "mta-2") as tail:
        tail.wait_for_note("mta-2: following")
        pods.kubectl("exec", "mta-2", "--", "python3", "-c", "import os; os.kill(1, 15)")
        tail.wait_for_note("mta-2: the sidecar ended the connection")
        tail.wait_for_note("following", 2)
        pods.visit("mta-2")
        tail.wait_for_verdict("mta-2")


def test_explain_and_diff_ask_the_sidecar(pods: Namespace) -> None:
    code, out, err = pods.ask("explain", "192.0.2.1", "mta-0")
    assert (code, err) == (0, "")
    assert json.loads(out)["steps"] == ["no policy is in force: every client is handed to the MTA"]
    code, out, err = pods.ask("diff", "mta-0")
    assert (code, err) == (1, "")
    assert json.loads(out)["notes"] == ["the sidecar has no connection to the operator"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody", "there is no pod nobody in namespace "),
        ("web-0", "pod web-0 has no Postwarden sidecar"),
        (
            "old-0",
            "pod old-0 has no admin endpoint on port 10028: its sidecar is older than the endpoint, or ",
        ),
    ],
)
def test_a_pod_that_can_not_be_asked_is_one_sentence(pods: Namespace, name: str, said: str) -> None:
    for arguments in (("tail", name), ("explain", "192.0.2.1", name)):
        code, out, err = pods.ask(*arguments)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1


def test_who_may_see_pods_and_not_forward_their_ports_is_told_the_rights(pods: Namespace) -> None:
    pods.kubectl("create", "serviceaccount", "reader")
    pods.kubectl(
        "create", "rolebinding", "reader", "--clusterrole=view", f"--serviceaccount={pods.name}:reader"
    )
    reader = pods.cluster.kubeconfig_for("reader", pods.name)
    code, _, err = pods.ask("tail", "mta-0", user=reader)
    assert code == 2
    assert "you may not forward ports of pods in namespace" in err
    assert len(err.splitlines()) == 1
