"""Goldens of injection: a file has the pod as its user wrote it and, behind `---`, what becomes of it: `pod` and `warnings`, or `refused`.

`python tests/inject/golden.py` writes the second part of every file anew, from what the code does now. Read the difference.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postwarden_operator.inject import InjectionSettings, Refusal, inject
from ruamel.yaml import YAML

FOLDER = Path(__file__).with_name("goldens")

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

SETTINGS = InjectionSettings(
    image="postwarden/sidecar:1.2.3",
    control="postwarden.postwarden-system.svc:8443",
    ca_pem=CA,
    pull_policy="IfNotPresent",
    resources={"requests": {"cpu": "50m", "memory": "96Mi"}},
)


@dataclass(frozen=True, slots=True)
class Golden:
    name: str
    pod: dict[str, Any]
    wanted: dict[str, Any]


def goldens() -> list[Golden]:
    read = YAML(typ="safe")
    return [Golden(file.stem, *list(read.load_all(file))[:2]) for file in sorted(FOLDER.glob("*.yaml"))]


def outcome(pod: dict[str, Any]) -> dict[str, Any]:
    """As the second part of a golden."""
    result = inject(pod, "mail", SETTINGS)
    if isinstance(result, Refusal):
        return {"refused": result.message}
    return {"pod": result.pod, **({"warnings": list(result.warnings)} if result.warnings else {})}


def _rewrite(file: Path) -> None:
    pod = file.read_text().split("\n---\n")[0].rstrip("\n")
    writer, text = YAML(), io.StringIO()
    writer.width, writer.default_flow_style = 4096, None
    writer.representer.ignore_aliases = lambda data: True
    writer.dump(outcome(YAML(typ="safe").load(pod)), text)
    file.write_text(f"{pod}\n---\n{text.getvalue()}")


if __name__ == "__main__":
    for each in FOLDER.glob("*.yaml"):
        _rewrite(each)
