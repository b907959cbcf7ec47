"""The chart, as Helm renders it: built from the module e2e/tools/helm, or helm3.

Contract: `rendered` gives the chart's text for some values, `documents` its objects; HelmRefused holds Helm's words. Nothing is
fetched, and nothing of the user's Helm is read or written.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from harness.cluster_tools import helm

CHART = Path(__file__).resolve().parents[2] / "charts" / "postwarden"

RELEASE, RELEASE_NAMESPACE = "postwarden", "postwarden-system"

HELM_TIMEOUT = 130.0
"""Seconds for one command; an ordinary one takes 0.1 to 2 s."""


class HelmRefused(Exception):
    """The text is what Helm wrote."""


def run_helm(
    *arguments: str | Path,
    kubeconfig: Path | None = None,
    stdin: str = "",
    program: Callable[[], Path] = helm,
) -> str:
    """Its stdout. program: `helm` or `helm3`. Raises HelmRefused."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home}
        environment["KUBECONFIG"] = str(kubeconfig or Path(home) / "none")
        done = subprocess.run(
            [program(), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=HELM_TIMEOUT,
            env=environment,
        )
    if done.returncode != 0:
        raise HelmRefused(f"{done.stdout}{done.stderr}")
    return done.stdout


def rendered(values: str = "", *options: str, program: Callable[[], Path] = helm) -> str:
    """What `helm template` gives for values in YAML. Raises HelmRefused."""
    where = ("--namespace", RELEASE_NAMESPACE, "--values", "-")
    return run_helm("template", RELEASE, CHART, *where, *options, stdin=values or "{}", program=program)


def documents(text: str) -> list[dict[str, Any]]:
    """All objects of a YAML text; empty documents are left out."""
    return [each for each in YAML(typ="safe").load_all(text) if each]


@cache
def operator_rights() -> str:
    """The roles and bindings of the operator's ServiceAccount, as YAML. Raises HelmRefused."""
    return rendered("", "--show-only", "templates/rbac.yaml")
