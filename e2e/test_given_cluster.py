"""A cluster that the developer has: what is done with it beside kubectl, for its own tests run in it."""

import json
import os
from pathlib import Path

import pytest
from harness.given_cluster import VARIABLE, GivenCluster, given_kubeconfig
from harness.images import Image
from harness.toolchain import kubernetes_tools

KIND = """#!/bin/sh
echo "$@" >> {said}
{then}
"""


def cluster(folder: Path, context: str) -> GivenCluster:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    return GivenCluster(kubeconfig, kubernetes_tools().kubectl)


def put_kind_on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> Path:
    """In the place of kind, which needs Docker: what it is asked is written down."""
    said, program = folder / "said", folder / "bin/kind"
    program.parent.mkdir()
    program.write_text(KIND.format(said=said, then=then))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    said.touch()
    return said


def image(folder: Path) -> Image:
    return Image("localhost/postwarden-sidecar:test", folder / "sidecar.tar", "key")


def test_kinds_nodes_are_given_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = put_kind_on_the_path(tmp_path, monkeypatch)
    cluster(tmp_path, "kind-mail").load_image(image(tmp_path))
    assert said.read_text() == f"load image-archive {tmp_path}/sidecar.tar --name mail\n"


def test_another_clusters_nodes_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = put_kind_on_the_path(tmp_path, monkeypatch)
    cluster(tmp_path, "admin@mail").load_image(image(tmp_path))
    assert said.read_text() == ""


def test_what_kind_says_of_its_failure_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_kind_on_the_path(tmp_path, monkeypatch, 'echo "no nodes found for cluster" >&2; exit 1')
    with pytest.raises(pytest.fail.Exception, match="no nodes found for cluster"):
        cluster(tmp_path, "kind-mail").load_image(image(tmp_path))


def test_a_kind_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.fail.Exception, match="context kind-mail is kind's, and `kind` is not in PATH"):
        cluster(tmp_path, "kind-mail").load_image(image(tmp_path))


def test_a_kubeconfig_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/kubeconfig")
    with pytest.raises(pytest.fail.Exception, match="/nowhere/kubeconfig: there is no such file"):
        given_kubeconfig()
